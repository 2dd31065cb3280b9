"""gpt: loss at the start, causality, learning, the number of parameters and how they are initialized."""

import math

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from gatsby_mlx.config import GPTConfig, preset
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model.gpt import GPT, sinusoidal

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 96, "vocab_size": 50}


def tiny(**changes) -> GPT:
    mx.random.seed(1)
    return GPT(GPTConfig(**{**TINY, **changes}))


def some_ids(B: int = 4, T: int = 96, V: int = 50) -> mx.array:
    return mx.random.randint(0, V, (B, T), key=mx.random.key(2))


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_loss_at_the_start_is_ln_v(gelu):
    ids = some_ids(8)
    loss = nn.losses.cross_entropy(tiny(gelu=gelu)(ids[:, :-1]), ids[:, 1:]).mean()
    assert float(loss) == pytest.approx(math.log(50), abs=0.02)


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_future_character_changes_nothing_before_it(gelu):
    model, ids = tiny(gelu=gelu), some_ids()
    changed = mx.where(mx.arange(96) < 60, ids, (ids + 1) % 50)
    before, after = model(ids), model(changed)
    assert bool((before[:, :60] == after[:, :60]).all())
    assert bool((before[:, 60:] != after[:, 60:]).any(axis=-1).all())


@pytest.mark.parametrize("bias", [True, False])
def test_one_batch_can_be_memorized(bias):
    model, ids = tiny(bias=bias), some_ids(2, 33)
    optimizer = optim.AdamW(1e-2, betas=[0.9, 0.99], weight_decay=0)

    def loss(ids):
        return nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:]).mean()

    step = nn.value_and_grad(model, loss)
    for _ in range(80):
        value, grads = step(ids)
        optimizer.update(model, grads)
        mx.eval(model.state, optimizer.state)
    assert float(value) < 0.02


def test_parameters_are_counted_as_nanogpt_counts_them():
    config = GPTConfig(**{**vars(preset("baseline").model), "vocab_size": 80})
    model = GPT(config)
    assert model.n_params(positions=False) == 10_652_544  # 10.65 M on the model card of the baseline
    assert model.n_params() == 10_652_544 + 512 * 384
    with_biases = GPT(GPTConfig(**{**vars(config), "bias": True}))
    assert with_biases.n_params() - model.n_params() == 6 * (3 + 1 + 4 + 1 + 1 + 1) * 384 + 384


def test_weights_are_initialized_at_the_scales_of_nanogpt():
    model = tiny(n_layer=8, n_embd=128, n_head=4, bias=True, vocab_size=96)
    for name, value in tree_flatten(model.parameters()):
        if name.endswith("bias"):
            assert bool((value == 0).all()), name
        elif value.ndim == 1:
            assert bool((value == 1).all()), name
        else:
            wanted = 0.02 / math.sqrt(2 * 8) if name.endswith("c_proj.weight") else 0.02
            assert float(value.std()) == pytest.approx(wanted, rel=0.05), name
            assert abs(float(value.mean())) < wanted / 20, name


def test_positions_matter_and_dropout_is_only_for_training():
    model = tiny(dropout=0.5)
    ids = mx.full((1, 8), 3)
    model.train()
    assert bool((model(ids) != model(ids)).any())
    model.eval()
    first = model(ids)
    assert bool((first == model(ids)).all())
    assert bool((first[:, 0] != first[:, 1]).any())  # the same character at another position
    moved = model(ids, positions=mx.arange(8)[None] + 5)
    assert bool((moved != first).any())


def test_random_seed_decides_the_weights():
    first, second = tiny(), tiny()
    assert all(bool((a == b).all()) for (_, a), (_, b) in zip(*map(tree_flatten, (first, second)), strict=True))


@pytest.mark.parametrize("C", [32, 33])
def test_sinusoidal_positions_are_as_in_the_paper(C):
    table = np.array(sinusoidal(50, C))
    assert table.shape == (50, C)
    n = (C + 1) // 2
    angles = np.arange(50)[:, None] / 10_000 ** (2 * np.arange(n) / C)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :C]
    np.testing.assert_allclose(table, expected * 0.1 * math.sqrt(2), atol=1e-5)
    if C == 32:
        assert float(np.sqrt((table**2).mean())) == pytest.approx(0.1, rel=1e-4)
    waves = GPT(GPTConfig(**{**TINY, "n_embd": 32, "position_init": "waves"}))
    assert bool((waves.wpe.weight == sinusoidal(96, 32)).all())


@pytest.mark.parametrize("changes", [{"n_head": 3}, {"n_layer": 0}, {"gelu": "relu"}, {"dropout": 1.0}])
def test_invalid_shape_is_refused(changes):
    with pytest.raises(UsageError):
        GPTConfig(**{**TINY, **changes})
