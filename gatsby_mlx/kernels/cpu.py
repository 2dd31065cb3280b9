"""Faster forms for MLX's CPU backend: elementwise functions, a dropout mask, attention in blocks.

MLX's CPU backend computes exp, tanh and sigmoid one element at a time: 15 to 25 ns each, against 0.4 ns for a
multiplication. The forms here use multiplications, which the compiler behind `mx.compile` vectorizes, and their
attention skips the blocks that the causal mask would discard. The values agree with the plain forms within 4e-6
(tested). For a small array the plain form is called, since starting many operations would take longer than it saves.
"""

import math
from collections.abc import Sequence
from typing import cast

import mlx.core as mx
import mlx.nn as nn

EXP_FLOOR = -24.0  # exp(-24) is 4e-11: smaller terms do not change a float32 softmax of a thousand terms
QUERY_BLOCK = 256  # query positions in a block of causal attention
KEY_BLOCK = 128  # cached positions in a block of a decoding step
BATCHED = 8  # sequences in a batch from which the softmax below is faster than MLX's
ERF_P, ERF_A = 0.3275911, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
GOLDEN = 0x9E3779B9  # odd, near 2**32 / golden ratio: neighboring indices are far apart before they are mixed
SMALL = 8192  # elements; starting an operation takes about 2 us
LARGE = 1 << 20  # elements; each array that the backward pass keeps takes 4 MB


