"""The plan of a corpus: the topics, their writers, the levels and the heroes' names. One seed decides all of it."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from gatsby_mlx.errors import UsageError
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Bands, Obsession
from gatsby_mlx.writers.base import StoryJob

T = TypeVar("T")


@dataclass(frozen=True)
class WriteConfig:
    """What decides a corpus, byte for byte, together with its writers.

    `n` is the number of stories, a multiple of the five levels. `topics` replace brainstormed ones. Raises UsageError
    for an `n` that is not a multiple, or that does not match the topics.
    """

    n: int
    seed: int
    obsession: Obsession = GREEN_LIGHT
    topics: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.n < len(LEVELS) or self.n % len(LEVELS):
            message = f"Every topic gets {len(LEVELS)} stories, so --n must be a multiple of that, not {self.n}"
            raise UsageError(message, f"Try --n {max(len(LEVELS), round(self.n / len(LEVELS)) * len(LEVELS))}")
        if self.topics is not None and not len(self.topics) == len(set(self.topics)) == self.n_topics:
            message = f"{self.n} stories need {self.n_topics} distinct topics, not {len(set(self.topics))}"
            raise UsageError(message, "Give that many topics, or change --n")

    @property
    def n_topics(self) -> int:
        return self.n // len(LEVELS)

    @property
    def bands(self) -> Bands:
        """The band of mentions of each level."""
        return self.obsession.band


@dataclass(frozen=True)
class Plan:
    """The (topic, writer) pairs of a corpus in order, `spare` topics for slots that stay empty, the heroes' `names`."""

    topics: tuple[tuple[str, str], ...]
    spare: tuple[str, ...]
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a value that `json` writes and `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Plan":
        return cls(tuple((t, w) for t, w in content["topics"]), tuple(content["spare"]), tuple(content["names"]))

    @property
    def topics_sha256(self) -> str:
        return topics_sha256([topic for topic, _ in self.topics])


def topics_sha256(topics: Sequence[str]) -> str:
    """Return the sha256 of topics, one a line, as manifests record it."""
    return hashlib.sha256("\n".join(topics).encode()).hexdigest()


def story_seed(seed: int, topic: str, level: int, attempt: int = 0) -> int:
    """Return the seed of one attempt at a story, 0 <= seed < 2**53. It is the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{topic}/{level}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def plan(topics: Sequence[str], names: Sequence[str], seed: int) -> list[StoryJob]:
    """Return one job for each topic and level, in shuffled order; the heroes' names take turns."""
    jobs = shuffled([(topic, level) for topic in topics for level in LEVELS], seed)
    return [StoryJob(t, names[i % len(names)], k, story_seed(seed, t, k)) for i, (t, k) in enumerate(jobs)]


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """Return `items` in an order that the seed decides.

    Fisher-Yates over `random.random`, the one stream that Python promises to keep stable.
    """
    out = list(items)
    draw = random.Random(seed).random
    for i in range(len(out) - 1, 0, -1):
        j = int(draw() * (i + 1))
        out[i], out[j] = out[j], out[i]
    return out


def largest_remainder(shares: Mapping[str, float], n: int) -> dict[str, int]:
    """Divide `n` things by `shares`, which sum to 1: whole parts first, then one each to the largest remainders.

    Hamilton's method; ties go to the earlier name. Two things at .3 .3 .2 .2:

    >>> largest_remainder({"olmo": 0.3, "ministral": 0.3, "gemma": 0.2, "granite": 0.2}, 2)
    {'olmo': 1, 'ministral': 1, 'gemma': 0, 'granite': 0}
    """
    exact = {name: share * n for name, share in shares.items()}
    parts = {name: int(x + 1e-9) for name, x in exact.items()}
    order = sorted(shares, key=lambda name: -round(exact[name] - parts[name], 9))
    for name in order[: n - sum(parts.values())]:
        parts[name] += 1
    return parts


def plan_fill(
    open_slots: Mapping[int, int], pass_rates: Mapping[str, Mapping[int, float]], shares: Mapping[str, float]
) -> list[tuple[str, tuple[int, ...]]]:
    """Assign the slots that stayed empty to writers that reach their levels.

    Return (writer, levels) for each new topic.

    `open_slots` counts them by level. `pass_rates` has, by writer and level, the share (0 to 1) of attempts that
    passed. At each level the writers with half of the best rate or more divide the slots by their shares. A level that
    no writer reaches stays open.
    """
    assigned: dict[str, dict[int, int]] = {}
    for level, count in sorted(open_slots.items()):
        best = max((rates.get(level, 0.0) for rates in pass_rates.values()), default=0.0)
        able = [name for name in shares if best > 0 and pass_rates.get(name, {}).get(level, 0.0) >= best / 2]
        total = sum(shares[name] for name in able)
        for name, n in largest_remainder({name: shares[name] / total for name in able}, count).items():
            assigned.setdefault(name, {})[level] = n
    topics = []
    for name in shares:
        left = dict(assigned.get(name, {}))
        while any(left.values()):
            levels = tuple(level for level in sorted(left) if left[level])
            topics.append((name, levels))
            for level in levels:
                left[level] -= 1
    return topics
