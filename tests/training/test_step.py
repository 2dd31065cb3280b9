"""training.step: the loss, gradients of several micro-batches, precision, clipping, and the update."""

import itertools
import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import platforms
import pytest
from mlx.utils import tree_flatten
from training_tools import COMPILED_SHAPE, assert_close, batches_of, computed, flat, gradients_of, model_of

from gatsby_mlx.config import TrainConfig
from gatsby_mlx.training import optim
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.sequences import MicroBatch
from gatsby_mlx.training.step import Gradients, TrainingStep, arrays, clip, loss_sums, mean_losses

ADAMW = TrainConfig(lr=0.01, optimizer="adamw", weight_decay=0.1)
DTYPES = [("float32", 1e-5)] + [
    pytest.param(dtype, tolerance, marks=platforms.low_precision)
    for dtype, tolerance in (("bfloat16", 0.03), ("float16", 0.004))
]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Do not compile: the first compilation takes half a minute. Tests that compile say so."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


@pytest.fixture(params=[False, True], ids=["interpreted", "compiled"])
def case(request, monkeypatch):
    """A model with dropout and five micro-batches with their seeds, with and without `mx.compile`."""
    if request.param:
        monkeypatch.delenv("MLX_DISABLE_COMPILE")
    changes, size = (COMPILED_SHAPE, (128, 4)) if request.param else ({"dropout": 0.2}, (160, 2))
    return model_of(**changes), list(zip((5, 6, 7, 8, 9), batches_of(5, *size), strict=True))


def whole_loss(model: nn.Module, batches: list[MicroBatch]) -> mx.array:
    """Return [loss, story loss] summed over `batches`, by the definition."""
    total = mx.zeros(2)
    for b in batches:
        losses = nn.losses.cross_entropy(model(mx.array(b.ids)), mx.array(b.targets))
        total = total + mx.stack([(losses * mx.array(b.weights)).sum(), (losses * mx.array(b.story)).sum()])
    return total


def test_loss_of_a_uniform_model_is_ln_v():
    model, (batch, *_) = model_of(), batches_of(1)
    model.wte.weight = mx.zeros_like(model.wte.weight)  # tied embeddings: all logits are 0
    sums = loss_sums(model, *arrays(batch))
    assert [float(s) for s in sums] == pytest.approx(
        [batch.n_targets * math.log(30), batch.n_story * math.log(30)], rel=1e-5
    )


@pytest.mark.parametrize("n", [1, 2])
def test_gradients_are_those_of_the_summed_loss(n):
    model, batches = model_of(), batches_of(3)
    sums, gradients = gradients_of(model, [(0, b) for b in batches], n)
    parameters = model.trainable_parameters()

    def total(p):
        model.update(p)
        return whole_loss(model, batches)[0]

    exact = flat(mx.grad(total)(parameters))
    model.update(parameters)
    assert sums == pytest.approx(np.array(whole_loss(model, batches)), rel=1e-5)
    assert_close(exact, gradients, 2e-5)


def test_gradients_of_one_source_equal_those_of_two_and_three_workers(case):
    model, pairs = case
    sums, gradients = computed(Gradients(model), pairs)
    for n in (2, 3):
        other_sums, other = gradients_of(model, pairs, n)
        assert other_sums == pytest.approx(sums, rel=1e-5)
        assert_close(gradients, other)


def test_gradients_add_up_over_micro_batches(case):
    model, pairs = case
    source = Gradients(model)
    sums, together = computed(source, pairs)
    parts = [computed(source, [pair]) for pair in pairs]
    assert sum(part for part, _ in parts) == pytest.approx(sums, rel=1e-5)
    assert_close(together, {name: sum(g[name] for _, g in parts) for name in together})


def test_gradients_leave_real_weights_in_the_model(case):
    model, pairs = case
    before = flat(model.parameters())
    source = Gradients(model)
    for _ in range(2):
        source.gradients(pairs)
        mx.eval(model.parameters())  # raises if one of them is a tracer
        after = flat(model.parameters())
        assert after.keys() == before.keys() and all((after[k] == v).all() for k, v in before.items())
    assert model(mx.array(pairs[0][1].ids)).shape == (*pairs[0][1].ids.shape, 30)


