"""The plan of a corpus: which topics, by which writers, at which levels, under which heroes. All from one seed."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gatsby_mlx.corpus.gates import BANDS, Bands
from gatsby_mlx.errors import UsageError
from gatsby_mlx.prime import LEVELS
from gatsby_mlx.writers.base import StoryJob


@dataclass(frozen=True)
class WriteConfig:
    """What decides a corpus, byte for byte, with its writers: how many stories, the seed, and the bands of the levels.

    `topics` are a person's own, in place of brainstormed ones. Raises UsageError for a number that is no multiple of
    the levels, or that the topics do not make.
    """

    n: int
    seed: int
    bands: Bands | None = None
    topics: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.n < len(LEVELS) or self.n % len(LEVELS):
            told = f"A corpus has every topic at {len(LEVELS)} levels: its stories are a multiple of that, not {self.n}"
            raise UsageError(told, f"Try --n {max(len(LEVELS), round(self.n / len(LEVELS)) * len(LEVELS))}")
        if self.topics is not None and not len(self.topics) == len(set(self.topics)) == self.n_topics:
            told = f"{self.n} stories need {self.n_topics} distinct topics, not {len(set(self.topics))}"
            raise UsageError(told, "Give as many topics, or ask for other stories with --n")

    @property
    def n_topics(self) -> int:
        return self.n // len(LEVELS)

    @property
    def levels(self) -> Bands:
        return self.bands or BANDS


@dataclass(frozen=True)
class Plan:
    """The topics of a corpus with their writers, in order, spare ones for places that stay empty, the heroes' names."""

    topics: tuple[tuple[str, str], ...]
    spare: tuple[str, ...]
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Plan":
        return cls(tuple((t, w) for t, w in content["topics"]), tuple(content["spare"]), tuple(content["names"]))

    @property
    def topics_sha256(self) -> str:
        return hashlib.sha256("\n".join(topic for topic, _ in self.topics).encode()).hexdigest()


def story_seed(seed: int, topic: str, level: int, attempt: int = 0) -> int:
    """Return the seed of one attempt at a story, 0 <= seed < 2**53, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{topic}/{level}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def plan(topics: Sequence[str], names: Sequence[str], seed: int) -> list[StoryJob]:
    """Return one job for each topic and level, in shuffled order, the names dealt out in turn."""
    jobs = shuffled([(topic, level) for topic in topics for level in LEVELS], seed)
    return [StoryJob(t, names[i % len(names)], k, story_seed(seed, t, k)) for i, (t, k) in enumerate(jobs)]


def shuffled(items: Sequence, seed: int) -> list:
    """Return `items` in an order that the seed decides (Fisher-Yates on the one stream that Python keeps stable)."""
    out = list(items)
    draw = random.Random(seed).random
    for i in range(len(out) - 1, 0, -1):
        j = int(draw() * (i + 1))
        out[i], out[j] = out[j], out[i]
    return out


def largest_remainder(shares: Mapping[str, float], n: int) -> dict[str, int]:
    """Deal `n` things by `shares` (which sum to 1): whole parts first, then one each to the largest remainders.

    Hamilton's method; ties go to the earlier name. Two things at .3 .3 .2 .2:

    >>> largest_remainder({"olmo": 0.3, "ministral": 0.3, "gemma": 0.2, "granite": 0.2}, 2)
    {'olmo': 1, 'ministral': 1, 'gemma': 0, 'granite': 0}
    """
    exact = {name: share * n for name, share in shares.items()}
    dealt = {name: int(x + 1e-9) for name, x in exact.items()}
    order = sorted(shares, key=lambda name: -round(exact[name] - dealt[name], 9))
    for name in order[: n - sum(dealt.values())]:
        dealt[name] += 1
    return dealt


def fill(
    open_places: Mapping[int, int], reach: Mapping[str, Mapping[int, float]], shares: Mapping[str, float]
) -> list[tuple[str, tuple[int, ...]]]:
    """Deal the places that stayed empty to writers that reach their levels: (writer, levels) for each new topic.

    `open_places` counts them by level; `reach` tells, by writer and level, in 0..1, how many of its attempts at that
    level came into its band. Only writers within half of the best are asked, by their shares; a level that nobody
    reaches stays open.
    """
    wanted: dict[str, dict[int, int]] = {}
    for level, count in sorted(open_places.items()):
        best = max((own.get(level, 0.0) for own in reach.values()), default=0.0)
        able = [name for name in shares if best > 0 and reach.get(name, {}).get(level, 0.0) >= best / 2]
        total = sum(shares[name] for name in able)
        for name, n in largest_remainder({name: shares[name] / total for name in able}, count).items() if able else ():
            wanted.setdefault(name, {})[level] = n
    asked = []
    for name in shares:
        left = dict(wanted.get(name, {}))
        while any(left.values()):
            levels = tuple(level for level in sorted(left) if left[level])
            asked.append((name, levels))
            for level in levels:
                left[level] -= 1
    return asked
