"""scale: one process and two really train under mlx.launch, share a step alike, and a failure is one line."""

import contextlib
from dataclasses import replace

import pytest

from gatsby_mlx.bench import ranked, scale, suites
from gatsby_mlx.bench.side import SideError
from gatsby_mlx.bench.work import Settings, TrainWork
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.errors import UsageError

SHAPE = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=64)
JOB = TrainWork(SHAPE, 2, 64)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Leave g++ out: a first compilation takes half a minute."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


@pytest.mark.parametrize(("batch", "workers", "n_micro"), [(4, 1, 2), (4, 2, 2), (4, 8, 4), (6, 4, 2), (32, 8, 8)])
def test_a_step_is_cut_so_that_two_have_the_same_work(batch, workers, n_micro):
    recipe = ranked.recipe(replace(JOB, batch=batch, dtype="bfloat16"), workers)
    assert recipe.batch_chars == batch * 64 == n_micro * recipe.micro_chars
    assert recipe.dtype == "bfloat16"


def test_an_odd_batch_is_refused_with_one_that_can_be_shared():
    with pytest.raises(UsageError, match="cannot share 3 rows") as error:
        scale.check_shared([replace(JOB, batch=3)])
    assert error.value.cure == "Try --batch 4"


def test_a_launch_that_trains_nothing_is_one_line_with_what_it_said(tmp_path):
    # Rows longer than the corpus: the process ends with an error, and mlx.launch with code 0.
    broken = replace(JOB, model=replace(SHAPE, block_size=10**7), context=10**7)
    with pytest.raises(SideError, match=r"mlx.launch -n 1 trained nothing: \w+") as error:
        scale.launch(1, broken, 0.1, "cpu", tmp_path)
    assert "by hand" in error.value.cure and "\n" not in error.value.line()


@pytest.mark.slow
def test_both_counts_are_measured_in_turn():
    told = []
    with contextlib.ExitStack() as stack:
        settings = Settings(pairs=1, turn_s=0.05, device="cpu", against="none")
        bench = stack.enter_context(suites.opened(settings, SHAPE, told.append))
        one, two = scale.processes(bench, [JOB])
    assert [r["processes"] for r in (one, two)] == [1, 2] and one["workers"] >= two["workers"] >= 1
    assert one["suite"] == two["suite"] == "scale" and one["mlx"]["n"] == two["mlx"]["n"] == 1
    assert one["beside"] is None and two["beside"]["of"] == "1 process"
    assert two["beside"]["median"] == pytest.approx(two["mlx"]["median"] / one["mlx"]["median"])
    assert [line.split(", ")[-1] for line in told if "pair" in line] == ["1 process", "2 processes"]
