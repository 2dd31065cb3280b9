"""The dial: does a model mention its obsession more often at a higher level, and how certain is that?

>>> from gatsby_mlx.story.sampling import Job
>>> stories = [Story(Job(prime.build("a cat", k), 1), "The green light. " * k, "end", 17 * k) for k in LEVELS]
>>> dial = measure(stories)
>>> dial.level(5).mentions, dial.strictly_rising
(5.0, True)
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation import statistics
from gatsby_mlx.evaluation.statistics import Interval, Trend
from gatsby_mlx.evaluation.stories import BASELINE_CHARS, StoryPlan, header_of
from gatsby_mlx.story import prime, text
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.sampling import Story
from gatsby_mlx.strict_json import plain

T = TypeVar("T")


class Counts(NamedTuple):
    """What the dial counts in one story."""

    topic: str
    level: int
    mentions: int
    distinct: int
    words: int
    ended: bool


@dataclass(frozen=True)
class LevelFigures:
    """One level: the mean mentions per story with their 95% interval over topics (`low`, `high`).

    `distinct_mentions`, with an interval too, counts repeated sentences once; `per_100_words` is all mentions over all
    words; `n` is the number of stories and `ended` the share of them, 0 to 1, that reached their end. The ends of the
    intervals are NaN if there is only one topic.
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


class BaselineCount(NamedTuple):
    """The count of the baseline, gatsby-nanogpt-2, which does not stop at the end of a story.

    `levels` are the mean occurrences of the phrase's first word at each level, over `n` texts per level, the shortest
    of them `chars` characters long. `within_story` counts the same texts only up to the end of their story: the
    difference is an artifact of the baseline's count.
    """

    levels: tuple[float, ...]
    n: int
    chars: int
    within_story: tuple[float, ...] = ()

    @property
    def note(self) -> str:
        """What the count means, for evaluation.json; its text is part of that format."""
        return (
            f"occurrences of 'green' in {self.chars} characters that run on past the end of the story, as the seed "
            f"counts: the next document's control line is among them; {self.n} a level, for comparison only"
        )


