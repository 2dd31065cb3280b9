"""Key-value caches: the keys and values that one layer keeps for the positions that it has seen.

The model calls `attend` on the cache of each layer and uses nothing else of it. Shapes: B sequences, H heads, T new
positions, S allocated positions, D channels of a head.
"""

from typing import Protocol

import mlx.core as mx

from gatsby_mlx import kernels


class KVCache(Protocol):
    """The cache of one layer."""

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Return the attention [B, H, T, D] of q to the cached positions and to k, v, all [B, H, T, D]."""
        ...


class GrowingCache:
    """A cache that keeps every key and value of a batch: for a prime, or a text that is read in several parts."""

    def __init__(self):
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        if self.keys is None or self.values is None:
            self.keys, self.values = k, v
            return kernels.causal_attention(q, k, v)
        self.keys = mx.concatenate([self.keys, k], axis=2)
        self.values = mx.concatenate([self.values, v], axis=2)
        scale = q.shape[-1] ** -0.5
        return mx.fast.scaled_dot_product_attention(q, self.keys, self.values, scale=scale, mask="causal")

    def first(self) -> tuple[mx.array, mx.array]:
        """Return keys and values [H, T, D] of the first sequence, after `attend`."""
        assert self.keys is not None and self.values is not None
        return self.keys[0], self.values[0]


class SlotCache:
    """A cache for decoding: B slots, each at a different position. Keys and values are [B, H, S, D].

    For a step, `columns` [B] say where in S the new keys and values are written, and `visible` [B, 1, 1, n] says which
    of the first n columns each slot attends to.
    """

    def __init__(
        self,
        keys: mx.array,
        values: mx.array,
        columns: mx.array | None = None,
        visible: mx.array | None = None,
    ):
        self.keys, self.values, self.columns, self.visible = keys, values, columns, visible

    def grow(self, n: int) -> None:
        """Allocate at least `n` columns in each slot: short stories never need memory for the full context."""
        B, H, S, D = self.keys.shape
        if n > S:
            more = mx.zeros((B, H, n - S, D))  # [B, H, S, D] -> [B, H, n, D]
            self.keys, self.values = (mx.concatenate([old, more], axis=2) for old in (self.keys, self.values))

    def shift(self, n: int) -> None:
        """Move every column to the right by `n`, or drop the first -n of them."""
        B, H, _, D = self.keys.shape
        if n < 0:
            self.keys, self.values = self.keys[:, :, -n:], self.values[:, :, -n:]
        else:
            empty = mx.zeros((B, H, n, D))
            self.keys, self.values = (mx.concatenate([empty, old], axis=2) for old in (self.keys, self.values))

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Write k, v [B, H, 1, D] at each slot's column; attend q [B, H, 1, D] to what is visible."""
        assert self.columns is not None and self.visible is not None
        self.keys = kernels.slot_update(self.keys, k, self.columns)
        self.values = kernels.slot_update(self.values, v, self.columns)
        return kernels.slot_attention(q, self.keys, self.values, self.visible)


class LookaheadCache:
    """A cache for looking ahead: new positions attend to the cached ones and to each other, and nothing is kept.

    `keys`, `values` are [B, H, n, D]; `mask` [B, 1, T, n + T] says which positions each of the T new ones attends to.
    """

    def __init__(self, keys: mx.array, values: mx.array, mask: mx.array):
        self.keys, self.values, self.mask = keys, values, mask

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        keys, values = mx.concatenate([self.keys, k], axis=2), mx.concatenate([self.values, v], axis=2)
        return mx.fast.scaled_dot_product_attention(q, keys, values, scale=q.shape[-1] ** -0.5, mask=self.mask)
