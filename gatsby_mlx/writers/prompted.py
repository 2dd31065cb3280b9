"""The common part of all writers that are prompted: a job becomes a prompt, a completion becomes a draft."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.writers.base import Draft, Guided, StoryJob, TopicJob
from gatsby_mlx.writers.prompts import Prompt, story_prompt, topic_prompt
from gatsby_mlx.writers.specs import ModelSpec, ServerSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Completion:
    """A model's answer to a prompt, without its reasoning. The fields are those of `Draft`."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int
    reasoning: int
    seconds: float
    guided: Guided | None = None


class PromptedWriter(ABC):
    """A `Writer` that prompts a model. A subclass completes the prompts.

    `name` and `max_tokens` come from `spec`; the prompts ask for stories about `obsession`. `on_note` gets what a
    person should know while the writer works: that it waits for a server, say, or that a field is left out.
    """

    about: dict[str, Any]
    group = 1

    def __init__(self, spec: ModelSpec | ServerSpec, obsession: Obsession = GREEN_LIGHT):
        self.name, self.max_tokens, self.obsession = spec.name, spec.max_tokens, obsession
        self.source: dict[str, Any] = {}
        self.on_note: Callable[[str], object] = lambda text: None

    @abstractmethod
    def complete(self, queue: deque[T], make_prompt: Callable[[T], Prompt]) -> Iterator[tuple[T, Completion]]:
        """Yield (item, completion) for each item of `queue`, which is used as in `Writer.write`.

        `make_prompt` turns an item into its prompt.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, queue: deque[StoryJob]) -> Iterator[Draft]:
        """Yield one draft for each job, in the order in which they finish."""
        for job, c in self.complete(queue, self.story_prompt):
            yield Draft(job, c.text, c.finish, c.tokens_in, c.tokens_out, c.reasoning, c.seconds, c.guided)

    def brainstorm(self, queue: deque[TopicJob]) -> Iterator[tuple[TopicJob, str]]:
        """Yield (job, answer) for each job."""
        for job, c in self.complete(queue, self.topic_prompt):
            yield job, c.text

    def story_prompt(self, job: StoryJob) -> Prompt:
        """Return this writer's prompt for a story."""
        return story_prompt(job, self.max_tokens, self.obsession)

    def topic_prompt(self, job: TopicJob) -> Prompt:
        """Return this writer's prompt for topics."""
        return topic_prompt(job, self.obsession)
