"""The rows of a batch that is being decoded: each keeps its keys and values in a slot of a cache, from position 0.

Attention works on blocks of a fixed size, so that a row's rounding does not hang on how long its neighbours are.
"""

from collections import OrderedDict
from functools import lru_cache
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np

from gatsby_mlx import device
from gatsby_mlx.model import ops
from gatsby_mlx.model.gpt import GPT

BLOCK = 128  # positions that are attended to at a time
PART = 8  # rows that are worth a compiled step, and then a core of their own
PRIMES_KEPT = 32  # 1.5 MB each at the size of `story`


class SlotCache:
    """Keys and values of one layer: [B, H, S, D], S positions a slot.

    For a step come `positions` [B], where each row's new ones go, and `visible` [B, 1, 1, n], what it may look at.
    """

    def __init__(self, keys: mx.array, values: mx.array, positions: Any = None, visible: Any = None):
        self.keys, self.values, self.positions, self.visible = keys, values, positions, visible

    def grow(self, n: int) -> None:
        """Make room for `n` positions a slot, a multiple of BLOCK: short stories never pay for a whole context."""
        B, H, S, D = self.keys.shape
        if n > S:
            more = mx.zeros((B, H, n - S, D))
            self.keys, self.values = (mx.concatenate([old, more], axis=2) for old in (self.keys, self.values))

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Store k, v [B, H, 1, D] at each row's position and attend q [B, H, 1, D] to the positions up to it.

        Scores and weighted values are computed in blocks of BLOCK keys, each a product of one shape, and added in
        order: blocks past a row's own place add exact zeros, so they cannot change its rounding.
        """
        B, H, _, D = q.shape
        n = self.visible.shape[-1]  # a multiple of BLOCK that holds every row's position
        self.keys, self.values = self._stored(self.keys, k), self._stored(self.values, v)
        keys = self.keys[:, :, :n].reshape(B, H, n // BLOCK, BLOCK, D)
        values = self.values[:, :, :n].reshape(B, H, n // BLOCK, BLOCK, D)
        scores = (q * D**-0.5)[:, :, None] @ keys.swapaxes(-1, -2)  # [B, H, n / BLOCK, 1, BLOCK]
        scores = mx.where(self.visible, scores.reshape(B, H, 1, n), -mx.inf)
        weights = ops.softmax(scores, many=B >= PART).reshape(B, H, n // BLOCK, 1, BLOCK)
        return (weights @ values).sum(axis=2)

    def _stored(self, old: mx.array, new: mx.array) -> mx.array:
        """Return `old` [B, H, S, D] with `new` [B, H, 1, D] at each row's position; its memory is used again."""
        if len(new) == 1:
            return mx.slice_update(old, new, self.positions, axes=(2,))  # the same in a tenth of the operations
        old[mx.arange(len(new)), :, self.positions] = new[:, :, 0]
        return old


class _Recorder:
    """Causal attention over a whole prime that keeps its keys and values, for prefilling a slot."""

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        self.k, self.v = k, v
        return ops.causal_attention(q, k, v)


class _Glance:
    """Attention of a few rows to their kept keys and to new ones of their own, which are not kept."""

    def __init__(self, keys: mx.array, values: mx.array, mask: mx.array):
        self.keys, self.values, self.mask = keys, values, mask

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        keys, values = mx.concatenate([self.keys, k], axis=2), mx.concatenate([self.values, v], axis=2)
        return mx.fast.scaled_dot_product_attention(q, keys, values, scale=q.shape[-1] ** -0.5, mask=self.mask)


