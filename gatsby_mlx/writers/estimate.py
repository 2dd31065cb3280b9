"""Estimate how long a blend takes on this machine, without a download. Unknown times stay unknown.

A server writes one story and the house writer some, and these are timed. A model for mlx-lm is not loaded. On a Mac,
the time of its stories follows from its size and the memory bandwidth: what Apple publishes for the chip, or what is
measured if the chip is not in the list. The range goes from a full batch to one story at a time. Without Metal this
rule does not hold, because the processor is slower than its memory; then only a real run can tell.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gatsby_mlx.device.memory import published_bytes_per_s, read_bytes_per_s
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import local_models, requirements
from gatsby_mlx.writers.base import StoryJob, Writer
from gatsby_mlx.writers.mlx_lm import MAX_BATCH
from gatsby_mlx.writers.specs import ModelSpec, ServerSpec, Spec

STORY_TOKENS = 180  # of a story of 130 words
NO_METAL = "without Metal the speed depends on the processor, and only a real run can measure it"
MAX_TIMED = 50  # stories to time of a writer that takes almost no time
CONTEXT = 450  # tokens in the cache, in the middle of a story
# Drafts for each story that is accepted, retries included. Both are assumptions: guided, after a sketch in which 37
# of 40 drafts passed; asked only, after a simulation with the baseline's stories (6,906 drafts for 2,000 slots).
DRAFTS_GUIDED, DRAFTS_ASKED = 1.1, 3.5
REACHED = 0.6  # of the published bandwidth
FLOP_PER_BYTE = 26  # compute per byte of bandwidth, for an Apple GPU: M1 Max, 10.4e12 / 400e9; later chips have more
WEIGHT_BYTES = 4.5 / 8  # at 4 bits, with a scale and a bias for each group of 64


@dataclass(frozen=True)
class Estimate:
    """One writer's row of a plan. `seconds` is the range (fewest, most) for its stories, None if it is unknown.

    `origin` says where a model's files are, "" if they must be downloaded. `basis` says what the estimate is based
    on, or why there is none. `drafts` is how many stories are written until enough are accepted.
    """

    writer: str
    download_bytes: int
    memory_bytes: int
    origin: str
    seconds: tuple[float, float] | None
    basis: str
    drafts: int = 0


def estimates(
    specs: Mapping[str, Spec], stories: Mapping[str, int], make_writer: Callable[[Spec], Writer]
) -> Iterator[Estimate]:
    """Yield an estimate for each writer of `specs` and its number of `stories`, with the drafts that these take."""
    bandwidth = _bandwidth() if any(isinstance(spec, ModelSpec) for spec in specs.values()) else None
    for name, spec in specs.items():
        if isinstance(spec, ModelSpec):
            drafts = round(stories[name] * (DRAFTS_GUIDED if spec.guide else DRAFTS_ASKED))
            try:
                need = requirements.needs(spec)
            except WriterError as error:  # its size is not known without the hub
                yield Estimate(name, 0, 0, "", None, error.line(), drafts)
                continue
            seconds, basis = None, NO_METAL
            if bandwidth:
                seconds, basis = _model_seconds(spec, need.weight_bytes, drafts, bandwidth)
            yield Estimate(name, need.download_bytes, need.memory_bytes, need.origin, seconds, basis, drafts)
            continue
        drafts = round(stories[name] * (DRAFTS_ASKED if isinstance(spec, ServerSpec) else 1))
        try:
            story_s, basis = measure(make_writer(spec))
            yield Estimate(name, 0, 0, "", (story_s * drafts, story_s * drafts), basis, drafts)
        except WriterError as error:
            yield Estimate(name, 0, 0, "", None, error.line(), drafts)


def story_s(active: float, size_bytes: int, kv_bytes: int, bytes_per_s: float, batch: int) -> float:
    """Return the seconds for one story if `batch` stories are written together, without the prompt.

    One step of the batch reads the weights and the cache of every story. `active` is the share of the weights that one
    token reads: the batch of a mixture of experts reads more of them. The step also multiplies each active weight once
    for each story. The slower of the two determines the time.
    """
    read_bytes = size_bytes * min(1.0, batch * active) + batch * CONTEXT * kv_bytes
    flop = 2 * batch * active * size_bytes / WEIGHT_BYTES
    step_s = max(read_bytes, flop / FLOP_PER_BYTE) / (REACHED * bytes_per_s)
    return STORY_TOKENS * step_s / batch


def _bandwidth() -> tuple[float, float, str] | None:
    """Return the memory bandwidth, lowest and highest in bytes per second, and its source; None without Metal."""
    if not requirements.usable_bytes()[1]:
        return None
    chip, published = published_bytes_per_s()
    if published:
        return *published, f"by the published memory speed of {chip}"
    speed = read_bytes_per_s()
    return speed, speed, "by its measured memory speed"


def _model_seconds(
    spec: ModelSpec, size_bytes: int, stories: int, bandwidth: tuple[float, float, str]
) -> tuple[tuple[float, float], str]:
    """Return the range of seconds for `stories` (full batch and fast; one at a time and slow), and its basis."""
    slow, fast, source = bandwidth
    usable, metal = requirements.usable_bytes()
    share = requirements.story_share(metal)
    batch = spec.batch or max(1, requirements.fitting_batch(usable - size_bytes, spec.story_bytes(), MAX_BATCH, share))
    active = local_models.active_share(spec)
    fewest = stories * story_s(active, size_bytes, spec.kv_bytes, fast, batch)
    most = stories * story_s(active, size_bytes, spec.kv_bytes, slow, 1)
    return (fewest, most), f"{source}, {batch} at once to one"


def measure(unloaded: Writer) -> tuple[float, str]:
    """Return the seconds for one story, and how many stories were written to measure it."""
    with unloaded as writer:
        n = min(writer.group, MAX_TIMED)
        jobs = [StoryJob("a cat and a hat", "Nora", 1 + i % 5, i) for i in range(n)]
        if n > 1:  # the first story of the house also loads the vocabulary
            list(writer.write(deque(jobs[:1])))
        started = time.monotonic()
        list(writer.write(deque(jobs)))
        return (time.monotonic() - started) / n, "one story measured" if n == 1 else f"{n} stories measured"
