"""The dial: does a model tell more of the light the higher its level is set, and how surely.

    config = DialConfig(default_topics(12), seeds=2)
    dial, stories = sweep(model, tokenizer, config)
    dial.to_json()["levels"][4]["mentions"]

Every (topic, repeat) has one seed for all five levels, so that levels differ by the control line and not by luck.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gatsby_mlx import prime, text
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation import stats
from gatsby_mlx.evaluation.topics import default_topics, read_topics

__all__ = [
    "Dial",
    "DialConfig",
    "LevelFigures",
    "SeedCount",
    "Sweep",
    "default_topics",
    "jobs",
    "measure",
    "read_topics",
    "sweep",
]

if TYPE_CHECKING:  # decode imports MLX: the figures of stories already told do without it
    from gatsby_mlx.model.decode import Job, Sampling, Story

Progress = Callable[[int, int], None]  # stories told, of how many

SEED_CHARS = 480
SEED_TOPICS = 3


def _sampling() -> "Sampling":
    from gatsby_mlx.model.decode import Sampling

    return Sampling()


@dataclass(frozen=True)
class DialConfig:
    """What a sweep asks for: `topics` x 5 levels x `seeds` stories.

    `max_chars` bounds a story (None: the context does); `batch` is how many are decoded at once; `seed` is the one from
    which every (topic, repeat) takes its own. Raises UsageError for what cannot be swept.
    """

    topics: tuple[str, ...]
    seeds: int = 4
    sampling: "Sampling" = field(default_factory=_sampling)
    max_chars: int | None = None
    batch: int = 64
    seed: int = stats.SEED

    def __post_init__(self):
        cure = "See: gatsby dial --help"
        if not self.topics:
            raise UsageError("A dial needs at least one topic", cure)
        if self.seeds < 1 or self.batch < 1 or (self.max_chars is not None and self.max_chars < 1):
            found = f"seeds={self.seeds}, batch={self.batch}, max_chars={self.max_chars}"
            raise UsageError(f"A dial needs seeds, batch and max_chars of 1 or more, not {found}", cure)
        twice = [topic for topic, n in Counter(map(prime.fold_topic, self.topics)).items() if n > 1]
        if twice:
            raise UsageError(f"The topic {twice[0]!r} is given twice", "Take one of them away")

    @property
    def n_stories(self) -> int:
        return len(self.topics) * len(prime.LEVELS) * self.seeds


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

    `distinct_mentions` counts repeated sentences once; `per_100_words` is all mentions over all words; `n` is the
    number of stories and `ended` the share of them, 0 to 1, that came to their end.
    """

    level: int
    mentions: float
    distinct_mentions: float
    low: float
    high: float
    per_100_words: float
    n: int
    ended: float


class SeedCount(NamedTuple):
    """The seed's own figure: mean occurrences by level, over `n` texts a level, the shortest of `chars` characters."""

    levels: tuple[float, ...]
    n: int
    chars: int

    @property
    def note(self) -> str:
        return (
            f"occurrences of 'green' in {self.chars} characters that run on past the end of the story, as the seed "
            f"counts: the next document's control line is among them; {self.n} a level, for comparison only"
        )


