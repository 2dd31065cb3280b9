"""gpt: what the model means before anything is built on it."""

import math

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import pytest
from mlx.utils import tree_flatten

from gatsby_mlx.config import GPTConfig, preset
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model.gpt import GPT

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
def test_a_future_character_changes_nothing_before_it(gelu):
    model, ids = tiny(gelu=gelu), some_ids()
    changed = mx.where(mx.arange(96) < 60, ids, (ids + 1) % 50)
    before, after = model(ids), model(changed)
    assert bool((before[:, :60] == after[:, :60]).all())
    assert bool((before[:, 60:] != after[:, 60:]).any(axis=-1).all())


@pytest.mark.parametrize("bias", [True, False])
def test_one_batch_can_be_learnt_by_heart(bias):
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


def test_parameters_are_counted_as_the_seed_counts_them():
    config = GPTConfig(**{**vars(preset("seed").model), "vocab_size": 80})
    model = GPT(config)
    assert model.n_params(positions=False) == 10_652_544  # the card's 10.65 M
    assert model.n_params() == 10_652_544 + 512 * 384
    with_biases = GPT(GPTConfig(**{**vars(config), "bias": True}))
    assert with_biases.n_params() - model.n_params() == 6 * (3 + 1 + 4 + 1 + 1 + 1) * 384 + 384


def test_initialisation_scales():
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


def test_positions_matter_and_dropout_falls_only_in_training():
    model = tiny(dropout=0.5)
    ids = mx.full((1, 8), 3)
    model.train()
    assert bool((model(ids) != model(ids)).any())
    model.eval()
    first = model(ids)
    assert bool((first == model(ids)).all())
    assert bool((first[:, 0] != first[:, 1]).any())  # the same character at another place
    moved = model(ids, positions=mx.arange(8)[None] + 5)
    assert bool((moved != first).any())


def test_the_seed_decides_the_weights():
    first, second = tiny(), tiny()
    assert all(bool((a == b).all()) for (_, a), (_, b) in zip(*map(tree_flatten, (first, second)), strict=True))


@pytest.mark.parametrize("changes", [{"n_head": 3}, {"n_layer": 0}, {"gelu": "relu"}, {"dropout": 1.0}])
def test_a_shape_that_cannot_be_is_refused(changes):
    with pytest.raises(UsageError):
        GPTConfig(**{**TINY, **changes})
