"""workers: any number of them gives one answer, and they leave nothing behind, whatever happens."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from gatsby_mlx import device
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training.rows import MicroBatch
from gatsby_mlx.training.workers import Workers

ROOT = Path(__file__).resolve().parents[2]
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 160, "vocab_size": 30}


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Leave g++ out: a first compilation takes half a minute. What is compiled says so, and is tried once."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


def model_of(**changes) -> GPT:
    mx.random.seed(1)
    model = GPT(GPTConfig(**{**SHAPE, **changes}))
    mx.eval(model.parameters())
    return model


def batches_of(n: int, T: int = 160, B: int = 2) -> list[MicroBatch]:
    """Return micro-batches of `B` rows with padding: the second one's last third counts nothing."""
    draws = np.random.default_rng(3)
    found = []
    for _ in range(n):
        ids = draws.integers(0, 30, (B, T + 1)).astype(np.int32)
        weights = np.ones((B, T), np.float32)
        weights[1, 2 * T // 3 :] = 0
        story = weights.copy()
        story[:, :10] = 0
        found.append(MicroBatch(ids[:, :-1], ids[:, 1:], weights, story))
    return found


def flat(tree) -> dict[str, np.ndarray]:
    return {k: np.array(v) for k, v in tree_flatten(tree)}


def gradients_of(model: GPT, pairs, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with Workers(model.config, n) as workers:
        sums, gradients = workers.gradients(model.trainable_parameters(), pairs)
        return np.array(sums), flat(gradients)


def assert_close(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rel: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert np.abs(a[name] - b[name]).max() <= rel * np.abs(a[name]).max() + 1e-7, name


@pytest.mark.parametrize("compiled", [True, False])
def test_one_two_and_three_workers_give_the_same(monkeypatch, compiled):
    like_resume = {"n_layer": 1, "block_size": 256, "dropout": 0.1}  # whose kernels are compiled once for both tests
    changes = like_resume if compiled else {"gelu": "erf", "bias": True, "dropout": 0.2}
    if compiled:
        monkeypatch.delenv("MLX_DISABLE_COMPILE")
    model, pairs = (
        model_of(**changes),
        list(zip((5, 6, 7, 8, 9), batches_of(5, *((128, 4) if compiled else (160, 2))), strict=True)),
    )
    sums, gradients = gradients_of(model, pairs, 1)
    for n in (2, 3):
        other_sums, other = gradients_of(model, pairs, n)
        assert other_sums == pytest.approx(sums, rel=1e-5)
        assert_close(gradients, other)
        again_sums, again = gradients_of(model, pairs, n)
        assert (again_sums == other_sums).all() and all((again[k] == v).all() for k, v in other.items())


def test_more_workers_than_batches():
    model, pairs = model_of(), [(1, batches_of(1)[0])]
    assert_close(gradients_of(model, pairs, 1)[1], gradients_of(model, pairs, 3)[1])


def test_sums_and_gradients_are_those_of_the_whole():
    model, batches = model_of(), batches_of(3)
    sums, gradients = gradients_of(model, [(0, b) for b in batches], 2)

    def whole(parameters):
        model.update(parameters)
        total = mx.zeros(2)
        for b in batches:
            losses = nn.losses.cross_entropy(model(mx.array(b.ids)), mx.array(b.targets))
            total = total + mx.stack([(losses * mx.array(b.weights)).sum(), (losses * mx.array(b.story)).sum()])
        return total

    parameters = model.trainable_parameters()
    assert sums == pytest.approx(np.array(whole(parameters)), rel=1e-5)
    assert_close(flat(mx.grad(lambda p: whole(p)[0])(parameters)), gradients, 2e-5)
    model.update(parameters)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.03), ("float16", 0.004)])
@pytest.mark.parametrize("n", [1, 2])
def test_low_precision_gives_float32_gradients_close_to_the_exact_ones(n, dtype, tolerance):
    model, pairs = model_of(dropout=0.1), [(i, b) for i, b in enumerate(batches_of(3))]
    sums, exact = gradients_of(model, pairs, n)
    with Workers(model.config, n, dtype) as workers:
        parameters = model.trainable_parameters()
        found_sums, found = workers.gradients(parameters, pairs)
        assert (
            {v.dtype for _, v in tree_flatten(found)} == {v.dtype for _, v in tree_flatten(parameters)} == {mx.float32}
        )
        low = workers.losses(parameters, [b for _, b in pairs])
    assert np.array(found_sums) == pytest.approx(sums, rel=tolerance)
    for name, value in flat(found).items():
        assert np.linalg.norm(value - exact[name]) < 5 * tolerance * np.linalg.norm(exact[name]), name
    with Workers(model.config, n) as workers:  # an evaluation is of the weights that are saved
        assert workers.losses(parameters, [b for _, b in pairs]) == low


def test_padding_changes_nothing():
    model, (batch, *_) = model_of(), batches_of(1)
    changed = MicroBatch(batch.ids.copy(), batch.targets.copy(), batch.weights, batch.story)
    changed.ids[1, 110:], changed.targets[1, 110:] = 3, 4
    for n in (1, 2):
        first, second = (gradients_of(model, [(1, b)], n) for b in (batch, changed))
        assert (first[0] == second[0]).all()
        assert_close(first[1], second[1])