@dataclass(frozen=True)
class Dial:
    """A dial as read. `seed_count` is None where it was not read; `settings` are the sweep's own, for the record."""

    levels: tuple[LevelFigures, ...]
    spearman: float
    strictly_rising: bool
    adjacent_auc: tuple[float, ...]
    topics: int
    seeds: int
    seed_count: SeedCount | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def means(self) -> tuple[float, ...]:
        return tuple(level.mentions for level in self.levels)

    def to_json(self) -> dict:
        """Return the dial as a value that `json` writes, NaN as None, `settings` (sampling and so on) at its end."""
        seed = self.seed_count
        return _plain(
            {
                "levels": [asdict(level) for level in self.levels],
                "spearman": self.spearman,
                "strictly_rising": self.strictly_rising,
                "adjacent_auc": self.adjacent_auc,
                "seed_count": {"levels": seed.levels, "note": seed.note} if seed else None,
                "topics": self.topics,
                "seeds": self.seeds,
                **self.settings,
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


class Sweep(NamedTuple):
    dial: Dial
    stories: tuple["Story", ...]


def shared_seed(seed: int, topic: str, repeat: int) -> int:
    """Return the seed, below 2**32, that all five levels of a topic share in one repeat, whatever the other topics."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{repeat}\n{topic}".encode()).digest()[:4])


def jobs(config: DialConfig, alphabet: str = prime.ALPHABET) -> "list[Job]":
    """Return the jobs of a sweep, topic by topic; raise TopicError for a topic that `alphabet` cannot spell."""
    from gatsby_mlx.model.decode import Job

    topics = [prime.fold_topic(topic, alphabet) for topic in config.topics]
    return [
        Job(prime.build(topic, level, alphabet=alphabet), shared_seed(config.seed, topic, repeat))
        for topic in topics
        for repeat in range(config.seeds)
        for level in prime.LEVELS
    ]


def _spread(items: Sequence, n: int) -> list:
    """Return `n` of `items`, or all if there are fewer, evenly spaced from the first to the last."""
    n = min(n, len(items))
    return [items[i * (len(items) - 1) // max(1, n - 1)] for i in range(n)]


def sweep(model, tokenizer, config: DialConfig, progress: Progress | None = None) -> Sweep:
    """Tell every story of `config`, then the seed's run-on texts over three of its topics, and read the dial.

    `model` and `tokenizer` as `decode` takes them. `progress` hears of each story as it ends. The stories come back in
    the order of `jobs`. Raises TopicError for a topic that the vocabulary cannot spell.
    """
    from gatsby_mlx.model.decode import decode

    wanted = jobs(config, tokenizer.alphabet)
    few = set(_spread(config.topics, SEED_TOPICS))
    again = jobs(
        DialConfig(tuple(t for t in config.topics if t in few), config.seeds, seed=config.seed), tokenizer.alphabet
    )
    total = len(wanted) + len(again)
    told: list[Story] = []
    shared = {"sampling": config.sampling, "batch": config.batch}
    for part in (
        decode(model, tokenizer, wanted, max_chars=config.max_chars, **shared),
        decode(model, tokenizer, again, max_chars=SEED_CHARS, past_end=True, **shared),
    ):
        for story in part:
            told.append(story)
            if progress:
                progress(len(told), total)
    place = {(job.prime, job.seed): i for i, job in enumerate(wanted)}
    stories = tuple(sorted(told[: len(wanted)], key=lambda s: place[s.job.prime, s.job.seed]))
    return Sweep(measure(stories, told[len(wanted) :], config), stories)


def count(story: "Story") -> Counted:
    """Count one story, topic and level being read from its prime. Raises ValueError for a job without a sound prime."""
    header = prime.parse(story.job.prime)
    if header is None:
        raise ValueError(f"no prime: {story.job.prime[:60]!r}")
    return Counted(
        header.topic,
        header.level,
        text.count_mentions(story.text),
        text.count_distinct_mentions(story.text),
        len(text.words(story.text)),
        story.finish == "end",
    )


def measure(stories: "Iterable[Story]", run_on: "Iterable[Story]" = (), config: DialConfig | None = None) -> Dial:
    """Read the dial from `stories`, in any order; every level must have one.

    `run_on` are texts decoded past the end, for the seed's count; `config` is kept beside the figures.
    Raises UsageError, naming it, for a level without a story.
    """
    counted = sorted(map(count, stories))
    by_level = [[c for c in counted if c.level == level] for level in prime.LEVELS]
    for level, own in zip(prime.LEVELS, by_level, strict=True):
        if not own:
            raise UsageError(f"There is no story at level {level}, and a dial needs all five")
    levels = tuple(_figures(own) for own in by_level)
    return Dial(
        levels,
        stats.spearman([c.level for c in counted], [c.mentions for c in counted]),
        stats.strictly_rising([level.mentions for level in levels]),
        tuple(stats.adjacent_auc([[c.mentions for c in own] for own in by_level])),
        topics=len({c.topic for c in counted}),
        seeds=max(Counter((c.topic, c.level) for c in counted).values()),
        seed_count=_seed_count(run_on),
        settings=_settings(config) if config else {},
    )


def _seed_count(run_on: "Iterable[Story]") -> SeedCount | None:
    texts = defaultdict(list)
    for story in run_on:
        if header := prime.parse(story.job.prime):
            texts[header.level].append(story.run_on[:SEED_CHARS].lower())
    if len(texts) < len(prime.LEVELS):
        return None
    means = tuple(sum(t.count("green") for t in texts[k]) / len(texts[k]) for k in prime.LEVELS)
    return SeedCount(means, min(map(len, texts.values())), min(len(t) for own in texts.values() for t in own))


def _settings(config: DialConfig) -> dict:
    return {
        "sampling": asdict(config.sampling),
        "max_chars": config.max_chars,
        "batch": config.batch,
        "seed": config.seed,
    }


def _figures(own: list[Counted]) -> LevelFigures:
    by_topic = defaultdict(list)
    for c in own:
        by_topic[c.topic].append(c.mentions)
    mean, low, high = stats.bootstrap_mean(by_topic)
    n, words = len(own), sum(c.words for c in own)
    return LevelFigures(
        level=own[0].level,
        mentions=mean,
        distinct_mentions=sum(c.distinct for c in own) / n,
        low=low,
        high=high,
        per_100_words=100 * sum(c.mentions for c in own) / words if words else 0.0,
        n=n,
        ended=sum(c.ended for c in own) / n,
    )
