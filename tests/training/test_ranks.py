"""ranks: the curve does not depend on how many processes train, a dead one ends the run, and resuming may change N."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatsby_mlx.errors import TrainingError
from gatsby_mlx.training.ranks import Ranks

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
from gatsby_mlx.cli import run, train

class Stop:  # in the place of Ctrl-C, at a step that does not depend on the machine's speed
    asked = 0
    def __bool__(self):
        self.asked += 1
        return self.asked > int(os.environ.get("STOP_AFTER", 10**9))

train.interrupts = lambda: contextlib.nullcontext(Stop())
sys.argv[0] = "gatsby"
run()
"""


def launch(n: int, folder: Path, *options: str, **variables: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    port = str(20_000 + os.getpid() % 20_000)
    launcher = str(Path(sys.executable).with_name("mlx.launch"))
    started = [launcher, "-n", str(n), "--backend", "ring", "-p", port]
    command = [*started, "--python", sys.executable, str(program), "train", "--preset", "pocket", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=500)
    return out


def losses(run: Path) -> list[tuple[str, int, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["event"], row["step"], row["loss"]) for row in rows]


def test_one_process_needs_no_others(monkeypatch):
    for name in ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks()
    assert (ranks.rank, ranks.size, ranks.local, ranks.first) == (0, 1, 1, True)
    assert ranks.share([1, 2, 3]) == [1, 2, 3]
    assert ranks.told({"a": 1.5}) == {"a": 1.5} and ranks.any(True) and not ranks.any(False)


def test_every_micro_batch_has_one_process():
    ranks = Ranks()
    ranks.size, shares = 3, []
    for ranks.rank in range(3):
        shares += ranks.share(list(range(8)))
    assert sorted(shares) == list(range(8))
    with pytest.raises(TrainingError, match="2 micro-batches, too few for 3"):
        ranks.share([1, 2])


def test_hosts_that_do_not_answer_are_one_line(monkeypatch, tmp_path):
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([["127.0.0.1:1"], ["127.0.0.1:2"]]))
    monkeypatch.setenv("MLX_RANK", "7")
    monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    with pytest.raises(TrainingError, match="do not find one another"):
        Ranks()


def test_the_curve_does_not_depend_on_the_number_of_processes(tmp_path):
    curves = []
    for n in (1, 2):
        out = finish(launch(n, tmp_path, "--out", f"run{n}"))
        assert (tmp_path / f"run{n}/metrics.jsonl").exists(), out
        assert out.count("stories to learn") == 1, out  # one of them speaks
        curves.append(losses(tmp_path / f"run{n}"))
    assert [row[:2] for row in curves[0]] == [row[:2] for row in curves[1]]
    assert len(curves[0]) > 7
    assert [row[2] for row in curves[0]] == pytest.approx([row[2] for row in curves[1]], rel=2e-4)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    finish(launch(1, tmp_path, "--out", "whole"))
    out = finish(launch(2, tmp_path, "--out", "parts", STOP_AFTER="3"))
    assert [row[1] for row in losses(tmp_path / "parts") if row[0] == "train"] == [1, 2, 3], out
    out = finish(launch(1, tmp_path, "--out", "parts", "--resume"))
    ours, whole = losses(tmp_path / "parts"), losses(tmp_path / "whole")
    assert [row[:2] for row in ours] == [row[:2] for row in whole], out
    assert [row[2] for row in ours] == pytest.approx([row[2] for row in whole], rel=1e-3)


def wait_for_steps(run: Path) -> None:
    while not (run / "metrics.jsonl").exists() or len(losses(run)) < 3:
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_a_dead_process_is_told_of_by_the_one_that_is_left(dead, tmp_path):
    """Without mlx.launch, which would end it: as where the ring breaks between two machines."""
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
    left = both[1 - dead]
    lines = [line for line in finish(left).splitlines() if line.startswith("gatsby: ")]
    assert left.returncode == 1 and len(lines) == 1
    assert "Another process of this run is gone" in lines[0] and "--resume" in lines[0]


@pytest.mark.slow
def test_a_dead_process_ends_the_run_and_leaves_the_checkpoint_sound(tmp_path):
    from gatsby_mlx.model import checkpoint

    running = launch(2, tmp_path, "--out", "run", "--max-chars", "3000000")
    wait_for_steps(tmp_path / "run")
    tasks = Path(f"/proc/{running.pid}/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    os.kill(int(children[-1]), signal.SIGKILL)
    out = finish(running)
    assert "exited with code -9" in out, out  # mlx.launch ends the others and says why; its own code is 0
    assert "told to end" in out and "--resume" in out, out
    assert checkpoint.load(tmp_path / "run/last").info["preset"] == "pocket"
