"""How long a blend will take here, from a short measurement; nothing is downloaded for it."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gatsby_mlx.device.memory import read_bytes_per_s
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import machine
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.make import make
from gatsby_mlx.writers.specs import ModelSpec, Spec

STORY_TOKENS = 180  # of a story of 130 words
ACTIVE = {"gemma": 0.16}  # share of the weights that a token reads, where it is not all of them (4 of 26 billion)
EFFICIENCY = 0.6  # of the memory's speed that decoding reaches


@dataclass(frozen=True)
class Estimate:
    """One writer's row of a plan; `seconds` for its stories, None where nothing could be measured, and `how`."""

    writer: str
    download_bytes: int
    memory_bytes: int
    found: str
    seconds: float | None
    how: str


def estimates(specs: Mapping[str, Spec], stories: Mapping[str, int]) -> Iterator[Estimate]:
    """Yield an estimate for each writer of `specs`, for as many first attempts as `stories` says."""
    speed: float | None = None
    for name, spec in specs.items():
        if not isinstance(spec, ModelSpec):
            try:
                yield Estimate(name, 0, 0, "", _seconds_a_story(spec) * stories[name], "one story measured")
            except WriterError as error:
                yield Estimate(name, 0, 0, "", None, str(error))
            continue
        need = machine.needs(spec)
        speed = speed or read_bytes_per_s()
        size = spec.size_bytes or need.memory_bytes
        step_s = ACTIVE.get(name, 1.0) * size / (EFFICIENCY * speed)
        seconds = step_s * STORY_TOKENS * stories[name]
        yield Estimate(
            name, need.download_bytes, need.memory_bytes, need.found, seconds, "by memory speed, one at a time"
        )


def _seconds_a_story(spec: Spec) -> float:
    job = StoryJob("a cat and a hat", "Nora", 2, 1)
    with make(spec) as writer:
        begun = time.monotonic()
        list(writer.write(deque([job])))
        return time.monotonic() - begun
