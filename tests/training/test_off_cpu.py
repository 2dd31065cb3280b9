"""Training on a device that is no CPU: no sum in any order, no wait within a step, micro-batches by memory."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from off_cpu import Waits, off_cpu, operations
from test_loop import RECIPE, SHAPE, corpus, run_in, weights
from training_tools import batches_of, computed, model_of

from gatsby_mlx import api, kernels
from gatsby_mlx.config import TrainConfig, preset
from gatsby_mlx.errors import CheckpointError, TrainingError, UsageError
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training import micro, optim
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.record import Step, Validation
from gatsby_mlx.training.step import Gradients, StepFigures, TrainingStep

FREE = 64 << 30


@pytest.fixture(autouse=True)
def device(monkeypatch):
    off_cpu(monkeypatch)
    monkeypatch.setattr(micro, "gpu_memory_bytes", lambda: FREE)
    monkeypatch.setattr(micro, "memory_bytes", lambda: {"total": FREE, "available": FREE})


def pairs_of(n: int) -> list[tuple[int, Any]]:
    return list(enumerate(batches_of(n)))


def step_of(model: GPT, optimizer: str = "muon") -> TrainingStep:
    config = TrainConfig(optimizer=optimizer)
    built = optim.build(config, model)
    optim.set_learning_rate(built, 0.01, config.muon_ratio)
    return TrainingStep(model, built, Gradients(model))


# Repeatability.


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize(
    "changes",
    [{"dropout": 0.2}, {"gelu": "erf", "bias": True}, {"dropout": 0.1}],
    ids=["dropout", "biases", "bfloat16"],
)
def test_graph_of_a_step_has_no_scatter(monkeypatch, optimizer, changes):
    """A scatter that adds is atomic on a GPU, in any order; all else that a step does has one order of its sums."""
    graphs = []
    monkeypatch.setattr(kernels, "compute", lambda *trees: graphs.append(operations(*arrays_in(trees))))
    dtype = mx.bfloat16 if changes == {"dropout": 0.1} else mx.float32
    for gradient in ("product", "scatter"):
        graphs.clear()
        model = model_of(**changes)
        model.wte.gradient = gradient
        config = TrainConfig(optimizer=optimizer)
        TrainingStep(model, optim.build(config, model), Gradients(model, dtype)).begin(pairs_of(2))
        assert len(graphs) == 3  # two micro-batches and the update
        # "Scatter" alone writes and does not add: in Muon, mx.eye writes each one of its diagonal.
        found = {name for graph in graphs for name in graph if "Scatter" in name} - {"Scatter"}
        assert bool(found) == (gradient == "scatter"), found
        assert all(graph["Matmul"] > 10 for graph in graphs[:2])


def arrays_in(trees: Any) -> list[mx.array]:
    return [value for _, value in tree_flatten(list(trees)) if isinstance(value, mx.array)]


def test_both_gradients_of_the_embedding_are_the_same_within_rounding():
    model, pairs = model_of(), pairs_of(2)
    sums, product = computed(Gradients(model), pairs)
    model.wte.gradient = "scatter"
    same_sums, scatter = computed(Gradients(model), pairs)
    assert (same_sums == sums).all()
    for name, value in scatter.items():
        limit = 1e-6 * np.abs(value).max() if name == "wte.weight" else 0
        assert np.abs(product[name] - value).max() <= limit, name
    assert np.abs(product["wte.weight"][30 - 1]).max() > 0


def after(n: int) -> Callable[[], bool]:
    """Return what says stop when it has been asked `n` times before."""
    asked = itertools.count()
    return lambda: next(asked) >= n


def without_gradient(run: Run) -> None:
    """Make the state of a run one of version 0.1, which did not say how the embedding's gradient is added up."""
    path = run.out / "last" / "state.json"
    state = json.loads(path.read_text())
    assert state["run"].pop("embedding_gradient") == "scatter"
    path.write_text(json.dumps(state))


