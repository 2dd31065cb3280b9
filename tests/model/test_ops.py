"""ops: the CPU's own forms give what MLX gives, in value and gradient, and never NaN."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from gatsby_mlx.model import ops


def largest(a: mx.array, b: mx.array) -> float:
    return float(mx.abs(a - b).max())


def plain_attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    T = q.shape[2]
    scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)
    return mx.softmax(mx.where(mx.tri(T, dtype=mx.bool_), scores, -mx.inf), axis=-1) @ v


def qkv(T: int, scale: float = 1.0) -> list[mx.array]:
    return [scale * mx.random.normal((2, 3, T, 16), key=mx.random.key(i)) for i in range(3)]


@pytest.mark.parametrize(("low", "tolerance"), [(-8, 5e-6), (-24, 4e-4)])
def test_exp_keeps_its_stated_error(low, tolerance):
    x = np.linspace(low, 0, 20_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(np.array(ops.exp_nonpositive(mx.array(x))) / exact - 1).max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(mx.bfloat16, 2**-8), (mx.float16, 2**-10)])
def test_exp_in_low_precision_is_rounded_once(dtype, tolerance):
    x = mx.linspace(-9, 0, 4_001).astype(dtype)
    found, exact = ops.exp_nonpositive(x), mx.exp(x.astype(mx.float32))
    assert found.dtype == dtype
    assert largest(found.astype(mx.float32) / exact, mx.array(1.0)) < tolerance


def test_exp_is_bounded_below_its_range():
    out = ops.exp_nonpositive(mx.array([-1e30, -mx.inf, 0.0]))
    assert float(out[2]) == 1
    assert 0 < float(out[0]) == float(out[1]) < 1e-10
    assert math.isnan(float(ops.exp_nonpositive(mx.array(math.nan))))  # a run that diverges has to show it


PAIRS = [(ops.sigmoid, mx.sigmoid), (ops.gelu_tanh, nn.gelu_approx), (ops.gelu_erf, nn.gelu)]


@pytest.mark.parametrize("n", [100, 24_001, ops.LARGE])  # below and above what is done by hand on a CPU, and kept
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_activations_equal_those_of_mlx(ours, theirs, n):
    x = mx.concatenate([mx.linspace(-12, 12, n), mx.array([-60.0, 60.0, 0.0])])
    assert largest(ours(x), theirs(x)) < 1e-6
    weights = mx.sin(x)
    ours_grad, theirs_grad = (mx.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (ours, theirs))
    assert largest(ours_grad, theirs_grad) < 2e-6


@pytest.mark.parametrize("many", [False, True])
def test_softmax_equals_that_of_mlx(many):
    x = 5 * mx.random.normal((40, 512), key=mx.random.key(1))
    x = mx.where(mx.arange(512) > mx.arange(40)[:, None] * 9, -mx.inf, x)
    assert largest(ops.softmax(x, many), mx.softmax(x, axis=-1)) < 1e-6
    assert (ops.softmax(x, many)[0, 1:] == 0).all()


@pytest.mark.parametrize("T", [1, 7, 127, 128, 129, 300])
def test_attention_equals_the_plain_form(T):
    inputs = qkv(T)
    fused = mx.fast.scaled_dot_product_attention(*inputs, scale=0.25, mask="causal")
    assert largest(ops.causal_attention(*inputs), fused) < 4e-6
    weights = mx.random.normal(inputs[0].shape, key=mx.random.key(9))
    ours, theirs = (
        mx.grad(lambda q, k, v, f=f: (f(q, k, v) * weights).sum(), argnums=(0, 1, 2))(*inputs)
        for f in (ops.causal_attention, plain_attention)
    )
    assert max(map(largest, ours, theirs)) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(mx.bfloat16, 0.01), (mx.float16, 0.002)])
def test_attention_in_low_precision_has_the_gradients_of_float32(dtype, tolerance):
    """Over 600 positions: a softmax's total is past 256 there, whose square is past float16."""

    def gradients(dtype):
        def summed(q, k, v):
            out = ops.causal_attention(*(a.astype(dtype) for a in (q, k, v)))
            return (out.astype(mx.float32) * mx.sin(mx.arange(600 * 16).reshape(600, 16))).sum()

        return mx.grad(summed, (0, 1, 2))(*qkv(600, 0.3))

    for exact, found in zip(gradients(mx.float32), gradients(dtype), strict=True):
        assert float(mx.linalg.norm(found - exact) / mx.linalg.norm(exact)) < tolerance


def test_attention_with_large_scores_has_finite_gradients():
    q, k, v = qkv(160, scale=40.0)  # a future key's score lies hundreds above the largest that is seen
    for dropout in (0.0, 0.5):
        grads = mx.grad(lambda *a, d=dropout: ops.causal_attention(*a, d).sum(), argnums=(0, 1, 2))(q, k, v)
        assert all(bool(mx.isfinite(g).all()) for g in grads)


def test_attention_does_not_see_the_future():
    q, k, v = qkv(200)
    changed = ops.causal_attention(q, *(mx.where(mx.arange(200)[:, None] < 150, a, 7.0) for a in (k, v)))
    assert bool((changed[:, :, :150] == ops.causal_attention(q, k, v)[:, :, :150]).all())


def test_the_mask_keeps_its_share_and_no_pattern():
    mx.random.seed(7)
    share, n = 0.8, 1 << 20
    masks = np.stack([np.array(ops.keep((1024, 1024), share)).ravel() for _ in range(4)]).astype(np.float64)
    noise = math.sqrt(share * (1 - share) / n)  # of a mean over n draws
    assert np.abs(masks.mean(axis=1) - share).max() < 5 * noise
    centred = (masks - share) / math.sqrt(share * (1 - share))
    for lag in (1, 2, 3, 64, 1024):
        assert abs((centred[0, lag:] * centred[0, :-lag]).mean()) < 5 / math.sqrt(n), lag
    for other in centred[1:]:  # each call draws anew
        assert abs((centred[0] * other).mean()) < 5 / math.sqrt(n)
    columns = masks[0].reshape(1024, 1024).mean(axis=0)
    assert columns.std() == pytest.approx(math.sqrt(share * (1 - share) / 1024), rel=0.1)


def test_the_mask_follows_the_seed():
    def drawn(seed: int) -> mx.array:
        mx.random.seed(seed)
        return ops.keep((64, 64), 0.5)

    assert (drawn(1) == drawn(1)).all()
    assert not (drawn(1) == drawn(2)).all()


def test_attention_dropout_is_unbiased():
    q, k, v = qkv(140)
    mx.random.seed(3)
    many = mx.stack([ops.causal_attention(q, k, v, dropout=0.3) for _ in range(300)])
    error = mx.abs(many.mean(axis=0) - ops.causal_attention(q, k, v))
    standard_error = mx.sqrt(many.var(axis=0) / 300) + 1e-6
    assert float((error / standard_error).max()) < 6  # of 13,440 draws of a normal, the largest is about 4
    assert float(error.mean() / standard_error.mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.1)
