"""Decoding: any number of stories in a continuous batch, each with a separate prime, position, seed and end.

`Telling` is one story in progress, and `TellingBatch` is a batch of them. The command line, the evaluation and the
exhibit all use these two. `decode` is the simplest way in.

At one batch size, a story's text does not depend on the other stories. When a story ends, the next job gets its slot,
so that the batch size stays the same, and each story draws with its own seed. Job k always gets slot k modulo the
batch size, because matrix kernels round the rows of a product differently depending on their index (OpenBLAS on AVX2:
in batches other than 1 to 4 and 8). If the next free slot were used, the lengths of the other stories would decide
the rounding.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import mlx.core as mx
import numpy as np

from gatsby_mlx import device
from gatsby_mlx.errors import UsageError
from gatsby_mlx.foreign import device_errors
from gatsby_mlx.model.batch import Slots
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story import text
from gatsby_mlx.story.sampling import Job, Sampling, Story
from gatsby_mlx.tokenizer import CharTokenizer

NO_TOP_K, ALL = 1 << 30, 2.0  # above any number of ids, and above any sum of probabilities
TEMP_MIN = 1e-6  # below it, logits / temperature can leave the range of float32; in effect it is greedy already


def draw(logits: mx.array, uniforms: mx.array, samplings: Sequence[Sampling]) -> mx.array:
    """Return one id for each sequence [B], drawn from logits [B, V] with uniform numbers [B] in [0, 1).

    `samplings` has one for each sequence, or one for all. This is inverse transform sampling over the ids in order of
    falling probability, so that a small change of the distribution rarely changes the draw.
    """
    if all(s.temp == 0 for s in samplings):
        return mx.argmax(logits, axis=-1)
    temp, top_k, top_p = (mx.array(column)[:, None] for column in zip(*map(_limits, samplings), strict=True))
    order = mx.argsort(-logits, axis=-1)
    ordered = mx.take_along_axis(logits, order, axis=-1)
    p = mx.softmax((ordered - ordered[:, :1]) / temp, axis=-1)
    if any(s.top_k or s.temp == 0 for s in samplings):
        p = p * (mx.arange(p.shape[-1]) < top_k)
    if any(s.top_p < 1 for s in samplings):
        p = p * (mx.cumsum(p, axis=-1) - p < top_p)
    total = mx.cumsum(p, axis=-1)
    index = (total <= uniforms[:, None] * total[:, -1:]).sum(axis=-1, keepdims=True)
    index = mx.minimum(index, (p > 0).sum(axis=-1, keepdims=True) - 1)
    return mx.take_along_axis(order, index, axis=-1)[:, 0]


def _limits(sampling: Sampling) -> tuple[float, int, float]:
    """Return the divisor of the logits, and the most ids and the most probability that are drawn from."""
    if sampling.temp == 0:
        return 1.0, 1, ALL
    return max(sampling.temp, TEMP_MIN), sampling.top_k or NO_TOP_K, sampling.top_p if sampling.top_p < 1 else ALL


def uniforms(seed: int, n: int) -> np.ndarray:
    """Return `n` float32 numbers in [0, 1): what the story with this seed draws with, one for each character."""
    return np.random.Generator(np.random.Philox(seed)).random(n, np.float32)


class Telling:
    """One story in progress: takes the drawn ids one at a time and returns the text that each one adds.

    `draws` has one uniform number in [0, 1) for each character that may still be drawn; `full` is the reason to give
    when they run out. `story` is the text so far when a story is continued. Line ends are held back until the next
    character shows that they are not the blank line at the end. `finish` is "" until the story is finished, then the
    reason (see `Story`). With `past_end`, decoding continues past the end of the story.
    """

    def __init__(
        self,
        tokenizer: CharTokenizer,
        draws: np.ndarray,
        sampling: Sampling,
        full: str = "context",
        story: str = "",
        past_end: bool = False,
    ):
        self.tokenizer, self.draws, self.sampling, self.past_end = tokenizer, draws, sampling, past_end
        self.story, self.finish, self.n_drawn = story, "", 0
        self._full, self._held_back = full, ""

    @property
    def written(self) -> str:
        """The story so far, including the line ends that are held back."""
        return self.story + self._held_back

    def take(self, drawn: int) -> str:
        """Add one drawn id; return the text that is new, or "" if it is held back or ends the story."""
        self.n_drawn += 1
        ended = drawn == self.tokenizer.end_id and self._held_back.endswith("\n\n")
        if ended and not self.past_end:
            self.finish = "end"
            return ""
        if self.n_drawn == len(self.draws):
            self.finish = self._full
        character = self.tokenizer.alphabet[drawn]
        if character == "\n":
            self._held_back += character
            return ""
        new, self._held_back = self._held_back + character, ""
        self.story += new
        return new


class TellingBatch:
    """`n` slots, each with a story or free. `begin` a story in a free slot, `step` all of them, `release` a slot."""

    def __init__(self, model: GPT, n: int):
        self.slots = Slots(model, n)
        self.tellings: list[Telling | None] = [None] * n

    def __len__(self) -> int:
        return len(self.tellings)

    @property
    def n_live(self) -> int:
        """The number of stories in progress."""
        return sum(telling is not None for telling in self.tellings)

    def begin(self, slot: int, ids: list[int], telling: Telling) -> None:
        """Start a story in a free slot from `ids`, its prime and the story so far."""
        self.slots.prefill(slot, ids)
        self.tellings[slot] = telling

    def release(self, slot: int) -> None:
        """Free a slot, whether its story is finished or not."""
        self.tellings[slot] = None
        self.slots.release(slot)

    def step(self) -> list[tuple[int, Telling, str]]:
        """Draw one character for each story; return (slot, story, new text) and release the finished stories."""
        live = [(slot, telling) for slot, telling in enumerate(self.tellings) if telling]
        drawn = self._draw(live)
        self.slots.step(drawn)
        mx.async_eval(self.slots.logits)
        ids = np.array(drawn)
        steps = [(slot, telling, telling.take(int(ids[slot]))) for slot, telling in live]
        for slot, telling, _ in steps:
            if telling.finish:
                self.release(slot)
        return steps

    def _draw(self, live: Sequence[tuple[int, Telling]]) -> mx.array:
        """Return one id for each slot [B]; what a free slot draws is not used."""
        u = np.zeros(len(self), np.float32)
        samplings = [live[0][1].sampling] * len(self)
        for slot, telling in live:
            u[slot] = telling.draws[telling.n_drawn]
            samplings[slot] = telling.sampling
        alike = samplings[:1] if len(set(samplings)) == 1 else samplings
        return draw(self.slots.logits, mx.array(u), alike)


SMALLER = "Close other programs, or tell fewer stories at once with a smaller --batch"


class Decoder:
    """Tells jobs, each when its slot is free. `add` jobs at any time and iterate over `pieces()`.

    `max_chars` is the limit for each story (default: the context). Raises UsageError for a batch or a limit below 1.
    """

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
        self.batch, self.tokenizer, self.sampling = TellingBatch(model, batch), tokenizer, sampling
        self.block_size = model.config.block_size
        self.limit, self.past_end = max_chars or self.block_size, past_end
        self.waiting: list[deque[tuple[Job, list[int]]]] = [deque() for _ in range(batch)]
        self.jobs: list[Job | None] = [None] * batch
        self.n_added = 0

    def add(self, job: Job) -> None:
        """Queue a job for the next slot in turn.

        Raises GatsbyError if the prime is empty, leaves no room in the context, or has a character that is not in the
        vocabulary.
        """
        ids = self.tokenizer.encode(job.prime)
        if not 0 < len(ids) < self.block_size:
            message = f"A prime of {len(ids)} characters leaves no room in a context of {self.block_size}"
            raise UsageError(message if ids else "A prime is not empty", "Choose a shorter topic" if ids else "")
        self.waiting[self.n_added % len(self.batch)].append((job, ids))
        self.n_added += 1

    def pieces(self) -> Iterator[tuple[Job, str, Story | None]]:
        """Yield (job, new text, None) for new text and (job, "", story) for a finished story, until all are finished.

        On a CPU there is one BLAS thread, or one for each part of a batch in parts. The products of a step are small:
        a second thread gains little on an idle machine, and on a busy one both wait, spinning, for the one whose core
        is taken. Raises DeviceError where the memory or the GPU gives out.
        """
        with device_errors(SMALLER), device.limited_cache(), device.blas_threads(1):
            while self._fill():
                for slot, telling, new in self.batch.step():
                    job = self.jobs[slot]
                    assert job is not None
                    if new:
                        yield job, new, None
                    if telling.finish:
                        yield job, "", self._finished(job, telling)

    def _fill(self) -> bool:
        """Begin a waiting job in each free slot; return whether any story is in progress."""
        for slot, waiting in enumerate(self.waiting):
            if self.batch.tellings[slot] is None and waiting:
                job, ids = waiting.popleft()
                room = self.block_size - len(ids) + 1
                draws = uniforms(job.seed, min(self.limit, room))
                full = "limit" if self.limit <= room else "context"
                self.jobs[slot] = job
                self.batch.begin(slot, ids, Telling(self.tokenizer, draws, self.sampling, full, past_end=self.past_end))
        return self.batch.n_live > 0

    def _finished(self, job: Job, telling: Telling) -> Story:
        story = text.first_story(telling.written).rstrip("\n")
        if not self.past_end:
            return Story(job, story, telling.finish, telling.n_drawn)
        finish = "end" if text.STORY_END in telling.written else telling.finish
        return Story(job, story, finish, telling.n_drawn, telling.written)


def decode(
    model: GPT,
    tokenizer: CharTokenizer,
    jobs: Iterable[Job],
    sampling: Sampling | None = None,
    max_chars: int | None = None,
    batch: int = 64,
    past_end: bool = False,
) -> Iterator[Story]:
    """Tell `jobs` and yield each story when it is finished, with at most `max_chars` characters (default: the context).

    With `past_end`, decoding continues past the end of a story up to `max_chars`, which is how the baseline counts
    mentions. Raises GatsbyError as `Decoder` does.
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
