"""How long a blend will take here. Nothing is downloaded for it, and no figure is given that rests on nothing.

A server writes one story, the house a few, and they are timed. A model in this process is not loaded: on a Mac its
stories take what moving its weights takes, at the memory speed that Apple publishes for the chip (or, for one that is
not in the list, at the speed measured), from one story at a time down to a full batch. Without Metal that rule does not
hold, since the processor is slower than its memory: then a real run has to be measured.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gatsby_mlx.device.memory import published_bytes_per_s, read_bytes_per_s
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import machine
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.make import make
from gatsby_mlx.writers.mlx_lm import COPIES, MAX_BATCH, MEMORY_SHARE
from gatsby_mlx.writers.specs import ModelSpec, Spec

STORY_TOKENS = 180  # of a story of 130 words
NO_METAL = "without Metal the processor decides, and nothing here tells its speed with a model of this kind"
SAMPLE = 50  # stories of a writer whose stories cost nothing
CONTEXT = 450  # tokens in the cache, half-way through a story
ACTIVE = {"gemma": 4 / 26}  # share of the weights that a token reads, where it is not all of them
REACHED = 0.6  # of the published speeds
FLOP_PER_BYTE = 26  # of an Apple GPU for each byte its memory gives: M1 Max, 10.4e12 and 400e9; the later have more
WEIGHT_BYTES = 4.5 / 8  # at 4 bits, with a scale and a bias for each 64


@dataclass(frozen=True)
class Estimate:
    """One writer's row of a plan; `seconds` for its stories, the fewest and the most, None where they are not known.

    `how` says what the seconds rest on, or why there are none.
    """

    writer: str
    download_bytes: int
    memory_bytes: int
    found: str
    seconds: tuple[float, float] | None
    how: str


def estimates(specs: Mapping[str, Spec], stories: Mapping[str, int]) -> Iterator[Estimate]:
    """Yield an estimate for each writer of `specs`, for as many first attempts as `stories` says."""
    speeds = _speeds() if any(isinstance(spec, ModelSpec) for spec in specs.values()) else None
    for name, spec in specs.items():
        if isinstance(spec, ModelSpec):
            need = machine.needs(spec)
            seconds, how = _model(spec, need.weight_bytes, stories[name], speeds) if speeds else (None, NO_METAL)
            yield Estimate(name, need.download_bytes, need.memory_bytes, need.found, seconds, how)
            continue
        try:
            each, how = _measured(spec)
            yield Estimate(name, 0, 0, "", (each * stories[name], each * stories[name]), how)
        except WriterError as error:
            yield Estimate(name, 0, 0, "", None, error.line())


def story_s(name: str, size_bytes: int, kv_bytes: int, bytes_per_s: float, batch: int) -> float:
    """Return the seconds that a story costs where `batch` are written at once, prompts not counted.

    A step reads the weights (of experts those that the batch asks for) and every story's cache, and multiplies with
    each active weight once a story; the slower of the two counts.
    """
    active = ACTIVE.get(name, 1.0)
    read = size_bytes * min(1.0, batch * active) + batch * CONTEXT * kv_bytes
    products = 2 * batch * active * size_bytes / WEIGHT_BYTES
    step = max(read, products / FLOP_PER_BYTE) / (REACHED * bytes_per_s)
    return STORY_TOKENS * step / batch


def _speeds() -> tuple[float, float, str] | None:
    """Return the memory speed, lowest and highest in bytes a second, and where it is from; None without Metal."""
    if not machine.usable_bytes()[1]:
        return None
    chip, published = published_bytes_per_s()
    if published:
        return *published, f"by the published memory speed of {chip}"
    speed = read_bytes_per_s()
    return speed, speed, "by its measured memory speed"


def _model(
    spec: ModelSpec, size: int, stories: int, speeds: tuple[float, float, str]
) -> tuple[tuple[float, float], str]:
    """Return the seconds of `stories`, fewest (full batch, highest speed) and most (one at a time), and how."""
    slow, fast, how = speeds
    left, story = MEMORY_SHARE * (machine.usable_bytes()[0] - size), COPIES * (512 + spec.max_tokens) * spec.kv_bytes
    batch = spec.batch or max(1, min(MAX_BATCH, int(left / story) if story else MAX_BATCH))
    least, most = (story_s(spec.name, size, spec.kv_bytes, *given) for given in ((fast, batch), (slow, 1)))
    return (least * stories, most * stories), f"{how}, {batch} at once to one"


def _measured(spec: Spec) -> tuple[float, str]:
    """Return the seconds that a story takes, and how many were written to know it: as many as cost nothing."""
    with make(spec) as writer:
        n = min(writer.group, SAMPLE)
        begun = time.monotonic()
        list(writer.write(deque(StoryJob("a cat and a hat", "Nora", 1 + i % 5, i) for i in range(n))))
        return (time.monotonic() - begun) / n, "one story measured" if n == 1 else f"{n} stories measured"