def exp_nonpositive(x: mx.array) -> mx.array:
    """Return exp(x) for x <= 0, any shape: a Taylor polynomial of degree 5 at x/64, squared six times.

    The relative error is below 5e-6 for x >= -8 and below 4e-4 at -24; below -24 the result is exp(-24). It is computed
    in float32 for every dtype, because six squarings turn a rounding error of 0.4% in bfloat16 into one of 30%.
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
def _sigmoid(x: mx.array) -> mx.array:
    e = exp_nonpositive(-mx.abs(x))
    larger = 1 / (1 + e)
    return mx.where(x < 0, e * larger, larger)


@_sigmoid.vjp
def _sigmoid_vjp(primals, cotangent, output):
    return cotangent * output * (1 - output)


def sigmoid(x: mx.array) -> mx.array:
    """Return 1 / (1 + exp(-x)), any shape."""
    return cast(mx.array, _sigmoid(x)) if x.size > SMALL else mx.sigmoid(x)


def softmax(x: mx.array) -> mx.array:
    """Return the softmax over the last axis, any shape. Elements may be -inf, but not all of a row."""
    weights = mx.where(x == -mx.inf, 0, exp_nonpositive(x - x.max(axis=-1, keepdims=True)))
    return weights / weights.sum(axis=-1, keepdims=True)


def gelu_tanh(x: mx.array) -> mx.array:
    """Compute x * sigmoid(2u), since tanh(u) is 2 sigmoid(2u) - 1.

    For a LARGE x the backward pass recomputes the intermediate values from x instead of keeping them.
    """
    return mx.checkpoint(_gelu_tanh)(x) if x.size > LARGE else _gelu_tanh(x)


def _gelu_tanh(x: mx.array) -> mx.array:
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


@mx.custom_function
def _normal_cdf(x: mx.array) -> mx.array:
    t = 1 / (1 + ERF_P * math.sqrt(1 / 2) * mx.abs(x))
    a, b, c, d, e = ERF_A
    tail = 0.5 * t * (a + t * (b + t * (c + t * (d + t * e)))) * exp_nonpositive(-0.5 * x * x)
    return mx.where(x < 0, tail, 1 - tail)


@_normal_cdf.vjp
def _normal_cdf_vjp(primals, cotangent, output):
    return cotangent * exp_nonpositive(-0.5 * primals * primals) * (1 / math.sqrt(2 * math.pi))


def gelu_erf(x: mx.array) -> mx.array:
    """Use the error function of Abramowitz & Stegun 1964, 7.1.26, whose error is below 1.5e-7."""
    return x * cast(mx.array, _normal_cdf(x)) if x.size > SMALL else nn.gelu(x)


def dropout_mask(shape: Sequence[int], keep: float) -> mx.array:
    """Hash the index of each element, starting from one random word: MLX's generator takes 10 ns a word on a CPU.

    The hash is the 32-bit finalizer of MurmurHash3 (A. Appleby, public domain), which the compiler vectorizes.
    """
    start = (mx.random.uniform(shape=(2,)) * (1 << 16)).astype(mx.uint32)  # 16 bits of each
    x = mx.arange(math.prod(shape), dtype=mx.uint32) * mx.array(GOLDEN, mx.uint32) + (start[0] << 16 | start[1])
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * mx.array(factor, mx.uint32)
    x = x ^ (x >> 16)
    return (x < mx.array(round(keep * 2**32), mx.uint32)).reshape(shape)


def causal_attention(q: mx.array, k: mx.array, v: mx.array, dropout: float = 0.0) -> mx.array:
    """Compute one block of queries after another, each against the keys up to the end of the block."""
    q = q * q.shape[-1] ** -0.5
    if not dropout:
        return cast(tuple[mx.array, mx.array], _attend(q, k, v))[0]
    return mx.concatenate([_attend_block(q, k, v, block, dropout)[0] for block in _blocks(q.shape[2])], axis=2)


def slot_attention(q: mx.array, keys: mx.array, values: mx.array, visible: mx.array) -> mx.array:
    """Compute scores and weighted values in blocks of KEY_BLOCK keys, and add the blocks in order.

    All products have one shape, and blocks after the position of a sequence add exact zeros. So the rounding of a
    sequence does not depend on the lengths of the others. n is a multiple of KEY_BLOCK.
    """
    B, H, _, D = q.shape
    n = visible.shape[-1]
    keys = keys[:, :, :n].reshape(B, H, n // KEY_BLOCK, KEY_BLOCK, D)
    values = values[:, :, :n].reshape(B, H, n // KEY_BLOCK, KEY_BLOCK, D)
    scores = (q * D**-0.5)[:, :, None] @ keys.swapaxes(-1, -2)  # [B, H, n / KEY_BLOCK, 1, KEY_BLOCK]
    scores = mx.where(visible, scores.reshape(B, H, 1, n), -mx.inf)
    weights = softmax(scores) if B >= BATCHED else mx.softmax(scores, axis=-1)  # by B, as n depends on the others
    return (weights.reshape(B, H, n // KEY_BLOCK, 1, KEY_BLOCK) @ values).sum(axis=2)


def slot_update(cached: mx.array, new: mx.array, columns: mx.array) -> mx.array:
    """Write in place if MLX can reuse the memory. The columns may differ, since the slots begin at column 0."""
    if len(new) == 1:
        return mx.slice_update(cached, new, columns, axes=(2,))  # the same with a tenth of the operations
    cached[mx.arange(len(new)), :, columns] = new[:, :, 0]
    return cached


def stored(weight: mx.array) -> mx.array:
    """Store it by columns: sgemm copies its operands into blocks, and copies this form with fewer jumps in memory.

    The products have the same bits (tested). A single row goes through sgemv, which reads the usual form.
    """
    return mx.contiguous(weight.T).T


def _blocks(T: int) -> list[slice]:
    """Return the blocks of `T` query positions."""
    return [slice(i, min(i + QUERY_BLOCK, T)) for i in range(0, T, QUERY_BLOCK)]


def _scores(q: mx.array, k: mx.array, block: slice) -> tuple[mx.array, mx.array]:
    """Return the scores [B, H, R, end] of a block of R queries and which of them [R, end] the causal mask keeps.

    Keys after the end of the block are left out.
    """
    causal = mx.arange(block.stop)[None, :] <= mx.arange(block.start, block.stop)[:, None]
    return q[:, :, block] @ k[:, :, : block.stop].swapaxes(-1, -2), causal


def _attend_block(
    q: mx.array, k: mx.array, v: mx.array, block: slice, dropout: float = 0.0
) -> tuple[mx.array, mx.array]:
    """Return causal attention [B, H, R, D] of a block of R queries, and the log-sum-exp of its scores [B, H, R, 1].

    The softmax is normalized after the product with v (as in FlashAttention, Dao et al. 2022, section 3.1), which
    divides D numbers for each query instead of T.
    """
    scores, causal = _scores(q, k, block)
    scores = mx.where(causal, scores, -mx.inf)  # before exp: inf * 0 would make the gradient NaN
    top = mx.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = mx.where(causal, exp_nonpositive(scores - top), 0)
    # In float32: the total can exceed 256, and the gradient of the quotient divides by its square, while the largest
    # float16 is 65,504.
    total = weights.astype(mx.float32).sum(axis=-1, keepdims=True)
    if dropout:
        weights = weights * dropout_mask(weights.shape, 1 - dropout) * (1 / (1 - dropout))
    return ((weights @ v[:, :, : block.stop]) / total).astype(q.dtype), top + mx.log(total)


@mx.custom_function
def _attend(q: mx.array, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
    """Return causal attention [B, H, T, D] and the log-sum-exp of its scores [B, H, T, 1]."""
    blocks = [_attend_block(q, k, v, block) for block in _blocks(q.shape[2])]
    return mx.concatenate([b[0] for b in blocks], axis=2), mx.concatenate([b[1] for b in blocks], axis=2)


@_attend.vjp
def _attend_vjp(primals, cotangents, outputs):
    """Recompute the weights from the log-sum-exp (Dao et al. 2022, appendix B.2), one block after another.

    Otherwise the forward pass would have to keep them, and they are most of its memory.
    """
    d_out, (out, logsumexp) = cotangents[0], outputs
    # Without `depends` MLX would compute the weights of all layers first and keep them until they are needed.
    q, k, v = mx.depends(list(primals), [d_out])
    # The gradient of a softmax subtracts the weighted mean of the gradients of its weights.
    means = (d_out.astype(mx.float32) * out.astype(mx.float32)).sum(axis=-1, keepdims=True)  # [B, H, T, 1]
    d_q, d_k, d_v = [], mx.zeros_like(k), mx.zeros_like(v)
    for block in _blocks(q.shape[2]):
        scores, causal = _scores(q, k, block)
        weights = mx.where(causal, exp_nonpositive(scores - logsumexp[:, :, block]), 0)
        d_weights = d_out[:, :, block] @ v[:, :, : block.stop].swapaxes(-1, -2)
        d_scores = (weights * (d_weights - means[:, :, block])).astype(q.dtype)
        d_q.append(d_scores @ k[:, :, : block.stop])
        d_k[:, :, : block.stop] += d_scores.swapaxes(-1, -2) @ q[:, :, block]
        d_v[:, :, : block.stop] += weights.astype(v.dtype).swapaxes(-1, -2) @ d_out[:, :, block]
    return mx.concatenate(d_q, axis=2), d_k, d_v
