"""What all writers that are asked in words have in common: stories and topics are prompts, drafts are completions."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from gatsby_mlx.writers.base import Draft, StoryJob, TopicJob
from gatsby_mlx.writers.prompts import Prompt, story_prompt, topic_prompt

T = TypeVar("T")
MAX_TOKENS = 320  # of a story: a document has 1,000 characters at most
# Two stories that have nothing in common but the instructions: what their prompts share, all prompts share.
PROBES = (StoryJob("a cat and a hat", "Nora", 1, 0), StoryJob("the old clock", "Theo", 5, 0))
TOPIC_PROBES = (TopicJob("pets", 10, 0), TopicJob("the sea", 10, 0))


@dataclass(frozen=True)
class Completion:
    """A model's answer: `text` without reasoning, why it ended, and what it cost (fields as in Draft)."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int
    reasoning: int
    seconds: float


class PromptedWriter(ABC):
    """A Writer whose subclass completes prompts."""

    name: str
    about: dict[str, Any]
    source: dict[str, Any]
    max_tokens: int = MAX_TOKENS
    group = 1

    @abstractmethod
    def complete(
        self, queue: deque[T], ask: Callable[[T], Prompt], probes: Sequence[T]
    ) -> Iterator[tuple[T, Completion]]:
        """Yield a completion for each item of `queue` (as `Writer.write` takes its jobs), asked as `ask` says.

        The tokens that the prompts of both `probes` begin with are taken for all prompts' own.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, queue: deque[StoryJob]) -> Iterator[Draft]:
        """Yield one draft for each job, in the order in which they end."""
        for job, c in self.complete(queue, lambda job: story_prompt(job, self.max_tokens), PROBES):
            yield Draft(job, c.text, c.finish, c.tokens_in, c.tokens_out, c.reasoning, c.seconds)

    def brainstorm(self, queue: deque[TopicJob]) -> Iterator[tuple[TopicJob, str]]:
        """Yield an answer for each job."""
        for job, c in self.complete(queue, topic_prompt, TOPIC_PROBES):
            yield job, c.text
