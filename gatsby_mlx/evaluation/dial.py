"""The dial: does a model tell more of the light the higher its level is set, and how surely.

dial = measure(told.stories, told.run_on, corpus=corpus_dials(documents)[0].means)
dial.to_json()["levels"][4]["mentions"]
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gatsby_mlx import prime, text
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation import stats
from gatsby_mlx.evaluation.stats import Interval, Trend
from gatsby_mlx.evaluation.stories import SEED_CHARS, Plan, header_of

if TYPE_CHECKING:  # decode imports MLX: the figures of stories already told do without it
    from gatsby_mlx.model.decode import Story


class Counted(NamedTuple):
    """What a dial needs of one story."""

    topic: str
    level: int
    mentions: int
    distinct: int
    words: int
    ended: bool


@dataclass(frozen=True)
class LevelFigures:
    """One level: mean mentions a story with the 95% interval over topics (`low`, `high`: NaN with a single topic).

    `distinct_mentions`, with an interval of its own, counts repeated sentences once; `per_100_words` is all mentions
    over all words; `n` is the number of stories and `ended` the share of them, 0 to 1, that came to their end.
    """

    level: int
    mentions: float
    distinct_mentions: float
    low: float
    high: float
    per_100_words: float
    n: int
    ended: float
    distinct_low: float = math.nan
    distinct_high: float = math.nan


class SeedCount(NamedTuple):
    """The seed's own figure: mean occurrences by level, over `n` texts a level, the shortest of `chars` characters.

    `own` counts the very same texts up to the end of their own story: the difference is the artefact.
    """

    levels: tuple[float, ...]
    n: int
    chars: int
    own: tuple[float, ...] = ()

    @property
    def note(self) -> str:
        return (
            f"occurrences of 'green' in {self.chars} characters that run on past the end of the story, as the seed "
            f"counts: the next document's control line is among them; {self.n} a level, for comparison only"
        )


@dataclass(frozen=True)
class Dial:
    """A dial as read. `seed_count` is None where it was not read; `corpus` holds the five means of what was taught.

    `spearman` is pooled over all stories; `trend` is Page's test over topics, None with a single one; `topics_rising`
    the share of topics whose five means rise strictly; `settings` are the plan's own, for the record.
    """

    levels: tuple[LevelFigures, ...]
    spearman: float
    strictly_rising: bool
    adjacent_auc: tuple[float, ...]
    topics: int
    seeds: int
    seed_count: SeedCount | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    spearman_interval: Interval | None = None
    trend: Trend | None = None
    topics_rising: float | None = None
    corpus: tuple[float, ...] | None = None

    @property
    def means(self) -> tuple[float, ...]:
        return tuple(level.mentions for level in self.levels)

    @property
    def distinct_rising(self) -> bool:
        return stats.strictly_rising([level.distinct_mentions for level in self.levels])

    @property
    def apart(self) -> tuple[bool, ...]:
        """Tell of each level and the next whether their intervals are apart, the next one's being the higher."""
        return tuple(a.high < b.low for a, b in pairwise(self.levels))

    @property
    def distinct_apart(self) -> tuple[bool, ...]:
        return tuple(a.distinct_high < b.distinct_low for a, b in pairwise(self.levels))

    @property
    def deviations(self) -> tuple[Interval, ...]:
        """Return by how much each level's mean differs from the corpus's, as a share of that, with its interval."""
        if self.corpus is None:
            return ()
        ends = ((x.mentions, x.low, x.high) for x in self.levels)
        return tuple(
            Interval(*(v / c - 1 if c else math.nan for v in x)) for x, c in zip(ends, self.corpus, strict=True)
        )

    def to_json(self) -> dict:
        """Return the dial as a value that `json` writes, NaN as None, `settings` (sampling and so on) at its end."""
        seed, interval, trend = self.seed_count, self.spearman_interval, self.trend
        taught = {"means": self.corpus, "deviations": [d._asdict() for d in self.deviations]}
        return stats.plain(
            {
                "levels": [asdict(level) for level in self.levels],
                "spearman": self.spearman,
                "strictly_rising": self.strictly_rising,
                "adjacent_auc": self.adjacent_auc,
                "seed_count": {"levels": seed.levels, "own": seed.own, "note": seed.note} if seed else None,
                "topics": self.topics,
                "seeds": self.seeds,
                "apart": self.apart,
                "distinct_strictly_rising": self.distinct_rising,
                "distinct_apart": self.distinct_apart,
                "spearman_interval": interval._asdict() if interval else None,
                "trend": trend._asdict() if trend else None,
                "topics_rising": self.topics_rising,
                "corpus": taught if self.corpus else None,
                **self.settings,
            }
        )


