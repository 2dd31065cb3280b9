"""The house writer as a Writer: embedded, needs no model, writes a thousand stories in seconds."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Self

from gatsby_mlx.writers import house
from gatsby_mlx.writers.base import Draft, StoryJob, TopicJob

VERSIONS = {house.WHOLE: 2, house.PLAIN: 4, house.SMALL: 2}  # raised whenever the same job gives other text


class HouseWriter:
    """Writes in a world of its words: all of them, or a small one."""

    group = 250  # a second's work, written again as it was

    def __init__(self, world: house.World = house.WHOLE, name: str = "house"):
        self.world, self.name = world, name
        self.about: dict[str, Any] = {"kind": "house", "version": VERSIONS[world]}
        if world != house.WHOLE:
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
        """Yield nothing: the house's topics are the topic bank (`house.compose_topics`)."""
        return iter(())
