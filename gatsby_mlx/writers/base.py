"""What a writer is: something that turns jobs into drafts. The corpus plans the jobs and judges the drafts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class StoryJob:
    """A story to be written: topic (folded), hero's name, level 1..5, and the seed that decides it."""

    topic: str
    name: str
    level: int
    seed: int


@dataclass(frozen=True)
class Draft:
    """What a writer sent for a job, uncleaned. Token counts are None for a writer that has none."""

    job: StoryJob
    text: str
    finish: str = "stop"
    tokens_in: int | None = None
    tokens_out: int | None = None


class Writer(Protocol):
    """`name` stands in manifests; `about` tells where the writer came from (repository, commit, sampling)."""

    name: str
    about: dict[str, Any]

    def write(self, jobs: Iterable[StoryJob]) -> Iterator[Draft]:
        """Yield one draft for each job, in any order."""
        ...