def test_runs_begun_before_keep_their_arithmetic(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "on_cpu", lambda: True)
    unbroken = run_in(tmp_path / "unbroken")
    unbroken.model.wte.gradient = "scatter"
    list(unbroken.events())
    stopped = run_in(tmp_path / "stopped")
    stopped.model.wte.gradient = "scatter"
    list(stopped.events(after(2)))
    without_gradient(stopped)
    again = run_in(tmp_path / "stopped")
    assert again.model.wte.gradient == "product"
    again.resume()
    assert again.model.wte.gradient == "scatter"
    list(again.events())
    assert json.loads((again.out / "last" / "state.json").read_text())["run"]["embedding_gradient"] == "scatter"
    assert weights(tmp_path / "stopped" / "last") == weights(tmp_path / "unbroken" / "last")
    for model, gradient in ((again.model, "scatter"), (run_in(tmp_path / "new").model, "product")):
        with Workers(model, 2) as workers:
            assert [source.model.wte.gradient for source in workers._sources] == [gradient] * 2


# Waits.


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_step_waits_for_nothing_and_its_figures_are_read_later(monkeypatch, optimizer):
    step, pairs = step_of(model_of(dropout=0.1), optimizer), pairs_of(3)
    with monkeypatch.context() as patch:
        waits = Waits(patch)
        figures = [step.begin(pairs) for _ in range(3)]
        assert (waits.reads, waits.evals, waits.queued) == ([], 0, 3 * 4)  # three micro-batches and an update each
        losses = [f.read()[0] for f in figures]
        assert len(waits.reads) == 9
    assert losses[0] == pytest.approx(math.log(30), abs=0.1) and losses[2] < losses[0]


def test_step_on_a_cpu_is_computed_when_it_has_begun(monkeypatch):
    monkeypatch.setattr(kernels, "on_cpu", lambda: True)
    step = step_of(model_of())
    with monkeypatch.context() as patch:
        waits = Waits(patch)
        step.begin(pairs_of(3))
        assert (waits.reads, waits.evals, waits.queued) == ([], 4, 0)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """What a run does, in order: it begins, reads, evaluates and saves steps."""
    calls: list[str] = []

    def noted(owner: Any, name: str, label: str) -> None:
        method = getattr(owner, name)

        def wrapper(self: Any, *args: Any) -> Any:
            calls.append(label)
            return method(self, *args)

        monkeypatch.setattr(owner, name, wrapper)

    noted(TrainingStep, "begin", "begin")
    noted(StepFigures, "read", "read")
    noted(TrainingStep, "losses", "evaluate")
    noted(Run, "_save", "save")
    return calls


@pytest.mark.parametrize("late", [True, False], ids=["gpu", "cpu"])
def test_figures_are_read_one_step_late_and_before_anything_is_saved(tmp_path, monkeypatch, calls, late):
    monkeypatch.setattr(kernels, "on_cpu", lambda: not late)
    recipe = replace(RECIPE, eval_every_chars=4_000, max_chars=8_000)
    events = list(run_in(tmp_path / "run", recipe).events())
    steps = [e for e in events if isinstance(e, Step)]
    assert [s.step for s in steps] == list(range(1, len(steps) + 1))
    assert sum(isinstance(e, Validation) for e in events) == 2
    text = " ".join(call[0] for call in calls)
    assert text.startswith("s b b r b r" if late else "s b r b r b r")
    unread = 0
    for call in calls:
        unread += {"begin": 1, "read": -1}.get(call, 0)
        assert 0 <= unread <= (2 if late else 1)
        assert not unread or call in ("begin", "read")


def test_run_that_stops_and_resumes_equals_an_unbroken_one(tmp_path):
    list(run_in(tmp_path / "unbroken").events())
    run, seen = run_in(tmp_path / "stopped"), []
    for event in run.events(lambda: len(seen) >= 2):
        seen.append(event)
    assert [event.step for event in seen] == [1, 2, 3]  # the third had begun when the second was read
    again = run_in(tmp_path / "stopped")
    again.resume()
    assert again.progress.step == 3
    list(again.events())
    assert weights(tmp_path / "stopped" / "last") == weights(tmp_path / "unbroken" / "last")