def test_gradients_use_new_weights_in_each_call(case):
    model, pairs = case
    source = Gradients(model)
    seen = []
    for scale in (1.0, 3.0, 3.0):
        model.wte.weight = model.wte.weight * scale
        model.ln_f.weight = model.ln_f.weight + 0.0
        found = computed(source, pairs), source.losses([b for _, b in pairs])
        fresh = Gradients(model)
        expected = computed(fresh, pairs), fresh.losses([b for _, b in pairs])
        assert found[0][0] == pytest.approx(expected[0][0], rel=1e-6) and found[1] == pytest.approx(expected[1])
        assert_close(expected[0][1], found[0][1], 1e-6)
        seen.append(found[1][0])
    assert seen[0] != pytest.approx(seen[1], rel=1e-2) and seen[1] != pytest.approx(seen[2], rel=1e-2)


def test_dropout_depends_on_the_seed_of_the_micro_batch(case):
    model, ((_, batch), *_) = case
    source = Gradients(model)

    def loss(*seeds: int) -> float:
        return float(source.gradients([(s, batch) for s in seeds])[0][0])

    assert loss(1) == loss(1) != loss(2)
    assert loss(1, 2) == pytest.approx(loss(1) + loss(2), rel=1e-6)
    assert loss(1, 1) == pytest.approx(2 * loss(1), rel=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_low_precision_gives_float32_gradients_close_to_the_exact_ones(case, dtype, tolerance):
    model, pairs = case
    sums, exact = computed(Gradients(model), pairs)
    source = Gradients(model, getattr(mx, dtype))
    low_sums, low = source.gradients(pairs)
    assert {v.dtype for _, v in tree_flatten(low)} == {mx.float32}
    assert {v.dtype for _, v in tree_flatten(model.parameters())} == {mx.float32}
    assert np.array(low_sums) == pytest.approx(sums, rel=tolerance)
    for name, value in flat(low).items():
        assert np.linalg.norm(value - exact[name]) < 5 * tolerance * np.linalg.norm(exact[name]), name
    assert (np.array(low_sums) == sums).all() == (dtype == "float32")


@platforms.low_precision
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_uses_new_weights_and_evaluates_in_float32(case, dtype):
    model, pairs = case
    source, batches = Gradients(model, getattr(mx, dtype)), [b for _, b in pairs]
    for _ in range(2):
        low_sums, exact_sums = source.gradients(pairs)[0], Gradients(model).gradients(pairs)[0]
        assert np.array(low_sums) == pytest.approx(np.array(exact_sums), rel=0.03)
        assert source.losses(batches) == Gradients(model).losses(batches)
        model.wte.weight = model.wte.weight * 3


def test_losses_have_no_dropout_and_keep_the_mode(case):
    model, pairs = case
    source, batches = Gradients(model), [b for _, b in pairs]
    losses = source.losses(batches)
    for mode in (True, False):
        model.train(mode)
        assert source.losses(batches) == losses
        assert all(module.training == mode for module in model.modules())
    source.gradients(pairs)
    assert model.training and source.losses(batches) == losses and model.training
    assert losses == pytest.approx(np.array(whole_loss(model.eval(), batches)), rel=1e-5)


def test_padding_changes_nothing():
    model, (batch, *_) = model_of(), batches_of(1)
    changed = MicroBatch(batch.ids.copy(), batch.targets.copy(), batch.weights, batch.story)
    changed.ids[1, 110:], changed.targets[1, 110:] = 3, 4
    for n in (1, 2):
        first, second = (gradients_of(model, [(1, b)], n) for b in (batch, changed))
        assert (first[0] == second[0]).all()
        assert_close(first[1], second[1])


@pytest.mark.parametrize("n", [1, 2])
def test_step_losses_are_means_over_targets_without_dropout(n):
    model, batches = model_of(dropout=0.5), batches_of(3)
    with Workers(model, n) as workers:
        step = TrainingStep(model, optim.build(ADAMW, model), workers)
        before = step.losses(batches)
        workers.gradients([(1, batches[0])])
        assert step.losses(batches) == before
    model.eval()
    losses = [np.array(nn.losses.cross_entropy(model(mx.array(b.ids)), mx.array(b.targets))) for b in batches]
    for value, masks in zip(before, ([b.weights for b in batches], [b.story for b in batches]), strict=True):
        expected = sum((a * m).sum() for a, m in zip(losses, masks, strict=True)) / sum(m.sum() for m in masks)
        assert value == pytest.approx(expected, rel=1e-5)


def test_mean_loss_without_targets_is_nan():
    (batch,) = batches_of(1)
    windows = MicroBatch(batch.ids, batch.targets, batch.weights, np.zeros_like(batch.story))
    loss, story_loss = mean_losses((6.0, 0.0), [windows])
    assert loss == 6 / windows.n_targets and math.isnan(story_loss)


def test_clip_scales_all_gradients_and_only_down():
    gradients = {"a": mx.array([3.0, 0.0]), "b": {"c": mx.array([[4.0]])}}
    clipped, norm = clip(gradients, 1.0)
    assert float(norm) == 5
    assert float(clipped["a"][0]) == pytest.approx(0.6) and float(clipped["b"]["c"][0, 0]) == pytest.approx(0.8)
    same, _ = clip(gradients, 10.0)
    assert float(same["a"][0]) == 3


@pytest.mark.parametrize("max_norm", [1e9, 0.05])
def test_step_equals_the_formula_for_adamw(case, max_norm):
    """Two steps: mean gradient, clipping, and AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019) in float64."""
    model, pairs = case
    optimizer = optim.build(ADAMW, model)
    source = Gradients(model)
    step = TrainingStep(model, optimizer, source, max_norm)
    b1, b2, eps = ADAMW.beta1, ADAMW.beta2, 1e-8
    w = {k: v.astype(np.float64) for k, v in flat(model.parameters()).items()}
    m, v = ({k: np.zeros_like(x) for k, x in w.items()} for _ in range(2))
    n = sum(batch.n_targets for _, batch in pairs)
    for t, lr in ((1, 0.01), (2, 0.003)):
        sums, gradients = computed(Gradients(model), pairs)  # at the weights before the step
        g = {k: x.astype(np.float64) / n for k, x in gradients.items()}
        norm = math.sqrt(sum((x**2).sum() for x in g.values()))
        optim.set_learning_rate(optimizer, lr, 1.0)
        loss, story_loss, found_norm = step(pairs)
        assert loss == pytest.approx(sums[0] / n, rel=1e-6)
        assert story_loss == pytest.approx(sums[1] / sum(b.n_story for _, b in pairs), rel=1e-6)
        assert found_norm == pytest.approx(norm, rel=1e-4)
        for k in w:
            clipped = g[k] * min(max_norm / norm, 1.0)
            m[k], v[k] = b1 * m[k] + (1 - b1) * clipped, b2 * v[k] + (1 - b2) * clipped**2
            decay = ADAMW.weight_decay if w[k].ndim == 2 else 0.0
            update = m[k] / (1 - b1**t) / (np.sqrt(v[k] / (1 - b2**t)) + eps)
            w[k] = w[k] * (1 - lr * decay) - lr * update
        for k, x in flat(model.parameters()).items():
            # The sign-like first update of AdamW is undefined where a gradient is about 0 (characters never seen).
            sure = np.abs(g[k]) > 1e-6 * np.abs(g[k]).max()
            assert np.abs(x - w[k])[sure].max() < 2e-3 * lr, (t, k)
            w[k] = np.where(sure, w[k], x)


def test_learning_rate_change_reaches_the_compiled_update(case):
    model, pairs = case
    optimizer = optim.build(TrainConfig(optimizer="adamw", weight_decay=0.0), model)
    step = TrainingStep(model, optimizer, Gradients(model))
    weights = [flat(model.parameters())["ln_f.weight"]]
    for lr in (0.1, 0.05, 0.0, 0.1):
        optim.set_learning_rate(optimizer, lr, 1.0)
        step(pairs)
        weights.append(flat(model.parameters())["ln_f.weight"])
    sizes = [np.abs(b - a).max() for a, b in itertools.pairwise(weights)]
    assert sizes[0] == pytest.approx(0.1, rel=1e-2) and 0.01 < sizes[1] < 0.06 and sizes[2] == 0 and sizes[3] > 0.05


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_steps_memorize_a_batch(case, optimizer):
    model, pairs = case
    config = TrainConfig(optimizer=optimizer)
    built = optim.build(config, model)
    step = TrainingStep(model, built, Gradients(model))
    optim.set_learning_rate(built, 0.01, config.muon_ratio)
    losses = [step(pairs[:1])[0] for _ in range(30)]
    assert losses[0] == pytest.approx(math.log(30), abs=0.1) and losses[-1] < losses[0] - 0.15
