"""Decoding: any number of stories in a continuous batch, each row with its own prime, place, seed and end.

When a story ends, its slot's next job takes it, so the batch size stays the same; the row's draws come from its own
seed. So at one batch size a row's text is the same whatever stands in the other slots (see `slots`). Job k always has
slot k modulo the batch: matrix kernels round the rows of one product differently by their place in it (OpenBLAS on
AVX2: in batches other than 1 to 4 and 8), so a slot that fell to whoever came first would let the neighbours' lengths
into the rounding.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from gatsby_mlx import device, text
from gatsby_mlx.config import TEMP
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.model.slots import Slots
from gatsby_mlx.tokenizer import CharTokenizer

TEMP_MIN = 1e-6  # below it, logits over the temperature leave float32's range; it is as good as greedy


@dataclass(frozen=True)
class Sampling:
    """How a character is drawn: `temp` 0 is greedy; `top_k` None or 0 and `top_p` 1 are off."""

    temp: float = TEMP
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self):
        if not 0 <= self.temp < float("inf"):
            raise UsageError(f"A temperature is 0 (greedy) or more, not {self.temp}", f"Try --temp {TEMP}")
        if self.top_k is not None and self.top_k < 0:
            raise UsageError(f"top-k is 1 or more (0 is off), not {self.top_k}", "Try --top-k 40")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p lies above 0 and up to 1, not {self.top_p}", "Try --top-p 0.95")


@dataclass(frozen=True)
class Job:
    """A story to tell: its `prime` (both lines), its `seed`, and a `key` of the caller's that is handed back."""

    prime: str
    seed: int
    key: Any = None


@dataclass(frozen=True)
class Story:
    """A story told. `text` is the own story without its end marker; `finish` is "end", "limit" (max_chars) or
    "context" (no position was left). `run_on` holds all that was generated where decoding went past the end."""

    job: Job
    text: str
    finish: str
    n_chars: int
    run_on: str = ""


def draw(logits: mx.array, uniforms: mx.array, sampling: Sampling) -> mx.array:
    """Return one id a row [B], from logits [B, V] and uniforms [B] in [0, 1), by the inverse of the cumulative sum.

    Ids are taken in order of their probability, so that a small change of the distribution seldom changes the draw.
    """
    if sampling.temp == 0:
        return mx.argmax(logits, axis=-1)
    order = mx.argsort(-logits, axis=-1)
    ordered = mx.take_along_axis(logits, order, axis=-1)
    p = mx.softmax((ordered - ordered[:, :1]) / max(sampling.temp, TEMP_MIN), axis=-1)
    if sampling.top_k:
        p = p * (mx.arange(p.shape[-1]) < sampling.top_k)
    if sampling.top_p < 1:
        p = p * (mx.cumsum(p, axis=-1) - p < sampling.top_p)
    total = mx.cumsum(p, axis=-1)
    place = (total <= uniforms[:, None] * total[:, -1:]).sum(axis=-1, keepdims=True)
    place = mx.minimum(place, (p > 0).sum(axis=-1, keepdims=True) - 1)
    return mx.take_along_axis(order, place, axis=-1)[:, 0]


def uniforms(seed: int, n: int) -> np.ndarray:
    """Return the `n` float32 numbers in [0, 1) that the row with this seed draws with, one a character."""
    return np.random.Generator(np.random.Philox(seed)).random(n, np.float32)


@dataclass
class _Row:
    job: Job
    draws: np.ndarray
    ids: list[int]
    room: int  # how many characters may still come before the context is full