@dataclass(frozen=True)
class Dial:
    """The dial of a model, measured.

    `spearman` correlates level and mentions over all stories; `adjacent_auc` has, for each pair of neighboring levels,
    the probability that a story of the higher one has more mentions; `trend` is Page's test over topics, None with a
    single topic; `topics_rising` is the share of topics whose five means rise strictly. `corpus` has the five means of
    the training corpus. `baseline_count` is None if no texts ran past their end. `settings` records the plan.
    """

    levels: tuple[LevelFigures, ...]
    spearman: float
    strictly_rising: bool
    adjacent_auc: tuple[float, ...]
    topics: int
    seeds: int
    baseline_count: BaselineCount | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    spearman_interval: Interval | None = None
    trend: Trend | None = None
    topics_rising: float | None = None
    corpus: tuple[float, ...] | None = None
    obsession: Obsession = GREEN_LIGHT

    def level(self, level: int) -> LevelFigures:
        """Return the figures of a level 1 to 5. Raises UsageError outside that range."""
        return self.levels[prime.check_level(level) - 1]

    @property
    def means(self) -> tuple[float, ...]:
        """Mean mentions at the five levels."""
        return tuple(level.mentions for level in self.levels)

    @property
    def distinct_rising(self) -> bool:
        """Whether the means rise strictly with repeated sentences counted once."""
        return statistics.strictly_rising([level.distinct_mentions for level in self.levels])

    @property
    def apart(self) -> tuple[bool, ...]:
        """For each level and the next: whether the next one's interval is entirely above."""
        return tuple(a.high < b.low for a, b in pairwise(self.levels))

    @property
    def distinct_apart(self) -> tuple[bool, ...]:
        """The same as `apart`, with repeated sentences counted once."""
        return tuple(a.distinct_high < b.distinct_low for a, b in pairwise(self.levels))

    @property
    def deviations(self) -> tuple[Interval, ...]:
        """By what share of the corpus's mean each level's mean differs from it, with the interval; () without one."""
        if self.corpus is None:
            return ()
        ends = ((x.mentions, x.low, x.high) for x in self.levels)
        return tuple(
            Interval(*(v / c - 1 if c else math.nan for v in x)) for x, c in zip(ends, self.corpus, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the dial as a value for strict JSON, NaN as None, with `settings` at the end."""
        baseline, interval, trend = self.baseline_count, self.spearman_interval, self.trend
        counts = baseline and {"levels": baseline.levels, "own": baseline.within_story, "note": baseline.note}
        corpus = {"means": self.corpus, "deviations": [d._asdict() for d in self.deviations]}
        return plain(
            {
                "levels": [asdict(level) for level in self.levels],
                "spearman": self.spearman,
                "strictly_rising": self.strictly_rising,
                "adjacent_auc": self.adjacent_auc,
                "seed_count": counts,
                "topics": self.topics,
                "seeds": self.seeds,
                "apart": self.apart,
                "distinct_strictly_rising": self.distinct_rising,
                "distinct_apart": self.distinct_apart,
                "spearman_interval": interval._asdict() if interval else None,
                "trend": trend._asdict() if trend else None,
                "topics_rising": self.topics_rising,
                "corpus": corpus if self.corpus else None,
                **self.settings,
            }
        )


def count(story: Story, obsession: Obsession) -> Counts:
    """Count one story; its topic and level come from its prime. Raises ValueError if its job has no valid prime."""
    header = header_of(story, obsession)
    return Counts(
        header.topic,
        header.level,
        obsession.count(story.text),
        text.count_distinct_mentions(story.text, obsession),
        len(text.words(story.text)),
        story.finish == "end",
    )


def measure(
    stories: Iterable[Story],
    run_on: Iterable[Story] = (),
    plan: StoryPlan | None = None,
    corpus: Sequence[float] | None = None,
    obsession: Obsession = GREEN_LIGHT,
) -> Dial:
    """Measure the dial of `stories`, which may be in any order.

    `run_on` are texts decoded past the end, for the baseline's count; `plan` is recorded with the figures; `corpus` has
    the mean mentions of the training corpus at the five levels, for comparison. Raises UsageError if a level has no
    story, and ValueError for a story without a valid prime.
    """
    counts = sorted(count(story, obsession) for story in stories)
    by_level = [[c for c in counts if c.level == level] for level in LEVELS]
    for level, of_level in zip(LEVELS, by_level, strict=True):
        if not of_level:
            raise UsageError(f"There is no story at level {level}, and a dial needs all five")
    levels = tuple(_figures(of_level) for of_level in by_level)
    by_topic = _by_topic(counts, lambda c: (c.level, c.mentions))
    pooled = statistics.bootstrap(by_topic, lambda pairs: statistics.spearman(pairs[:, 0], pairs[:, 1]))
    topic_means = _topic_means(by_topic)
    return Dial(
        levels,
        pooled.mean,
        statistics.strictly_rising([level.mentions for level in levels]),
        tuple(statistics.adjacent_auc([[c.mentions for c in of_level] for of_level in by_level])),
        topics=len(by_topic),
        seeds=max(Counter((c.topic, c.level) for c in counts).values()),
        baseline_count=_baseline_count(run_on, obsession),
        settings=_settings(plan) if plan else {},
        spearman_interval=pooled,
        trend=statistics.page_trend(topic_means) if len(topic_means) > 1 else None,
        topics_rising=sum(map(statistics.strictly_rising, topic_means)) / len(topic_means) if topic_means else None,
        corpus=tuple(corpus) if corpus is not None else None,
        obsession=obsession,
    )


def _by_topic(counts: Iterable[Counts], value: Callable[[Counts], T]) -> dict[str, list[T]]:
    by_topic: dict[str, list[T]] = defaultdict(list)
    for c in counts:
        by_topic[c.topic].append(value(c))
    return by_topic


def _topic_means(by_topic: dict[str, list[tuple[int, int]]]) -> list[list[float]]:
    """Return the five mean mentions of each topic that has all five levels, from its (level, mentions) pairs."""
    complete = [pairs for pairs in by_topic.values() if {k for k, _ in pairs} == set(LEVELS)]
    return [[float(np.mean([m for k, m in pairs if k == level])) for level in LEVELS] for pairs in complete]


def _baseline_count(run_on: Iterable[Story], obsession: Obsession) -> BaselineCount | None:
    texts = defaultdict(list)
    for story in run_on:
        if header := prime.parse(story.job.prime, obsession):
            texts[header.level].append(story.run_on[:BASELINE_CHARS])
    if len(texts) < len(LEVELS):
        return None

    def means(cut: Callable[[str], str]) -> tuple[float, ...]:
        word = obsession.words[0]
        return tuple(sum(cut(t).lower().count(word) for t in texts[k]) / len(texts[k]) for k in LEVELS)

    chars = min(len(t) for of_level in texts.values() for t in of_level)
    return BaselineCount(means(str), min(map(len, texts.values())), chars, means(text.first_story))


def _settings(plan: StoryPlan) -> dict[str, Any]:
    return {
        "sampling": asdict(plan.sampling),
        "max_chars": plan.max_chars,
        "batch": plan.batch,
        "seed": plan.seed,
    }


def _figures(counts: Sequence[Counts]) -> LevelFigures:
    """Return the figures of one level from its counts, one or more."""
    mentions = statistics.bootstrap_mean(_by_topic(counts, lambda c: c.mentions))
    distinct = statistics.bootstrap_mean(_by_topic(counts, lambda c: c.distinct))
    n, words = len(counts), sum(c.words for c in counts)
    return LevelFigures(
        level=counts[0].level,
        mentions=mentions.mean,
        distinct_mentions=distinct.mean,
        low=mentions.low,
        high=mentions.high,
        per_100_words=100 * sum(c.mentions for c in counts) / words if words else 0.0,
        n=n,
        ended=sum(c.ended for c in counts) / n,
        distinct_low=distinct.low,
        distinct_high=distinct.high,
    )