def _blocks(n: int) -> int:
    """Return `n` positions rounded up to whole blocks."""
    return -(-n // BLOCK) * BLOCK


class _Part:
    """Some of the slots, stepped together in one stream: their caches and the function that feeds them a character."""

    def __init__(self, model: GPT, B: int, stream: mx.ThreadLocalStream | None, compiled: bool):
        c = model.config
        self.model, self.stream = model, stream or mx.default_device()
        empty = mx.zeros((B, c.n_head, 0, c.n_embd // c.n_head))
        self.caches = [SlotCache(empty, empty) for _ in range(c.n_layer)]
        # `inputs` makes the weights arguments: as constants they would be those of the first call for ever
        self._forward = mx.compile(self._logits, inputs=model.state) if compiled else self._logits

    def _logits(self, ids, positions, visible, arrays):
        caches = [SlotCache(keys, values, positions, visible) for keys, values in arrays]
        logits = self.model(ids[:, None], caches, positions[:, None])[:, -1]
        return logits, [(cache.keys, cache.values) for cache in caches]

    def grow(self, n: int) -> None:
        for cache in self.caches:
            cache.grow(n)

    def step(self, ids: mx.array, places: np.ndarray, n: int) -> mx.array:
        """Feed ids [B] at `places` [B], the first `n` positions in view; return logits [B, V], not yet computed."""
        with mx.stream(self.stream):
            positions = mx.array(places.astype(np.int32))
            visible = (mx.arange(n)[None, :] <= positions[:, None])[:, None, None, :]
            self.grow(n)
            arrays = [(cache.keys, cache.values) for cache in self.caches]
            logits, arrays = self._forward(ids, positions, visible, arrays)
            for cache, (keys, values) in zip(self.caches, arrays, strict=True):
                cache.keys, cache.values = keys, values
            return logits


class Slots:
    """`B` rows of a model's state: prefill one, step all. Holds logits, never text. Puts the model in evaluation mode.

    Keys and values take 8 * B * n_layer * n_embd bytes a position: 1.2 GB for 64 rows of `story` at 1,024. On a CPU a
    large batch is dealt out to its cores, a part with a BLAS thread each; a small one is not worth compiling.
    """

    def __init__(self, model: GPT, B: int):
        self.model, self.B, self.block_size = model.eval(), B, model.config.block_size
        compiled = B >= PART and device.compile_works()
        n_parts = max(1, min(device.n_workers(), B // PART)) if compiled else 1
        streams = _streams(n_parts) if n_parts > 1 else [None]
        self.edges = [B * i // n_parts for i in range(n_parts + 1)]
        sizes = np.diff(self.edges).tolist()
        self.parts = [_Part(model, size, stream, compiled) for size, stream in zip(sizes, streams, strict=True)]
        self.places = np.zeros(B, np.int64)  # the position of each row's newest character
        self.logits = mx.zeros((B, model.config.vocab_size))
        self._read: OrderedDict[tuple[int, ...], tuple[mx.array, list]] = OrderedDict()

    def prefill(self, row: int, ids: list[int]) -> None:
        """Read a prime of up to block_size characters into `row`; its logits are those after the last one."""
        T = len(ids)
        logits, arrays = self._reading(tuple(ids))
        part, own = self._place(row)
        part.grow(_blocks(T))
        for cache, (k, v) in zip(part.caches, arrays, strict=True):
            cache.keys[own, :, :T] = k
            cache.values[own, :, :T] = v
        self.logits[row] = logits
        self.places[row] = T - 1
        mx.eval(self.logits, [(c.keys, c.values) for c in part.caches])

    def _reading(self, ids: tuple[int, ...]) -> tuple[mx.array, list]:
        """Return the last logits [V] and each layer's keys and values [H, T, D]; stories of one prime share them."""
        if ids not in self._read:
            recorders = [_Recorder() for _ in self.parts[0].caches]
            logits = self.model(mx.array([ids]), recorders)[0, -1]
            self._read[ids] = logits, [(recorder.k[0], recorder.v[0]) for recorder in recorders]
            mx.eval(self._read[ids])
            if len(self._read) > PRIMES_KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(ids)
        return self._read[ids]

    def release(self, row: int) -> None:
        """Take an empty row back to the start, so that it does not hold the others' attention at its length."""
        self.places[row] = -1

    def glance(self, rows: list[int], ids: list[list[int]]) -> mx.array:
        """Return the logits [R, T, V] that `rows` would have after each of the characters ids [R, T]; nothing is kept.

        Each row needs T free positions.
        """
        R, T = len(ids), len(ids[0])
        n = int(self.places[rows].max()) + 1
        places = mx.array(self.places[rows].astype(np.int32))[:, None]  # [R, 1]
        kept = mx.broadcast_to((mx.arange(n) <= places)[:, None], (R, T, n))
        new = mx.broadcast_to(mx.arange(T) <= mx.arange(T)[:, None], (R, T, T))
        mask = mx.concatenate([kept, new], axis=2)[:, None]
        arrays = [self._kept(row, n) for row in rows]
        caches = []
        for layer in range(len(arrays[0])):
            keys, values = (mx.stack([own[layer][i] for own in arrays]) for i in (0, 1))
            caches.append(_Glance(keys, values, mask))
        return self.model(mx.array(ids), caches, places + 1 + mx.arange(T))

    def _kept(self, row: int, n: int) -> list[tuple[mx.array, mx.array]]:
        """Return each layer's keys and values of one row, [H, n, D]."""
        part, own = self._place(row)
        part.grow(_blocks(n))
        return [(cache.keys[own, :, :n], cache.values[own, :, :n]) for cache in part.caches]

    def _place(self, row: int) -> tuple[_Part, int]:
        """Return the part that has `row`, and the row's number in it."""
        number = int(np.searchsorted(self.edges, row, side="right")) - 1
        return self.parts[number], row - self.edges[number]

    def step(self, ids: mx.array) -> mx.array:
        """Feed one character to each row, ids [B]; return the logits [B, V] after it.

        A row at the end of its context stays at its last position: the caller stops it before its text is used.
        """
        self.places = np.minimum(self.places + 1, self.block_size - 1)
        n = _blocks(int(self.places.max()) + 1)
        if len(self.parts) == 1:
            self.logits = self.parts[0].step(ids, self.places, n)
            return self.logits
        spans = list(pairwise(self.edges))
        with device.blas_threads(1):  # held until all is computed
            logits = [part.step(ids[a:b], self.places[a:b], n) for part, (a, b) in zip(self.parts, spans, strict=True)]
            mx.eval(logits, [[(c.keys, c.values) for c in part.caches] for part in self.parts])
        self.logits = mx.concatenate(logits)
        return self.logits


@lru_cache
def _streams(n: int) -> list[mx.ThreadLocalStream]:
    """Return `n` CPU streams, the same ones each time: a stream lasts as long as its thread."""
    return [mx.new_thread_local_stream(mx.cpu) for _ in range(n)]
