"""The operations that decide a step's time, each with the form that suits the device.

On a GPU: MLX's own kernels. On a CPU, MLX computes exp, tanh and sigmoid one element at a time (15 to 25 ns each, where
a multiplication takes 0.4), so there they are made of multiplications, which the compiler of `mx.compile` vectorises,
and attention skips the blocks that the causal mask would throw away. The values agree within 4e-6 (tested). A small
array takes MLX's own kernel on a CPU as well: starting the many operations would cost more than the one saves.
"""

import math
from collections.abc import Sequence
from typing import cast

import mlx.core as mx
import mlx.nn as nn

EXP_FLOOR = -24.0  # exp(-24) is 4e-11: below it a float32 softmax of a thousand terms does not notice
BLOCK = 256
ERF_P, ERF_A = 0.3275911, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
GOLDEN = 0x9E3779B9  # an odd number near 2**32 over the golden ratio: neighbours are far apart before they are mixed
SMALL = 8192  # elements; an operation takes about 2 us to start
LARGE = 1 << 20  # elements; 4 MB for each array that is kept


def on_cpu() -> bool:
    """Tell whether MLX computes on the CPU by default."""
    return mx.default_device() == mx.Device(mx.cpu)


def _by_hand(x: mx.array) -> bool:
    return on_cpu() and x.size > SMALL


def exp_nonpositive(x: mx.array) -> mx.array:
    """Return exp(x) for x <= 0, any shape: a Taylor polynomial of degree 5 at x/64, squared six times.

    Relative error under 5e-6 for x >= -8, under 4e-4 at -24; below -24 it returns exp(-24). Computed in float32
    whatever x is, since squaring six times makes a rounding of 0.4% in bfloat16 one of 30%.
    """
    return cast(mx.array, _exp(x))


@mx.custom_function
def _exp(x: mx.array) -> mx.array:
    y = mx.maximum(x.astype(mx.float32), EXP_FLOOR) * (1 / 64)
    p = 1 + y * (1 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120)))))
    for _ in range(6):
        p = p * p
    return p.astype(x.dtype)


@_exp.vjp
def _exp_vjp(primals, cotangent, output):
    return cotangent * output


@mx.custom_function
def _sigmoid_cpu(x: mx.array) -> mx.array:
    e = exp_nonpositive(-mx.abs(x))
    larger = 1 / (1 + e)
    return mx.where(x < 0, e * larger, larger)


@_sigmoid_cpu.vjp
def _sigmoid_vjp(primals, cotangent, output):
    return cotangent * output * (1 - output)


def sigmoid(x: mx.array) -> mx.array:
    """Return 1 / (1 + exp(-x)), any shape."""
    return cast(mx.array, _sigmoid_cpu(x)) if _by_hand(x) else mx.sigmoid(x)


def softmax(x: mx.array, many: bool) -> mx.array:
    """Return the softmax over the last axis, any shape; an element may be -inf, a whole row may not.

    `many` tells whether it is worth doing by hand on a CPU. The caller decides: where a row must not feel how many
    columns its neighbours need, the size cannot.
    """
    if not (many and on_cpu()):
        return mx.softmax(x, axis=-1)
    weights = mx.where(x == -mx.inf, 0, exp_nonpositive(x - x.max(axis=-1, keepdims=True)))
    return weights / weights.sum(axis=-1, keepdims=True)


def gelu_tanh(x: mx.array) -> mx.array:
    """GELU in its tanh form (Hendrycks & Gimpel 2016, section 2), any shape.

    tanh(u) is written as 2 sigmoid(2u) - 1, which leaves x * sigmoid(2u). By hand and LARGE, the backward pass computes
    its parts again from x, in place of keeping them.
    """
    return mx.checkpoint(_gelu_tanh)(x) if _by_hand(x) and x.size > LARGE else _gelu_tanh(x)


def _gelu_tanh(x: mx.array) -> mx.array:
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


@mx.custom_function
def _normal_cdf_cpu(x: mx.array) -> mx.array:
    t = 1 / (1 + ERF_P * math.sqrt(1 / 2) * mx.abs(x))
    a, b, c, d, e = ERF_A
    tail = 0.5 * t * (a + t * (b + t * (c + t * (d + t * e)))) * exp_nonpositive(-0.5 * x * x)
    return mx.where(x < 0, tail, 1 - tail)


@_normal_cdf_cpu.vjp
def _normal_cdf_vjp(primals, cotangent, output):
    return cotangent * exp_nonpositive(-0.5 * primals * primals) * (1 / math.sqrt(2 * math.pi))


def gelu_erf(x: mx.array) -> mx.array:
    """GELU in its exact form, x times the normal distribution's cumulative function, any shape.

    By hand: Abramowitz & Stegun 1964, 7.1.26, whose error function is within 1.5e-7.
    """
    return x * cast(mx.array, _normal_cdf_cpu(x)) if _by_hand(x) else nn.gelu(x)


