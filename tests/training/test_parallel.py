"""training.parallel: any number of workers gives one result, and a process ends cleanly, whatever happens."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import platforms
import pytest
from mlx.utils import tree_flatten
from training_tools import COMPILED_SHAPE, assert_close, batches_of, flat, gradients_of, model_of

from gatsby_mlx.device.ranks import Ranks
from gatsby_mlx.training.parallel import Ranked, Workers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Do not compile: the first compilation takes half a minute. The test that compiles says so."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


@pytest.mark.parametrize("compiled", [True, False])
def test_workers_give_one_result_for_any_number(monkeypatch, compiled):
    changes = COMPILED_SHAPE if compiled else {"gelu": "erf", "bias": True, "dropout": 0.2}
    if compiled:
        monkeypatch.delenv("MLX_DISABLE_COMPILE")
    model, batches = model_of(**changes), batches_of(5, *((128, 4) if compiled else (160, 2)))
    pairs = list(zip((5, 6, 7, 8, 9), batches, strict=True))
    sums, gradients = gradients_of(model, pairs, 1)
    for n in (2, 3):
        other_sums, other = gradients_of(model, pairs, n)
        assert other_sums == pytest.approx(sums, rel=1e-5)
        assert_close(gradients, other)
        again_sums, again = gradients_of(model, pairs, n)
        assert (again_sums == other_sums).all() and all((again[k] == v).all() for k, v in other.items())


def test_workers_may_be_more_than_batches():
    model, pairs = model_of(), [(1, batches_of(1)[0])]
    assert_close(gradients_of(model, pairs, 1)[1], gradients_of(model, pairs, 3)[1])
    with Workers(model, 3) as workers:
        three = workers.losses([pairs[0][1]])
    with Workers(model, 1) as workers:
        assert three == pytest.approx(workers.losses([pairs[0][1]]), rel=1e-6)


@platforms.low_precision
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_workers_in_low_precision_give_float32_gradients(dtype, tolerance):
    model, pairs = model_of(dropout=0.1), [(i, b) for i, b in enumerate(batches_of(3))]
    sums, exact = gradients_of(model, pairs, 2)
    with Workers(model, 2, dtype) as workers:
        low_sums, low = workers.gradients(pairs)
        assert {v.dtype for _, v in tree_flatten(low)} == {mx.float32}
        losses = workers.losses([b for _, b in pairs])
    assert np.array(low_sums) == pytest.approx(sums, rel=tolerance)
    for name, value in flat(low).items():
        assert np.linalg.norm(value - exact[name]) < 5 * tolerance * np.linalg.norm(exact[name]), name
    with Workers(model, 2) as workers:  # an evaluation is in float32, like the weights that are saved
        assert workers.losses([b for _, b in pairs]) == losses


def test_workers_leave_the_model_and_use_its_new_weights():
    model, pairs = model_of(dropout=0.1), list(enumerate(batches_of(3)))
    with Workers(model, 2) as workers:
        before = flat(model.parameters())
        first = workers.losses([b for _, b in pairs])
        workers.gradients(pairs)
        after = flat(model.parameters())
        assert all((after[k] == v).all() for k, v in before.items()) and model.training
        model.wte.weight = model.wte.weight * 5
        second = workers.losses([b for _, b in pairs])
    with Workers(model, 1) as workers:
        assert second == pytest.approx(workers.losses([b for _, b in pairs]), rel=1e-5)
    assert second[0] > 1.02 * first[0]


class HalfRank(Ranks):
    """One of two ranks that run one after the other: a sum returns this rank's part."""

    def __init__(self, rank: int):
        self.rank, self.size, self.local = rank, 2, 1

    def sum(self, tree):
        return tree


def test_ranks_share_a_step_and_evaluate_alone():
    model, pairs = model_of(dropout=0.1), list(enumerate(batches_of(5)))
    sums, gradients = gradients_of(model, pairs, 1)
    with Workers(model, 2) as workers:
        ranked = [Ranked(workers, HalfRank(rank)) for rank in (0, 1)]
        parts = [source.gradients(pairs) for source in ranked]
        losses = [source.losses([b for _, b in pairs]) for source in ranked]
    assert np.array(parts[0][0] + parts[1][0]) == pytest.approx(sums, rel=1e-5)
    a, b = (flat(g) for _, g in parts)
    assert_close(gradients, {name: a[name] + b[name] for name in a})
    assert losses[0] == losses[1]


# Ctrl-C is allowed first: a process that a shell started in the background ignores it.
PROGRAM = """
import signal, sys, threading, _thread
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path += ["tests", "tests/training"]
from training_tools import *
from gatsby_mlx import device
model, pairs = model_of(dropout=0.1), [(i, b) for i, b in enumerate(batches_of(4))]
bad = MicroBatch(pairs[0][1].ids, pairs[0][1].targets, pairs[0][1].weights, np.ones((2, 3), np.float32))
"""


def run(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}, timeout=60
    )


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        (
            "with Workers(model, 2) as w: w.gradients([pairs[0], (1, bad)])",
            1,
            "Error",  # the ValueError, or what MLX raises for the other worker's streams after it
        ),
        (
            """
def steps():
    with Workers(model, 2) as w:
        while True:
            yield w.gradients(pairs)
it = steps(); next(it); sys.exit(3)
""",
            3,
            "",
        ),
        (
            """
with Workers(model, 2) as w:
    threading.Timer(0.5, _thread.interrupt_main).start()
    while True: w.gradients(pairs)
""",
            130,
            "KeyboardInterrupt",
        ),
        (
            "w = Workers(model, 2).__enter__(); w.gradients(pairs); sys.exit(4)",
            4,
            "",
        ),
    ],
    ids=["exception", "abandoned", "interrupt", "never closed"],
)
def test_process_with_workers_ends_cleanly(body, code, error):
    """MLX aborts the process ("terminate called") if the streams of a thread are left to it."""
    ran = run(PROGRAM + body, MLX_DISABLE_COMPILE="1")
    assert "terminate called" not in ran.stderr and "Exception ignored" not in ran.stderr
    assert ran.returncode in (code, -2 if code == 130 else code), ran.stderr
    assert error in ran.stderr and (error or not ran.stderr), ran.stderr


def test_workers_that_fail_to_start_leave_no_thread(monkeypatch):
    import threading

    def fail(self):
        raise MemoryError

    before = threading.active_count()
    monkeypatch.setattr(Workers, "_start", fail)
    with pytest.raises(MemoryError), Workers(model_of(), 2):
        pass
    assert threading.active_count() == before


@pytest.mark.parametrize("how", ["disabled", pytest.param("no compiler", marks=platforms.linux_compiler)])
def test_workers_train_without_a_compiler(tmp_path, how):
    env = {"MLX_DISABLE_COMPILE": "1"}
    if how == "no compiler":
        (tmp_path / "bin").mkdir()
        for name in ("sh", "env"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
        env = {"PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path), "MLX_DISABLE_COMPILE": ""}
    body = """
assert not device.compile_works()
for n in (1, 2):
    sums, gradients = gradients_of(model, pairs, n)
    print(float(sums[0]))
"""
    ran = run(PROGRAM + body, **env)
    assert ran.returncode == 0, ran.stderr
    model, pairs = model_of(dropout=0.1), list(enumerate(batches_of(4)))
    expected = float(gradients_of(model, pairs, 1)[0][0])
    assert [float(x) for x in ran.stdout.split()] == pytest.approx([expected] * 2, rel=1e-5)
