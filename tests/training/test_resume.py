"""Resuming: a run that is killed again and again ends bit-identical to an unbroken one; another run is refused."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import platforms
import pytest
from safetensors.numpy import load_file
from test_loop import RECIPE, SHAPE, corpus, run_in

from gatsby_mlx.config import TrainConfig
from gatsby_mlx.errors import CheckpointError, OutputError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import check_out, read_metrics

ROOT = Path(__file__).resolve().parents[2]
STORY = "replace(RECIPE, eval_every_chars=1_500, dial_topics=1)"  # Muon, dropout, two micro-batches a step, a dial
WINDOW = "replace(BASELINE, eval_every_chars=2_000, batch_chars=1_536)"  # AdamW, dropout, three

PROGRAM = """
import os, signal, sys
import gatsby_mlx.model
sys.path += ["tests", "tests/training"]
from test_loop import *
from gatsby_mlx import files

out, moment, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def dying(function, before):
    calls = []
    def wrapped(*args):
        calls.append(args)
        last = len(calls) == n
        if last and before:
            die()
        result = function(*args)
        if last:
            die()
        return result
    return wrapped

if moment == "arrays":  # the weights are written and the optimizer state is not
    checkpoint.save_arrays = dying(checkpoint.save_arrays, False)
elif moment == "unpublished":  # all is written, and the old folder is still in use
    files.publish_folder = dying(files.publish_folder, True)
elif moment == "published":
    files.publish_folder = dying(files.publish_folder, False)
elif moment == "swapped":  # the names are swapped, and the old folder is still there
    files._swap_in = dying(files._swap_in, False)

resumed = (out / "last").exists()
check_out(out, resumed)
run = Run(corpus(), SHAPE, RECIPE_OF_RUN, out, "tiny")
if resumed:
    run.resume()
print("started", run.progress.step, flush=True)
for i, event in enumerate(run.events(), 1):
    print(i, flush=True)
    if moment == "event" and i == n:
        die()