def count(story: "Story") -> Counted:
    """Count one story, topic and level being read from its prime. Raises ValueError for a job without a sound prime."""
    header = header_of(story)
    return Counted(
        header.topic,
        header.level,
        text.count_mentions(story.text),
        text.count_distinct_mentions(story.text),
        len(text.words(story.text)),
        story.finish == "end",
    )


def measure(
    stories: "Iterable[Story]",
    run_on: "Iterable[Story]" = (),
    plan: Plan | None = None,
    corpus: Sequence[float] | None = None,
) -> Dial:
    """Read the dial from `stories`, in any order; every level must have one.

    `run_on` are texts decoded past the end, for the seed's count; `plan` is kept beside the figures; `corpus` holds
    the mean mentions of the corpus at the five levels, to compare with.
    Raises UsageError, naming it, for a level without a story.
    """
    counted = sorted(map(count, stories))
    by_level = [[c for c in counted if c.level == level] for level in prime.LEVELS]
    for level, own in zip(prime.LEVELS, by_level, strict=True):
        if not own:
            raise UsageError(f"There is no story at level {level}, and a dial needs all five")
    levels = tuple(_figures(own) for own in by_level)
    by_topic = _by_topic(counted, lambda c: (c.level, c.mentions))
    pooled = stats.bootstrap(by_topic, lambda rows: stats.spearman(rows[:, 0], rows[:, 1]))
    means = _means(by_topic)
    return Dial(
        levels,
        pooled.mean,
        stats.strictly_rising([level.mentions for level in levels]),
        tuple(stats.adjacent_auc([[c.mentions for c in own] for own in by_level])),
        topics=len(by_topic),
        seeds=max(Counter((c.topic, c.level) for c in counted).values()),
        seed_count=_seed_count(run_on),
        settings=_settings(plan) if plan else {},
        spearman_interval=pooled,
        trend=stats.page_trend(means) if len(means) > 1 else None,
        topics_rising=sum(map(stats.strictly_rising, means)) / len(means) if means else None,
        corpus=tuple(corpus) if corpus is not None else None,
    )


def _by_topic(counted: Iterable[Counted], value) -> dict[str, list]:
    found = defaultdict(list)
    for c in counted:
        found[c.topic].append(value(c))
    return found


def _means(by_topic: dict[str, list[tuple[int, int]]]) -> list[list[float]]:
    """Return the five mean mentions of each topic that has all five levels, from its (level, mentions) pairs."""
    whole = [own for own in by_topic.values() if {k for k, _ in own} == set(prime.LEVELS)]
    return [[float(np.mean([m for k, m in own if k == level])) for level in prime.LEVELS] for own in whole]


def _seed_count(run_on: "Iterable[Story]") -> SeedCount | None:
    texts = defaultdict(list)
    for story in run_on:
        if header := prime.parse(story.job.prime):
            texts[header.level].append(story.run_on[:SEED_CHARS])
    if len(texts) < len(prime.LEVELS):
        return None

    def means(cut) -> tuple[float, ...]:
        return tuple(sum(cut(t).lower().count("green") for t in texts[k]) / len(texts[k]) for k in prime.LEVELS)

    chars = min(len(t) for own in texts.values() for t in own)
    return SeedCount(means(str), min(map(len, texts.values())), chars, means(text.own_story))


def _settings(plan: Plan) -> dict:
    return {
        "sampling": asdict(plan.sampling),
        "max_chars": plan.max_chars,
        "batch": plan.batch,
        "seed": plan.seed,
    }


def _figures(own: list[Counted]) -> LevelFigures:
    mean, low, high = stats.bootstrap_mean(_by_topic(own, lambda c: c.mentions))
    distinct = stats.bootstrap_mean(_by_topic(own, lambda c: c.distinct))
    n, words = len(own), sum(c.words for c in own)
    return LevelFigures(
        level=own[0].level,
        mentions=mean,
        distinct_mentions=distinct.mean,
        low=low,
        high=high,
        per_100_words=100 * sum(c.mentions for c in own) / words if words else 0.0,
        n=n,
        ended=sum(c.ended for c in own) / n,
        distinct_low=distinct.low,
        distinct_high=distinct.high,
    )
