"""training.optim: Muon orthogonalizes, decay is decoupled and only for matrices, AdamW corrects its bias; the rate."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from gatsby_mlx.config import GPTConfig, TrainConfig, preset
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training import optim

MUON, ADAMW = TrainConfig(lr=0.01, muon_ratio=1.0), TrainConfig(lr=0.01, optimizer="adamw")


def tiny() -> GPT:
    mx.random.seed(1)
    return GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=32, vocab_size=20, bias=True))


def flat(tree) -> dict[str, np.ndarray]:
    return {k: np.array(v, np.float64) for k, v in tree_flatten(tree)}


def stepped(config: TrainConfig, gradients, n: int = 1) -> tuple[dict, dict]:
    """Return the parameters before and after `n` steps with the same gradients."""
    model = tiny()
    model.update(tree_map(lambda p: p + 1.0, model.parameters()))
    before = flat(model.parameters())
    optimizer = optim.build(config, model)
    optim.set_learning_rate(optimizer, config.lr, 1.0)
    for _ in range(n):
        optimizer.update(model, gradients(model))
    return before, flat(model.parameters())


def zeros(model):
    return tree_map(mx.zeros_like, model.parameters())


def random_gradients(model):
    mx.random.seed(5)
    return tree_map(lambda p: mx.random.normal(p.shape), model.parameters())


@pytest.mark.parametrize("shape", [(48, 48), (64, 16), (16, 64)])
def test_orthogonalize_makes_singular_values_about_one(shape):
    g = mx.random.normal(shape, scale=1e-3, key=mx.random.key(1))
    out = np.array(optim.orthogonalize(g))
    assert out.shape == shape
    values = np.linalg.svd(out, compute_uv=False)
    # Values above 1% of the norm end up in 0.68 to 1.13; the smallest of a square matrix may be below that.
    assert values.max() < 1.25 and np.quantile(values, 0.1) > 0.6
    u, _, vt = np.linalg.svd(np.array(g), full_matrices=False)
    diagonal = np.diag(u.T @ out @ vt.T)
    assert np.abs(u.T @ out @ vt.T - np.diag(diagonal)).max() < 0.02  # the same singular vectors


@pytest.mark.parametrize("shape", [(48, 48), (64, 16), (16, 64), (128, 512)])
@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_orthogonalize_is_newton_schulz_step_by_step(shape, decay):
    a, b, c = optim.NEWTON_SCHULZ
    g = np.random.default_rng(2).normal(size=shape) * decay ** np.arange(shape[1])
    x = g / np.linalg.norm(g)
    for _ in range(optim.NEWTON_SCHULZ_STEPS):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    out = np.array(optim.orthogonalize(mx.array(g.astype(np.float32))))
    assert np.abs(out - x).max() < 1e-3 * np.abs(x).max()


def test_orthogonalize_of_zero_is_zero():
    assert float(mx.abs(optim.orthogonalize(mx.zeros((8, 4)))).max()) == 0


@pytest.mark.parametrize("config", [MUON, ADAMW])
def test_zero_gradient_decays_matrices_and_keeps_vectors(config):
    before, after = stepped(config, zeros)
    for name, value in before.items():
        factor = 1 - config.lr * config.weight_decay if value.ndim == 2 else 1
        assert after[name] == pytest.approx(value * factor, rel=2e-7), name


def test_build_gives_each_parameter_the_right_optimizer():
    optimizer = optim.build(MUON, tiny())
    muon, matrices, vectors = (
        {k.rsplit(".", 1)[0] for k, v in tree_flatten(o.state) if v.ndim} for o in optimizer.optimizers
    )
    assert all(name.startswith("h.0.") and name.endswith("weight") for name in muon) and len(muon) == 4
    assert matrices == {"wte.weight", "wpe.weight"}
    assert all("ln_" in name or name.endswith("bias") for name in vectors)
    assert len(optim.build(ADAMW, tiny()).optimizers) == 2


@pytest.mark.parametrize("config", [MUON, ADAMW])
def test_adamw_equals_the_formula(config):
    n, b1, b2, eps = 3, config.beta1, config.beta2, 1e-8
    before, after = stepped(config, random_gradients, n)
    gradients = flat(random_gradients(tiny()))
    for name, w in before.items():
        if config is MUON and name.startswith("h.") and w.ndim == 2:
            continue
        decay = config.weight_decay if w.ndim == 2 else 0
        m = v = 0
        for t in range(1, n + 1):  # Kingma & Ba 2015 with Loshchilov & Hutter's decay, as torch.optim.AdamW
            m, v = b1 * m + (1 - b1) * gradients[name], b2 * v + (1 - b2) * gradients[name] ** 2
            update = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
            w = w * (1 - config.lr * decay) - config.lr * update
        assert after[name] == pytest.approx(w, rel=1e-5, abs=1e-6), name


def test_muon_step_has_the_size_of_an_adamw_step():
    before, after = stepped(MUON, random_gradients)
    for name, w in before.items():
        if name.startswith("h.") and w.ndim == 2:
            step = (w * (1 - MUON.lr * MUON.weight_decay) - after[name]) / MUON.lr
            assert 0.14 < np.sqrt((step**2).mean()) < 0.26, name
            direction = np.array(optim.orthogonalize(mx.array(flat(random_gradients(tiny()))[name], mx.float32)))
            assert step == pytest.approx(0.2 * math.sqrt(max(w.shape)) * direction, abs=2e-3), name


def test_muon_accumulates_momentum():
    muon = optim.Muon(1.0, momentum=0.5, weight_decay=0.0)
    w, g = mx.zeros((4, 4)), mx.random.normal((4, 4), key=mx.random.key(1))
    state = {}
    muon.init_single(w, state)
    for factor in (1, 1.5, 1.75):
        muon.apply_single(g, w, state)
        assert np.array(state["m"]) == pytest.approx(np.array(g) * factor, rel=1e-5)


def test_learning_rate_equals_nanogpts():
    """The baseline's: 100 steps of warm-up, cosine to a tenth at step 5,000 (nanoGPT's get_lr), in characters."""
    c = preset("seed").training

    def get_lr(it):
        if it < 100:
            return 1e-3 * (it + 1) / 101
        ratio = (it - 100) / (5000 - 100)
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * ratio)) * (1e-3 - 1e-4)

    for it in (0, 1, 50, 99, 100, 101, 2500, 4999, 5000):
        assert optim.learning_rate(c, it * 64 * 512) == pytest.approx(get_lr(it), rel=1e-9), it
    assert optim.learning_rate(c, 10 * c.max_chars) == pytest.approx(1e-4)
    assert optim.learning_rate(TrainConfig(lr=0.5, warmup_chars=0), 0) == 0.5
    assert optim.learning_rate(TrainConfig(lr=0.5, warmup_chars=100, max_chars=100), 100) == 0.5


def test_learning_rate_change_reaches_a_compiled_update():
    model = nn.Linear(2, 2, bias=False)
    optimizer = optim.build(TrainConfig(optimizer="adamw", weight_decay=0.0), model)
    state = [model.state, optimizer.state]
    step = mx.compile(lambda g: optimizer.update(model, g), inputs=state, outputs=state)
    weights = []
    for lr in (0.1, 0.1, 0.0):
        optim.set_learning_rate(optimizer, lr, 1.0)
        step({"weight": mx.ones((2, 2))})
        mx.eval(state)
        weights.append(float(model.weight[0, 0]))
    assert weights[0] - weights[1] == pytest.approx(0.1, rel=1e-3) and weights[1] == weights[2]
