"""The plan of a corpus: which topics, at which levels, under which heroes, in which order. All of it from one seed."""

import hashlib
import random
from collections.abc import Sequence

from gatsby_mlx.prime import LEVELS
from gatsby_mlx.writers.base import StoryJob


def story_seed(seed: int, topic: str, level: int, attempt: int = 0) -> int:
    """Return the seed of one attempt at a story, 0 <= seed < 2**53, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{topic}/{level}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def plan(topics: Sequence[str], names: Sequence[str], seed: int) -> list[StoryJob]:
    """Return one job for each topic and level, in shuffled order, the names dealt out in turn."""
    jobs = [(topic, level) for topic in topics for level in LEVELS]
    draw = random.Random(seed).random
    for i in range(len(jobs) - 1, 0, -1):  # Fisher-Yates on the one stream that Python keeps stable
        j = int(draw() * (i + 1))
        jobs[i], jobs[j] = jobs[j], jobs[i]
    return [StoryJob(t, names[i % len(names)], k, story_seed(seed, t, k)) for i, (t, k) in enumerate(jobs)]