def keep(shape: Sequence[int], share: float) -> mx.array:
    """Return a random mask, True with probability `share`: what dropout lets through.

    MLX's generator takes some 10 ns for each word on a CPU. There the mask is a hash of the element's number and of one
    word that MLX draws: MurmurHash3's 32-bit finaliser (A. Appleby, public domain), which the compiler vectorises.
    """
    if not on_cpu():
        return mx.random.bernoulli(share, shape)
    start = (mx.random.uniform(shape=(2,)) * (1 << 16)).astype(mx.uint32)  # 16 bits of each
    x = mx.arange(math.prod(shape), dtype=mx.uint32) * mx.array(GOLDEN, mx.uint32) + (start[0] << 16 | start[1])
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * mx.array(factor, mx.uint32)
    x = x ^ (x >> 16)
    return (x < mx.array(round(share * 2**32), mx.uint32)).reshape(shape)


def causal_attention(q: mx.array, k: mx.array, v: mx.array, dropout: float = 0.0) -> mx.array:
    """Attend over T positions, each to itself and what stands before it.

    q, k, v: [B, H, T, D]; returns [B, H, T, D]. `dropout` in [0, 1) falls on the attention weights.
    """
    if not on_cpu() and not dropout:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask="causal")
    q = q * q.shape[-1] ** -0.5
    if not dropout:
        return cast(tuple[mx.array, mx.array], _attend(q, k, v))[0]
    return mx.concatenate([_attend_block(q, k, v, rows, dropout)[0] for rows in _blocks(q.shape[2])], axis=2)


def _blocks(T: int) -> list[slice]:
    size = BLOCK if on_cpu() else T
    return [slice(i, min(i + size, T)) for i in range(0, T, size)]


def _scores(q: mx.array, k: mx.array, rows: slice) -> tuple[mx.array, mx.array]:
    """Return the scores [B, H, rows, end] of a block of rows, and which of them are seen; keys after it are not."""
    seen = mx.arange(rows.stop)[None, :] <= mx.arange(rows.start, rows.stop)[:, None]
    return q[:, :, rows] @ k[:, :, : rows.stop].swapaxes(-1, -2), seen


def _attend_block(
    q: mx.array, k: mx.array, v: mx.array, rows: slice, dropout: float = 0.0
) -> tuple[mx.array, mx.array]:
    """Return a block of rows of causal attention, [B, H, rows, D], and its softmax's logarithms, [B, H, rows, 1].

    The softmax is normalised after the product with v (as in FlashAttention, Dao et al. 2022, section 3.1), which
    divides D numbers a row instead of T.
    """
    scores, seen = _scores(q, k, rows)
    scores = mx.where(seen, scores, -mx.inf)  # before exp, or its inf would make the gradient NaN
    top = mx.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = mx.where(seen, exp_nonpositive(scores - top) if on_cpu() else mx.exp(scores - top), 0)
    # In float32, for a total is past 256, and the quotient's gradient divides by its square: float16 ends at 65,504.
    total = weights.astype(mx.float32).sum(axis=-1, keepdims=True)
    if dropout:
        weights = weights * keep(weights.shape, 1 - dropout) * (1 / (1 - dropout))
    return ((weights @ v[:, :, : rows.stop]) / total).astype(q.dtype), top + mx.log(total)


@mx.custom_function
def _attend(q: mx.array, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
    blocks = [_attend_block(q, k, v, rows) for rows in _blocks(q.shape[2])]
    return mx.concatenate([b[0] for b in blocks], axis=2), mx.concatenate([b[1] for b in blocks], axis=2)


@_attend.vjp
def _attend_vjp(primals, cotangents, outputs):
    """Compute the weights again from the logarithms (Dao et al. 2022, appendix B.2), block by block: they are most of
    what the forward pass would have to keep."""
    given, (result, logs) = cotangents[0], outputs
    q, k, v = mx.depends(list(primals), [given])  # or the weights of all layers would be made first, and wait
    # What a row's softmax takes back from each of its weights' gradients: their mean.
    means = (given.astype(mx.float32) * result.astype(mx.float32)).sum(axis=-1, keepdims=True)
    of_q, of_k, of_v = [], mx.zeros_like(k), mx.zeros_like(v)
    blocks = _blocks(q.shape[2])
    for rows in blocks:
        scores, seen = _scores(q, k, rows)
        weights = mx.where(seen, exp_nonpositive(scores - logs[:, :, rows]), 0)
        of_weights = given[:, :, rows] @ v[:, :, : rows.stop].swapaxes(-1, -2)
        of_scores = (weights * (of_weights - means[:, :, rows])).astype(q.dtype)
        of_q.append(of_scores @ k[:, :, : rows.stop])
        of_k[:, :, : rows.stop] += of_scores.swapaxes(-1, -2) @ q[:, :, rows]
        of_v[:, :, : rows.stop] += weights.astype(v.dtype).swapaxes(-1, -2) @ given[:, :, rows]
    return mx.concatenate(of_q, axis=2), of_k, of_v
