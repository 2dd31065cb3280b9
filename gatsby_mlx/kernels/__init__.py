"""The operations that most of a step's time goes to. `mlx` has the plain forms; on a CPU, `cpu` has faster ones.

Each function here calls the form for MLX's default device.

>>> import mlx.core as mx
>>> gelu_tanh(mx.array([0.0, 1.0])).shape
(2,)
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gatsby_mlx import device

device.prepare()  # loads a fast BLAS; has to come before MLX is imported
device.keep_pages()

# isort: split
import mlx.core as mx

from gatsby_mlx.kernels import cpu, mlx


def on_cpu() -> bool:
    """Return whether MLX's default device is the CPU."""
    return mx.default_device() == mx.Device(mx.cpu)


def compute(*trees: Any) -> None:
    """Compute arrays, or trees of arrays. On a CPU wait for them; a GPU gets them queued, and nothing waits for it."""
    (mx.eval if on_cpu() else mx.async_eval)(*trees)


def _chosen() -> ModuleType:
    """Return the module with the forms for the default device."""
    return cpu if on_cpu() else mlx


def gelu_tanh(x: mx.array) -> mx.array:
    """Return GELU in its tanh form (Hendrycks & Gimpel 2016, section 2), elementwise, any shape."""
    return _chosen().gelu_tanh(x)


def gelu_erf(x: mx.array) -> mx.array:
    """Return GELU in its exact form, x times the normal cumulative distribution function, elementwise, any shape."""
    return _chosen().gelu_erf(x)


def dropout_mask(shape: Sequence[int], keep: float) -> mx.array:
    """Return a random boolean mask of `shape`, True with probability `keep` in [0, 1]: what dropout keeps."""
    return _chosen().dropout_mask(shape, keep)


def causal_attention(q: mx.array, k: mx.array, v: mx.array, dropout: float = 0.0) -> mx.array:
    """Return causal self-attention [B, H, T, D] of q, k, v [B, H, T, D], with `dropout` in [0, 1) on the weights."""
    return _chosen().causal_attention(q, k, v, dropout)


def slot_attention(q: mx.array, keys: mx.array, values: mx.array, visible: mx.array) -> mx.array:
    """Return the attention [B, H, 1, D] of one new position in each sequence, q [B, H, 1, D], to the cached ones.

    `keys` and `values` are [B, H, S, D]. `visible` [B, 1, 1, n], n <= S, says which of the first n positions each
    sequence attends to.
    """
    return _chosen().slot_attention(q, keys, values, visible)


def slot_update(cached: mx.array, new: mx.array, columns: mx.array) -> mx.array:
    """Return `cached` [B, H, S, D] with `new` [B, H, 1, D] written at the column [B] of each sequence.

    Off the CPU all columns are equal (see `model.batch`).
    """
    return _chosen().slot_update(cached, new, columns)


def stored(weight: mx.array) -> mx.array:
    """Return the matrix [out, in] of a linear layer, stored as products with a batch of rows read it fastest."""
    return _chosen().stored(weight)


__all__ = [
    "causal_attention",
    "compute",
    "dropout_mask",
    "gelu_erf",
    "gelu_tanh",
    "on_cpu",
    "slot_attention",
    "slot_update",
    "stored",
]
