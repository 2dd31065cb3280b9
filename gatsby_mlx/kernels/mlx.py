"""The plain forms, from MLX itself: what runs on a GPU. Read these first. The package has the shapes."""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

gelu_tanh = nn.gelu_approx
gelu_erf = nn.gelu


def dropout_mask(shape: Sequence[int], keep: float) -> mx.array:
    return mx.random.bernoulli(keep, shape)


def causal_attention(q: mx.array, k: mx.array, v: mx.array, dropout: float = 0.0) -> mx.array:
    scale = q.shape[-1] ** -0.5
    if not dropout:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal")
    T = q.shape[2]
    scores = (q * scale) @ k.swapaxes(-1, -2)  # [B, H, T, T]
    causal = mx.arange(T)[None, :] <= mx.arange(T)[:, None]
    weights = mx.softmax(mx.where(causal, scores, -mx.inf), axis=-1, precise=True)
    return (weights * dropout_mask(weights.shape, 1 - dropout) * (1 / (1 - dropout))).astype(q.dtype) @ v


def slot_attention(q: mx.array, keys: mx.array, values: mx.array, visible: mx.array) -> mx.array:
    n = visible.shape[-1]
    return mx.fast.scaled_dot_product_attention(
        q, keys[:, :, :n], values[:, :, :n], scale=q.shape[-1] ** -0.5, mask=visible
    )


def slot_update(cached: mx.array, new: mx.array, columns: mx.array) -> mx.array:
    return mx.slice_update(cached, new, columns[:1], axes=(2,))


def stored(weight: mx.array) -> mx.array:
    return weight