def test_loss_that_is_not_finite_stops_the_run_one_step_late(tmp_path, monkeypatch):
    read, n_read = StepFigures.read, []

    def broken(self: StepFigures) -> tuple[float, float, float]:
        n_read.append(1)
        loss, story, norm = read(self)
        return (math.nan if len(n_read) == 2 else loss), story, norm

    monkeypatch.setattr(StepFigures, "read", broken)
    run = run_in(tmp_path / "run")
    with pytest.raises(TrainingError, match="not finite at step 2, after"):
        list(run.events())
    assert run.progress.step == 3
    assert json.loads((tmp_path / "run" / "last" / "state.json").read_text())["progress"]["step"] == 0


def test_attention_without_dropout_on_its_weights_is_the_fused_one(monkeypatch):
    fused, calls = mx.fast.scaled_dot_product_attention, []

    def counted(*args: Any, **options: Any) -> mx.array:
        calls.append(options["mask"])
        return fused(*args, **options)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", counted)
    for dropout, n in ((0.0, SHAPE.n_layer + 1), (0.1, 0)):
        calls.clear()
        model = model_of(n_layer=SHAPE.n_layer + 1, dropout=dropout)
        Gradients(model).gradients(pairs_of(1))
        assert calls == ["causal"] * n
        model.eval()(mx.array(batches_of(1)[0].ids))
        assert calls == ["causal"] * (n + SHAPE.n_layer + 1)  # an evaluation has no dropout


# Micro-batches.


def test_micro_batches_are_as_large_as_memory_permits(monkeypatch):
    story, baseline = preset("story"), preset("baseline")

    def n_micro(chosen: Any, gigabytes: float, n_processes: int = 1) -> int:
        monkeypatch.setattr(micro, "memory_bytes", lambda: {"total": FREE, "available": int(gigabytes * 1e9)})
        chars = micro.micro_chars(chosen.training, chosen.model, n_processes)
        n = max(1, chosen.training.batch_chars // chars)
        assert chars <= chosen.training.batch_chars and (n == 1 or chars >= min(chosen.model.block_size, chars * n))
        return n

    assert n_micro(story, 64) == 1 and n_micro(baseline, 64) == 1
    assert n_micro(story, 4) == 2 and n_micro(baseline, 4) > n_micro(baseline, 16) > 1
    assert n_micro(story, 0.1) == 4  # none is smaller than a sequence
    assert [n_micro(story, 64, n) for n in (2, 3)] == [2, 3]
    assert n_micro(story, 4, 3) == 3 and n_micro(baseline, 16, 4) % 4 == 0
    monkeypatch.setattr(micro, "gpu_memory_bytes", lambda: int(4e9))
    assert n_micro(story, 64) == 2
    monkeypatch.setattr(kernels, "on_cpu", lambda: True)
    assert n_micro(story, 64) == 2 and story.training.micro_chars == 2_048


def test_resumed_run_keeps_its_micro_batches(tmp_path, monkeypatch):
    def plan(**options: Any) -> Run:
        return api.plan_training(corpus(), "pocket", tmp_path / "run", max_chars=2_000, **options)

    run = plan()
    assert run.config.micro_chars == run.config.batch_chars == 1_024
    list(run.events(after(1)))
    monkeypatch.setattr(kernels, "on_cpu", lambda: True)
    assert plan(resume=True).config.micro_chars == 1_024
    smaller = plan(resume=True, micro_chars=512)
    assert (run.progress.micro, smaller.progress.micro) == (1, 2) and smaller.progress.chars == run.progress.chars
    assert list(smaller.events())[-1].chars >= 2_000
    with pytest.raises(CheckpointError, match="another lr"):
        plan(resume=True, micro_chars=256, lr=0.5)
    state = Path(tmp_path, "run", "last", "state.json")
    state.write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        plan(resume=True)


def test_micro_chars_are_an_option(tmp_path):
    assert api.plan_training(corpus(), "pocket", tmp_path / "run", micro_chars=256).config.micro_chars == 256
    with pytest.raises(UsageError, match=r"A step has 1,024 characters, fewer than --micro-chars 4,096") as caught:
        api.plan_training(corpus(), "pocket", tmp_path / "other", micro_chars=4_096)
    assert "--micro-chars 1024" in caught.value.line()
