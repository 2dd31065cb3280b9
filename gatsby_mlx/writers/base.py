"""What a writer is: something that turns jobs into drafts. The corpus plans the jobs and judges the drafts."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self


@dataclass(frozen=True)
class StoryJob:
    """A story to be written: topic (folded), hero's name, level 1..5, and the seed that decides it."""

    topic: str
    name: str
    level: int
    seed: int


@dataclass(frozen=True)
class TopicJob:
    """A request for `n` topics on a theme ("pets", "the sea"), and the seed that decides them."""

    theme: str
    n: int
    seed: int


@dataclass(frozen=True)
class Draft:
    """What a writer sent for a job, uncleaned, its reasoning split off.

    `finish` is "stop" where the writer ended by itself, "length" where the limit cut it, "reasoning" where it never
    came out of its reasoning, else what a server said. Token counts are None for a writer that has none; `reasoning`
    counts the characters split off; `seconds` are from the request to the last token.
    """

    job: StoryJob
    text: str
    finish: str = "stop"
    tokens_in: int | None = None
    tokens_out: int | None = None
    reasoning: int = 0
    seconds: float | None = None


class Writer(Protocol):
    """Turns jobs into drafts inside a `with` block, which loads what it needs and frees it.

    `name` stands in manifests; `about` tells where the writer came from (repository, commit, sampling) and, with a job,
    decides the draft. `source` tells, once it was loaded, what was found on this machine. `group` is how many drafts
    the journal keeps in one transaction: 1 where a draft costs seconds, more where it costs nothing.
    """

    name: str
    about: dict[str, Any]
    source: dict[str, Any]
    group: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def write(self, queue: deque[StoryJob]) -> Iterator[Draft]:
        """Yield one draft for each job, in any order, taking jobs from the left of `queue`.

        More jobs may be put into it between two drafts; the writer ends when it is empty and nothing is under way.
        """
        ...

    def brainstorm(self, queue: deque[TopicJob]) -> Iterator[tuple[TopicJob, str]]:
        """Yield an answer, a topic a line, for each job; a writer without ideas yields none."""
        ...
