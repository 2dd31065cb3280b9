"""scale: one process and two train under mlx.launch and share a step equally; an error is one line."""

import contextlib
from dataclasses import replace

import pytest

from gatsby_mlx.bench import launched, scale, suites
from gatsby_mlx.bench.work import Settings, TrainWork
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.errors import BenchError, UsageError

SHAPE = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=64)
JOB = TrainWork(SHAPE, 2, 64)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Do without g++: a first compilation takes half a minute."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


@pytest.mark.parametrize(("batch", "workers", "n_micro"), [(4, 1, 2), (4, 2, 2), (4, 8, 4), (6, 4, 2), (32, 8, 8)])
def test_step_is_split_into_equal_work_for_two_processes(batch, workers, n_micro):
    recipe = launched.recipe(replace(JOB, batch=batch, dtype="bfloat16"), workers)
    assert recipe.batch_chars == batch * 64 == n_micro * recipe.micro_chars
    assert recipe.dtype == "bfloat16"


def test_odd_batch_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="cannot share 3 sequences") as error:
        scale.check_shared([replace(JOB, batch=3)])
    assert error.value.hint == "Try --batch 4"


def test_launch_that_trains_nothing_is_one_line_with_its_output(tmp_path):
    # The sequences are longer than the corpus: the process ends with an error, and mlx.launch with code 0.
    broken = replace(JOB, model=replace(SHAPE, block_size=10**7), context=10**7)
    with pytest.raises(BenchError, match=r"mlx.launch -n 1 trained nothing: \w+") as error:
        scale.launch(1, broken, 0.1, "cpu", tmp_path)
    assert "Try it directly" in error.value.hint and "\n" not in error.value.line()


@pytest.mark.slow
def test_one_and_two_processes_are_measured_alternately():
    status = []
    with contextlib.ExitStack() as stack:
        settings = Settings(pairs=1, round_s=0.05, device="cpu", against="none")
        bench = stack.enter_context(suites.open_bench(settings, SHAPE, status.append))
        one, two = scale.processes(bench, [JOB])
    assert [r["processes"] for r in (one, two)] == [1, 2] and one["workers"] >= two["workers"] >= 1
    assert one["suite"] == two["suite"] == "scale" and one["mlx"]["n"] == two["mlx"]["n"] == 1
    assert one["beside"] is None and two["beside"]["of"] == "1 process"
    assert two["beside"]["median"] == pytest.approx(two["mlx"]["median"] / one["mlx"]["median"])
    assert [line.split(", ")[-1] for line in status if "pair" in line] == ["1 process", "2 processes"]
