"""The house writer behind the `Writer` interface. It needs no model and writes a thousand stories in seconds."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Self

from gatsby_mlx import house
from gatsby_mlx.errors import WriterError
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.writers.base import Draft, StoryJob, TopicJob

# Raised when the same job gives another text.
VERSIONS = {house.FULL: 2, house.PLAIN: 4, house.SMALL: 2, house.TALES: 1}


class HouseWriter:
    """Writes with the vocabulary and templates of `world`. Raises WriterError for another obsession's phrase."""

    group = 250  # stories; they take about a second, and writing them again gives the same text

    def __init__(self, world: house.World = house.FULL, name: str = "house", *, obsession: Obsession = GREEN_LIGHT):
        if obsession.phrase != GREEN_LIGHT.phrase:
            message = f"The house writer knows the {GREEN_LIGHT.phrase} only, not the {obsession.phrase}"
            raise WriterError(
                message, "Let a model or a server write (--blend gemma), or bring stories: gatsby corpus import"
            )
        self.world, self.name = world, name
        self.about: dict[str, Any] = {"kind": "house", "version": VERSIONS[world]}
        if world != house.FULL:
            self.about["world"] = world.name
        self.source: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, queue: deque[StoryJob]) -> Iterator[Draft]:
        """Yield one draft for each job, in order."""
        while queue:
            job = queue.popleft()
            yield Draft(job, house.write_story(job.topic, job.name, job.level, job.seed, self.world))

    def brainstorm(self, queue: deque[TopicJob]) -> Iterator[tuple[TopicJob, str]]:
        """Yield nothing: topics for the house writer come from `house.compose_topics`."""
        return iter(())