class Decoder:
    """Tells jobs as their slots come free. Iterate `pieces()`; add jobs at any time with `add`."""

    def __init__(
        self,
        model: GPT,
        tokenizer: CharTokenizer,
        batch: int,
        sampling: Sampling,
        max_chars: int | None = None,
        past_end: bool = False,
    ):
        if batch < 1 or (max_chars is not None and max_chars < 1):
            raise UsageError(f"A batch and a limit are 1 or more, not {batch} and {max_chars}")
        self.slots, self.tokenizer, self.sampling = Slots(model, batch), tokenizer, sampling
        self.limit, self.past_end = max_chars or model.config.block_size, past_end
        self.waiting: list[deque[tuple[Job, list[int]]]] = [deque() for _ in range(batch)]
        self.n_added = 0
        self.rows: list[_Row | None] = [None] * batch
        self.newline, self.end = tokenizer.ids.get("\n"), tokenizer.end_id

    def add(self, job: Job) -> None:
        """Queue a job for the next slot in turn.

        Raises GatsbyError if its prime is empty, leaves no room in the context, or has a character of no vocabulary.
        """
        ids = self.tokenizer.encode(job.prime)
        if not 0 < len(ids) < self.slots.block_size:
            told = f"A prime of {len(ids)} characters leaves no room in a context of {self.slots.block_size}"
            raise UsageError(told if ids else "A prime is not empty", "Choose a shorter topic" if ids else "")
        self.waiting[self.n_added % len(self.rows)].append((job, ids))
        self.n_added += 1

    def pieces(self) -> Iterator[tuple[Job, str, Story | None]]:
        """Yield (job, character, None) as characters come and (job, "", story) when one is done, until none is left.

        On a CPU one row keeps one BLAS thread busy (to wake a second one for each small product takes longer), and so
        does each part of a large batch, whose cores a helper of the prefill would go on spinning on.
        """
        one_each = len(self.rows) == 1 or len(self.slots.parts) > 1
        with device.blas_threads(1) if one_each else contextlib.nullcontext():
            yield from self._pieces()

    def _pieces(self) -> Iterator[tuple[Job, str, Story | None]]:
        while self._fill():
            live = [(i, row) for i, row in enumerate(self.rows) if row]
            u = np.zeros(len(self.rows), np.float32)
            for i, row in live:
                u[i] = row.draws[len(row.ids)]
            ids = draw(self.slots.logits, mx.array(u), self.sampling)
            self.slots.step(ids)
            mx.async_eval(self.slots.logits)
            drawn = np.array(ids)
            for i, row in live:
                yield from self._take(i, row, int(drawn[i]))

    def _fill(self) -> bool:
        for i, row in enumerate(self.rows):
            if row is None and self.waiting[i]:
                job, ids = self.waiting[i].popleft()
                room = self.slots.block_size - len(ids) + 1
                self.slots.prefill(i, ids)
                self.rows[i] = _Row(job, uniforms(job.seed, min(self.limit, room)), [], room)
        return any(self.rows)

    def _take(self, i: int, row: _Row, drawn: int) -> Iterator[tuple[Job, str, Story | None]]:
        """Add one drawn id to the row in slot `i` and close it if its story is done."""
        row.ids.append(drawn)
        ended = drawn == self.end and row.ids[-3:-1] == [self.newline, self.newline]
        if not ended or self.past_end:
            yield row.job, self.tokenizer.alphabet[drawn], None
        n = len(row.ids)
        finish = "end" if ended and not self.past_end else "limit" if n >= self.limit else "context"
        if finish == "context" and n < row.room:
            return
        everything = self.tokenizer.decode(row.ids)
        own = text.own_story(everything)
        if self.past_end and text.STORY_END in everything:
            finish = "end"
        self.rows[i] = None
        self.slots.release(i)
        yield row.job, "", Story(row.job, own.rstrip("\n"), finish, n, everything if self.past_end else "")


def decode(
    model: GPT,
    tokenizer: CharTokenizer,
    jobs: Iterable[Job],
    sampling: Sampling | None = None,
    max_chars: int | None = None,
    batch: int = 64,
    past_end: bool = False,
) -> Iterator[Story]:
    """Tell `jobs` and yield each story as it finishes; at most `max_chars` characters each (default: the context).

    With `past_end` decoding goes on past the end of the story up to `max_chars`, as the seed's own figure does.
    """
    jobs = list(jobs)
    if not jobs:
        return
    decoder = Decoder(model, tokenizer, min(batch, len(jobs)), sampling or Sampling(), max_chars, past_end)
    for job in jobs:
        decoder.add(job)
    for _, _, story in decoder.pieces():
        if story is not None:
            yield story
