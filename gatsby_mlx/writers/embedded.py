"""The house writer as a Writer: embedded, needs no model, writes a thousand stories in seconds."""

from collections.abc import Iterable, Iterator
from typing import Any

from gatsby_mlx.writers import house
from gatsby_mlx.writers.base import Draft, StoryJob

VERSION = 2  # raised whenever the same job gives other text


class HouseWriter:
    name = "house"

    def __init__(self):
        self.about: dict[str, Any] = {"kind": "house", "version": VERSION}

    def write(self, jobs: Iterable[StoryJob]) -> Iterator[Draft]:
        """Yield one draft for each job, in order."""
        for job in jobs:
            yield Draft(job, house.write_story(job.topic, job.name, job.level, job.seed))
