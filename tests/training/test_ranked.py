"""Runs with several processes: the curve does not depend on their number, and a dead process ends the run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import platforms
import pytest

ROOT = Path(__file__).resolve().parents[2]

# A tiny preset, then the command itself: what `mlx.launch -n N gatsby train` runs in each process.
PROGRAM = """
import contextlib, os, sys
from gatsby_mlx import config
from gatsby_mlx.config import GPTConfig, Preset, TrainConfig
config.PRESETS["pocket"] = Preset(
    "pocket",
    GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=256),
    TrainConfig(lr=1e-3, max_chars=14_000, warmup_chars=2_000, batch_chars=2_048, micro_chars=512,
                eval_every_chars=6_000, eval_chars=4_000),
)
from gatsby_mlx.cli import run
from gatsby_mlx.device import interrupts

class Stop:  # instead of Ctrl-C, at a step that does not depend on the speed of the machine
    asked = 0
    def __bool__(self):
        self.asked += 1
        return self.asked > int(os.environ.get("STOP_AFTER", 10**9))

interrupts.interrupts = lambda *_: contextlib.nullcontext(Stop())
sys.argv[0] = "gatsby"
run()
"""


def launch(n: int, folder: Path, *options: str, **variables: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    port = str(20_000 + os.getpid() % 20_000)
    launcher = str(Path(sys.executable).with_name("mlx.launch"))
    launch = [launcher, "-n", str(n), "--backend", "ring", "-p", port]
    command = [*launch, "--python", sys.executable, str(program), "train", "--preset", "pocket", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=500)
    return out


def losses(run: Path) -> list[tuple[str, int, float]]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(event["event"], event["step"], event["loss"]) for event in events]


@pytest.mark.slow
def test_run_has_one_curve_for_any_number_of_processes(tmp_path):
    curves = []
    for n in (1, 2):
        out = finish(launch(n, tmp_path, "--out", f"run{n}"))
        assert (tmp_path / f"run{n}/metrics.jsonl").exists(), out
        assert out.count("split by topic") == 1, out  # only the first process writes messages
        curves.append(losses(tmp_path / f"run{n}"))
    assert [event[:2] for event in curves[0]] == [event[:2] for event in curves[1]]
    assert len(curves[0]) > 7
    assert [event[2] for event in curves[0]] == pytest.approx([event[2] for event in curves[1]], rel=2e-4)


@pytest.mark.slow
def test_run_resumes_with_another_number_of_processes(tmp_path):
    finish(launch(1, tmp_path, "--out", "unbroken"))
    out = finish(launch(2, tmp_path, "--out", "resumed", STOP_AFTER="3"))
    assert [event[1] for event in losses(tmp_path / "resumed") if event[0] == "train"] == [1, 2, 3], out
    out = finish(launch(1, tmp_path, "--out", "resumed", "--resume"))
    resumed, unbroken = losses(tmp_path / "resumed"), losses(tmp_path / "unbroken")
    assert [event[:2] for event in resumed] == [event[:2] for event in unbroken], out
    assert [event[2] for event in resumed] == pytest.approx([event[2] for event in unbroken], rel=1e-3)


def wait_for_steps(run: Path) -> None:
    while not (run / "metrics.jsonl").exists() or len(losses(run)) < 3:
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_dead_process_is_reported_by_the_other_one(dead, tmp_path):
    """Without mlx.launch, which would end the other process: as when the ring between two machines breaks."""
    program, hosts = tmp_path / "program.py", tmp_path / "hosts.json"
    program.write_text(PROGRAM)
    port = 20_000 + os.getpid() % 20_000
    hosts.write_text(json.dumps([[f"127.0.0.1:{port + rank}"] for rank in (0, 1)]))
    command = [sys.executable, str(program), "train", "--preset", "pocket", "--out", "run", "--max-chars", "3000000"]
    both = []
    for rank in (0, 1):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        both.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
    wait_for_steps(tmp_path / "run")
    both[dead].kill()
    both[dead].communicate()
    other = both[1 - dead]
    lines = [line for line in finish(other).splitlines() if line.startswith("gatsby: ")]
    assert other.returncode == 1 and len(lines) == 1
    assert "Another process of this run is gone" in lines[0] and "--resume" in lines[0]


@platforms.proc
@pytest.mark.slow
def test_dead_process_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    from gatsby_mlx.model import checkpoint

    running = launch(2, tmp_path, "--out", "run", "--max-chars", "3000000")
    wait_for_steps(tmp_path / "run")
    tasks = Path(f"/proc/{running.pid}/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    os.kill(int(children[-1]), signal.SIGKILL)
    out = finish(running)
    assert "exited with code -9" in out, out  # mlx.launch ends the others and prints why; it exits with 0
    assert "mlx.launch ended process" in out and "--resume" in out, out
    assert checkpoint.load(tmp_path / "run/last").info["preset"] == "pocket"