@pytest.mark.parametrize("n", [1, 2])
def test_evaluation_averages_over_targets_without_dropout(n):
    model, batches = model_of(dropout=0.5), batches_of(3)
    with Workers(model.config, n) as workers:
        before = workers.losses(model.parameters(), batches)
        workers.gradients(model.trainable_parameters(), [(1, batches[0])])
        assert workers.losses(model.parameters(), batches) == before
    model.eval()
    losses = [np.array(nn.losses.cross_entropy(model(mx.array(b.ids)), mx.array(b.targets))) for b in batches]
    for found, masks in zip(before, ([b.weights for b in batches], [b.story for b in batches]), strict=True):
        wanted = sum((a * m).sum() for a, m in zip(losses, masks, strict=True)) / sum(m.sum() for m in masks)
        assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("n", [1, 2])
def test_dropout_draws_from_each_micro_batchs_own_seed(n):
    model, (batch, *_) = model_of(dropout=0.3), batches_of(1)

    def loss(*seeds: int) -> float:
        return float(gradients_of(model, [(s, batch) for s in seeds], n)[0][0])

    assert loss(1) == loss(1) != loss(2)
    assert loss(1, 2) == pytest.approx(loss(1) + loss(2), rel=1e-6)
    assert loss(1, 1) == pytest.approx(2 * loss(1), rel=1e-6)


def test_blas_threads_are_put_back():
    def program(body: str) -> str:
        return f"""
from gatsby_mlx import device
from gatsby_mlx.device.blas import _function
import ctypes
blas = device.prepare()
core = ctypes.CDLL(blas.path)
count = _function(core, "openblas_get_num_threads") or core.MKL_Get_Max_Threads
{body}
"""

    if not device.prepare().threads and device.prepare().how != "late":
        return  # a BLAS without a number of threads: nothing to put back
    out = run(
        program(
            """
before = count()
with device.blas_threads(2):
    with device.blas_threads(1):
        assert count() == 1
    assert count() == 2
    try:
        with device.blas_threads(1):
            raise KeyError
    except KeyError:
        assert count() == 2
assert count() == before
"""
        )
    )
    assert out.returncode == 0, out.stderr


def test_pages_are_kept_on_glibc_alone():
    glibc = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
    assert device.keep_pages() == glibc
    assert 1 <= device.n_workers() <= 8


# Ctrl-C is let through first: a process that a shell put in the background ignores it.
PROGRAM = """
import signal, sys, threading, _thread
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.append("tests/training")
import gatsby_mlx.model
from test_workers import *
model, pairs = model_of(dropout=0.1), [(i, b) for i, b in enumerate(batches_of(4))]
bad = MicroBatch(pairs[0][1].ids, pairs[0][1].targets, pairs[0][1].weights, np.ones((2, 3), np.float32))
"""


def run(program: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}, timeout=60
    )


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        (
            "with Workers(model.config, 2) as w: w.gradients(model.trainable_parameters(), [pairs[0], (1, bad)])",
            1,
            "Error",  # the ValueError, or what MLX makes of the other worker's streams after it
        ),
        (
            """
def steps():
    with Workers(model.config, 2) as w:
        while True:
            yield w.gradients(model.trainable_parameters(), pairs)
it = steps(); next(it); sys.exit(3)
""",
            3,
            "",
        ),
        (
            """
with Workers(model.config, 2) as w:
    threading.Timer(0.5, _thread.interrupt_main).start()
    while True: w.gradients(model.trainable_parameters(), pairs)
""",
            130,
            "KeyboardInterrupt",
        ),
        (
            "w = Workers(model.config, 2).__enter__(); w.gradients(model.trainable_parameters(), pairs); sys.exit(4)",
            4,
            "",
        ),
    ],
    ids=["exception", "abandoned", "interrupt", "never closed"],
)
def test_a_process_ends_cleanly_whatever_happens(body, code, error):
    """MLX aborts the process ("terminate called") where a thread's streams are left to it."""
    ran = run(PROGRAM + body, MLX_DISABLE_COMPILE="1")
    assert "terminate called" not in ran.stderr and "Exception ignored" not in ran.stderr
    assert ran.returncode in (code, -2 if code == 130 else code), ran.stderr
    assert error in ran.stderr and (error or not ran.stderr), ran.stderr


@pytest.mark.parametrize("how", ["disabled", "no compiler"])
def test_without_a_compiler_it_trains_all_the_same(tmp_path, how):
    env = {"MLX_DISABLE_COMPILE": "1"}
    if how == "no compiler":
        (tmp_path / "bin").mkdir()
        for name in ("sh", "env"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
        env = {"PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path), "MLX_DISABLE_COMPILE": ""}
    body = """
assert not gatsby_mlx.model.device.compile_works()
for n in (1, 2):
    sums, gradients = gradients_of(model, pairs, n)
    print(float(sums[0]))
"""
    ran = run(PROGRAM + body, **env)
    assert ran.returncode == 0, ran.stderr
    model, pairs = model_of(dropout=0.1), list(enumerate(batches_of(4)))
    wanted = float(gradients_of(model, pairs, 1)[0][0])
    assert [float(x) for x in ran.stdout.split()] == pytest.approx([wanted] * 2, rel=1e-5)
