"""The state of a batch that is being decoded: each sequence has a slot with its keys and values.

Slots have logits and positions, never text. On a CPU a large batch is split into parts, one for each core.

A slot keeps position p in column `first + p` of the cache. On a GPU the newest characters of all slots share a column,
so a step writes one slice, and `first` differs:

    a story of 5 characters  . . a b c d e
    a story of 3             . . . . x y z

On a CPU `first` is 0 for all. A column then means the same position whatever the other slots hold, and with it the
rounding of a sum over positions.
"""

import copy
from collections import OrderedDict
from functools import lru_cache
from itertools import pairwise

import mlx.core as mx
import numpy as np

from gatsby_mlx import device, kernels
from gatsby_mlx.model.cache import GrowingCache, LookaheadCache, SlotCache
from gatsby_mlx.model.gpt import GPT

GROWTH = 128  # a cache grows by this many columns: a multiple of `kernels.cpu.KEY_BLOCK`
PART = 8  # the fewest sequences for which a compiled step pays off, and a separate core for each so many
CACHED_PRIMES = 32  # 1.5 MB each at the size of `story`

KeysValues = tuple[mx.array, mx.array]


def _rounded_up(n: int) -> int:
    """Return the smallest multiple of GROWTH that is `n` or more."""
    return -(-n // GROWTH) * GROWTH


class _Part:
    """Some of the slots, computed together in one stream: their caches and the function that makes a step."""

    def __init__(self, model: GPT, B: int, stream: mx.ThreadLocalStream | None, compiled: bool):
        c = model.config
        self.model, self.stream = model, stream or mx.default_device()
        empty = mx.zeros((B, c.n_head, 0, c.n_embd // c.n_head))
        self.caches = [SlotCache(empty, empty) for _ in range(c.n_layer)]
        # `inputs` makes the weights arguments of the compiled function. Without it they would be constants.
        self._forward = mx.compile(self._logits, inputs=model.state) if compiled else self._logits

    def _logits(
        self, ids: mx.array, positions: mx.array, columns: mx.array, visible: mx.array, arrays: list[KeysValues]
    ) -> tuple[mx.array, list[KeysValues]]:
        """Return the logits [B, V] after ids [B] at positions [B], and the new keys and values of each layer."""
        caches = [SlotCache(keys, values, columns, visible) for keys, values in arrays]
        logits = self.model(ids[:, None], caches, positions[:, None])[:, -1]
        return logits, [(cache.keys, cache.values) for cache in caches]

    def grow(self, n: int) -> None:
        """Allocate at least `n` columns in each slot."""
        for cache in self.caches:
            cache.grow(n)

    def step(self, ids: mx.array, positions: np.ndarray, first: np.ndarray, n: int) -> mx.array:
        """Return the logits [B, V], not yet computed, after ids [B] at `positions` [B].

        `first` [B] are the columns of position 0. The columns of the positions are below `n`.
        """
        with mx.stream(self.stream):
            at, start = mx.array(positions.astype(np.int32)), mx.array(first.astype(np.int32))  # [B] each
            columns = start + at
            visible = mx.arange(n)[None, :] <= columns[:, None]  # [B, n]
            if first.any():
                visible = visible & (mx.arange(n)[None, :] >= start[:, None])
            self.grow(n)
            arrays = [(cache.keys, cache.values) for cache in self.caches]
            logits, arrays = self._forward(ids, at, columns, visible[:, None, None, :], arrays)
            for cache, (keys, values) in zip(self.caches, arrays, strict=True):
                cache.keys, cache.values = keys, values
            return logits


class Slots:
    """`B` slots of a model: `prefill` one with a prime, `step` all of them. Puts the model in evaluation mode.

    Keys and values take 8 * B * n_layer * n_embd bytes for each position: 1.2 GB for 64 slots of `story` at 1,024
    positions. On a CPU a large batch is split over the cores, and each part uses one BLAS thread. A small batch is not
    compiled, because compiling would take longer than it saves.
    """

    def __init__(self, model: GPT, B: int):
        self.model, self.B, self.block_size = model.eval(), B, model.config.block_size
        compiled = B >= PART and device.compile_works()
        n_parts = max(1, min(device.n_workers(), B // PART)) if compiled else 1
        streams = _streams(n_parts) if n_parts > 1 else [None]
        self.edges = [B * i // n_parts for i in range(n_parts + 1)]
        sizes = np.diff(self.edges).tolist()
        stored = _stored(model) if compiled else model
        self.parts = [_Part(stored, size, stream, compiled) for size, stream in zip(sizes, streams, strict=True)]
        self.positions = np.full(B, -1)  # the position of the newest character in each slot, -1 before the first one
        self.used = np.zeros(B, bool)  # which slots hold a story
        self.column: int | None = None if kernels.on_cpu() else 0  # of the newest characters, where they share one
        self.logits = mx.zeros((B, model.config.vocab_size))
        self._primes: OrderedDict[tuple[int, ...], tuple[mx.array, list[KeysValues]]] = OrderedDict()

    def prefill(self, slot: int, ids: list[int]) -> None:
        """Fill `slot` with a prime of 1 to block_size ids; its logits are then those after the last one."""
        T = len(ids)
        logits, arrays = self._read(tuple(ids))
        self._make_room(T)
        self.positions[slot], self.used[slot] = T - 1, True
        part, index = self._part_of(slot)
        first = int(self.first[slot])
        part.grow(_rounded_up(first + T))
        for cache, (k, v) in zip(part.caches, arrays, strict=True):
            cache.keys[index, :, first : first + T] = k  # [H, T, D]
            cache.values[index, :, first : first + T] = v
        self.logits[slot] = logits
        kernels.compute(self.logits, [(c.keys, c.values) for c in part.caches])

    @property
    def first(self) -> np.ndarray:
        """The column [B] of position 0 in each slot."""
        return np.zeros(self.B, np.int64) if self.column is None else self.column - self.positions

    def _make_room(self, T: int) -> None:
        """Let T characters end at the shared column, if there is one."""
        if self.column is None:
            return
        if not self.used.any():
            self.column = T - 1
        elif self.column < T - 1:
            self._shift(T - 1 - self.column)

    def _shift(self, n: int) -> None:
        """Move the shared column by `n`, and the caches with it."""
        assert self.column is not None
        self.column += n
        for part in self.parts:
            for cache in part.caches:
                cache.shift(n)

    def _read(self, ids: tuple[int, ...]) -> tuple[mx.array, list[KeysValues]]:
        """Return the last logits [V] and the keys and values [H, T, D] of each layer, cached for the next story."""
        if ids not in self._primes:
            caches = [GrowingCache() for _ in self.parts[0].caches]
            logits = self.model(mx.array([ids]), caches)[0, -1]
            self._primes[ids] = logits, [cache.first() for cache in caches]
            kernels.compute(self._primes[ids])
            if len(self._primes) > CACHED_PRIMES:
                self._primes.popitem(last=False)
        self._primes.move_to_end(ids)
        return self._primes[ids]

    def release(self, slot: int) -> None:
        """Reset a slot that is no longer used, so that its length does not make the steps of the others longer."""
        self.positions[slot], self.used[slot] = -1, False

    def lookahead(self, slots: list[int], ids: list[list[int]]) -> mx.array:
        """Return the logits [B, T, V] that B `slots` would have after each of ids [B, T]; no slot is changed.

        Each slot needs T free positions.
        """
        B, T = len(ids), len(ids[0])
        n = int(self.positions[slots].max()) + 1
        at = mx.array(self.positions[slots].astype(np.int32))[:, None]  # [B, 1]
        cached = mx.broadcast_to((mx.arange(n) <= at)[:, None], (B, T, n))
        new = mx.broadcast_to(mx.arange(T) <= mx.arange(T)[:, None], (B, T, T))
        mask = mx.concatenate([cached, new], axis=2)[:, None]  # [B, 1, T, n + T]
        arrays = [self._cached(slot, n) for slot in slots]
        caches = []
        for layer in range(len(arrays[0])):
            keys, values = (mx.stack([of_slot[layer][i] for of_slot in arrays]) for i in (0, 1))  # [B, H, n, D]
            caches.append(LookaheadCache(keys, values, mask))
        return self.model(mx.array(ids), caches, at + 1 + mx.arange(T))

    def _cached(self, slot: int, n: int) -> list[KeysValues]:
        """Return the keys and values [H, n, D] of one slot in each layer, from position 0."""
        part, index = self._part_of(slot)
        first = int(self.first[slot])
        part.grow(_rounded_up(first + n))
        columns = slice(first, first + n)
        return [(cache.keys[index, :, columns], cache.values[index, :, columns]) for cache in part.caches]

    def _part_of(self, slot: int) -> tuple[_Part, int]:
        """Return the part of `slot` and the index of the slot in it."""
        number = int(np.searchsorted(self.edges, slot, side="right")) - 1
        return self.parts[number], slot - self.edges[number]

    def step(self, ids: mx.array) -> mx.array:
        """Add one character to each slot, ids [B]; return the logits [B, V] after it.

        A slot at the end of the context stays at the last position. The caller has to stop such a story.
        """
        self.positions = np.where(self.used, np.minimum(self.positions + 1, self.block_size - 1), 0)
        if self.column is not None:
            self.column += 1
            if (unseen := int(self.first.min()) // GROWTH * GROWTH) > 0:
                self._shift(-unseen)
        first = self.first
        n = _rounded_up(int((first + self.positions).max()) + 1)
        if len(self.parts) == 1:
            self.logits = self.parts[0].step(ids, self.positions, first, n)
            return self.logits
        spans = list(pairwise(self.edges))
        with device.blas_threads(1):  # until everything is computed
            logits = [
                part.step(ids[a:b], self.positions[a:b], first[a:b], n)
                for part, (a, b) in zip(self.parts, spans, strict=True)
            ]
            mx.eval(logits, [[(c.keys, c.values) for c in part.caches] for part in self.parts])
        self.logits = mx.concatenate(logits)
        return self.logits


def _stored(model: GPT) -> GPT:
    """Return a model with the weights of `model`, of which the large ones are stored as a batch reads them fastest."""
    other = copy.deepcopy(model)  # shares the memory of the other weights
    for block in other.h:
        for linear in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc):  # reading mlp.c_proj gains nothing
            linear.weight = kernels.stored(linear.weight)
    mx.eval(other.parameters())
    return other


@lru_cache
def _streams(n: int) -> list[mx.ThreadLocalStream]:
    """Return `n` CPU streams, the same ones each time: a stream exists as long as its thread."""
    return [mx.new_thread_local_stream(mx.cpu) for _ in range(n)]
