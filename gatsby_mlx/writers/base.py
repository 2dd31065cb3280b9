"""The interface of a writer, which turns jobs into drafts. The corpus plans the jobs and judges the drafts."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self


@dataclass(frozen=True)
class StoryJob:
    """A story to write: its topic (folded), the hero's name, its level 1 to 5, and the seed of its draws."""

    topic: str
    name: str
    level: int
    seed: int


@dataclass(frozen=True)
class TopicJob:
    """A request for `n` topics on a theme ("pets", "the sea"), and the seed of its draws."""

    theme: str
    n: int
    seed: int


@dataclass(frozen=True)
class Guided:
    """What a guide did in one story.

    `forced` counts the tokens that had a single choice or came from an opener or another list, `leaned` the mentions
    that came while the guide leaned to one, `opened` those that came with an opener.
    """

    forced: int
    leaned: int
    opened: int


@dataclass(frozen=True)
class Draft:
    """A writer's answer to a job: `text` is not cleaned yet, but holds no reasoning.

    `finish` is "stop" if the writer ended the story, "length" if it reached the token limit, "reasoning" if it never
    finished its reasoning, "stuck" if its guide allowed no token, or another reason that a server gave. Token counts
    are None for a writer without tokens.
    `reasoning` is the number of characters of reasoning that were removed, `seconds` the time from the request to the
    last token, `guided` what a guide did, None without one.
    """

    job: StoryJob
    text: str
    finish: str = "stop"
    tokens_in: int | None = None
    tokens_out: int | None = None
    reasoning: int = 0
    seconds: float | None = None
    guided: Guided | None = None


class Writer(Protocol):
    """Turns jobs into drafts. Use it in a `with` block: entering it loads the model, leaving it frees the memory.

    `name` identifies the writer in manifests. `about` describes it (repository, revision, sampling); together with a
    job it determines the draft. `source` describes the files or the model in use, and is filled on entering the block.
    `group` is the number of drafts that the journal saves in one transaction: 1 where a draft takes seconds, more
    where it takes almost no time.
    """

    name: str
    about: dict[str, Any]
    source: dict[str, Any]
    group: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def write(self, queue: deque[StoryJob]) -> Iterator[Draft]:
        """Yield one draft for each job, in any order. Jobs are taken from the left of `queue`.

        The caller may add jobs to `queue` between two drafts. The iterator ends when the queue is empty and no story
        is in progress.
        """
        ...

    def brainstorm(self, queue: deque[TopicJob]) -> Iterator[tuple[TopicJob, str]]:
        """Yield (job, answer) for each job, with one topic on each line of the answer.

        A writer that cannot invent topics yields nothing.
        """
        ...