"""


def start(recipe: str, out: Path, moment: str = "", n: int = 0) -> subprocess.Popen:
    program = PROGRAM.replace("RECIPE_OF_RUN", recipe)
    command = [sys.executable, "-c", program, str(out), moment, str(n)]
    env = {k: v for k, v in os.environ.items() if k != "MLX_DISABLE_COMPILE"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)


def bits(out: Path) -> dict:
    """Return what must be equal in two runs: weights, optimizer, progress and metrics, without the times."""

    def timeless(values: dict) -> dict:
        return {k: v for k, v in values.items() if k not in ("seconds", "chars_per_s", "seconds_left")}

    best = sorted(path.name for path in out.glob("best-*"))
    arrays = ["last/model", "last/optimizer", *(f"{name}/model" for name in best)]
    state = json.loads((out / "last" / "state.json").read_text())
    return {
        **{
            name: {k: (v.dtype, v.tobytes()) for k, v in load_file(out / f"{name}.safetensors").items()}
            for name in arrays
        },
        "state": (state["run"], timeless(state["progress"])),
        "metrics": [timeless(event) for event in read_metrics(out / "metrics.jsonl")],
        "config": [(out / name / "config.json").read_text() for name in ["last", *best]],
    }


@pytest.mark.parametrize(
    ("recipe", "kills"),
    [
        (STORY, [("published", 1), ("event", 2), ("event", 7), ("arrays", 2), ("unpublished", 2), ("swapped", 1)]),
        pytest.param(WINDOW, [("event", 3), ("published", 1)], marks=pytest.mark.slow),
    ],
    ids=["story", "window"],
)
def test_run_killed_again_and_again_equals_an_unbroken_one(tmp_path, recipe, kills):
    for moment, n in kills:
        killed = start(recipe, tmp_path / "killed", moment, n)
        _, err = killed.communicate(timeout=300)
        assert killed.returncode == -9, (moment, err)
    killed = start(recipe, tmp_path / "killed")
    assert killed.stdout.readline().split()[0] == "started"
    assert killed.stdout.readline()
    killed.kill()  # and once from outside, at any moment
    killed.communicate(timeout=300)
    for folder in ("killed", "unbroken"):
        out, err = (last := start(recipe, tmp_path / folder)).communicate(timeout=300)
        assert last.returncode == 0, err
        if folder == "unbroken":
            assert out.startswith("started 0")
    killed, unbroken = bits(tmp_path / "killed"), bits(tmp_path / "unbroken")
    for name, value in unbroken.items():
        assert killed[name] == value, name
    best = ["best-dial", "best-loss"] if "dial" in recipe else ["best-loss"]
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == [*best, "last", "metrics.jsonl"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run folder that stopped after two steps."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    seen = []
    with platforms.on_the_cpu():
        for event in run_in(out).events(lambda: len(seen) >= 2):
            seen.append(event)
    return out


def refused(run: Run, *words: str) -> None:
    """Check that `run` cannot resume, with `words` in the message, and that its files do not change."""
    before = {p.name: p.read_bytes() for p in (run.out / "last").iterdir()}
    with pytest.raises(CheckpointError) as caught:
        run.resume()
    line = caught.value.line()
    assert "\n" not in line and all(word in line for word in words), line
    assert {p.name: p.read_bytes() for p in (run.out / "last").iterdir()} == before


def test_resume_names_what_differs_in_another_run(stopped):
    refused(Run(corpus("another"), SHAPE, RECIPE, stopped), "another corpus", "began with")
    refused(run_in(stopped, replace(RECIPE, lr=0.02, max_chars=10_000)), "another lr, max_chars")
    refused(run_in(stopped, TrainConfig()), "batch_chars", "eval_every_chars")
    refused(run_in(stopped, dropout=0.2), "another dropout")


def test_resume_needs_the_same_start(stopped, tmp_path):
    start = checkpoint.load(stopped / "last")

    def run_from(start: checkpoint.Checkpoint | None) -> Run:
        return Run(corpus(), SHAPE, RECIPE, tmp_path / "run", "tiny", start=start)

    seen = []
    list(run_from(start).events(lambda: len(seen) >= 1 or seen.append(1)))
    refused(run_from(None), "another start")
    again = run_from(start)
    again.resume()
    assert again.progress.step == 1


@platforms.low_precision
def test_resume_is_exact_in_low_precision(tmp_path):
    recipe = replace(RECIPE, dtype="bfloat16", eval_every_chars=2_000)
    list(run_in(tmp_path / "unbroken", recipe).events())
    for stop in (2, 3, 99):  # steps and evaluations in each part
        run, seen = run_in(tmp_path / "resumed", recipe), []
        if stop > 2:
            run.resume()
        for event in run.events(lambda seen=seen, stop=stop: len(seen) >= stop):
            seen.append(event)
    assert bits(tmp_path / "resumed") == bits(tmp_path / "unbroken")
    refused(run_in(tmp_path / "resumed", replace(recipe, dtype="float32")), "another dtype")


def test_resume_of_a_run_without_dtype_uses_float32(stopped):
    path = stopped / "last" / "state.json"
    sound = path.read_text()
    state = json.loads(sound)
    assert state["run"].pop("dtype") == "float32"
    path.write_text(json.dumps(state))
    refused(run_in(stopped, replace(RECIPE, dtype="float16")), "another dtype")
    run = run_in(stopped)
    run.resume()
    assert run.progress.step == 2
    path.write_text(sound)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": 5, "progress": {}}', '{"run": {}, "progress": {"x": 1}}'])
def test_resume_refuses_a_damaged_state(stopped, content):
    path = stopped / "last" / "state.json"
    sound = path.read_text()
    path.write_text(content)
    refused(run_in(stopped), "state.json")
    path.write_text(sound)


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors", "model.safetensors"])
def test_resume_refuses_an_incomplete_checkpoint(stopped, name):
    path = stopped / "last" / name
    sound = path.read_bytes()
    path.unlink()
    refused(run_in(stopped), "incomplete", name)
    path.write_bytes(sound[: len(sound) // 2])
    refused(run_in(stopped), "damaged", name)
    path.write_bytes(sound)
    run = run_in(stopped)
    run.resume()
    assert run.progress.step == 2


def test_resume_finds_a_displaced_checkpoint(stopped):
    """A crash between the two renames, when the file system cannot swap names, leaves `last` under another name."""
    (stopped / "last").rename(stopped / ".last.old")
    check_out(stopped, resume=True)
    run = run_in(stopped)
    run.resume()
    assert run.progress.step == 2


def test_resume_drops_metrics_after_the_checkpoint(stopped):
    path = stopped / "metrics.jsonl"
    sound = path.read_text()
    path.write_text(sound + '{"step": 3, "event": "train"}\nnull\n{"step": 4, "eve')
    run = run_in(stopped)
    run.resume()
    assert list(run.events(lambda: True)) == []
    assert path.read_text() == sound


def test_second_process_is_refused_while_the_first_trains(stopped, tmp_path):
    first = start(STORY, tmp_path / "run")
    assert first.stdout.readline().split()[0] == "started"
    assert first.stdout.readline()  # it trains
    first.send_signal(signal.SIGSTOP)
    before = bits(tmp_path / "run")
    _, err = (second := start(STORY, tmp_path / "run")).communicate(timeout=300)
    assert second.returncode == 1
    assert f"Another gatsby is training into {tmp_path / 'run'}" in err
    assert bits(tmp_path / "run") == before
    (saving := tmp_path / "run" / ".last.new").mkdir()  # as if it were saving: the second must not repair this
    for step in (lambda: check_out(tmp_path / "run", resume=True), run_in(tmp_path / "run").resume):
        with pytest.raises(OutputError, match="Another gatsby is training"):
            step()
    assert saving.exists()
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    run = run_in(stopped)  # a run that has stopped has unlocked its folder
    run.resume()
    assert len(list(run.events())) > 0
