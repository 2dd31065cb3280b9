"""Topic adherence: whether a story is about its topic, separately for nouns that the model has seen and has not seen.

>>> story = "A cat sat in the sun."
>>> measured = measure([Piece("a cat", 1, story, True), Piece("a dog", 1, story, True)])
>>> measured.every.honored.mean, measured.every.honored_chance.mean
(0.5, 0.5)

Every figure comes with its chance level: each story is also scored against every other topic of the evaluation, which
is the mean over all ways to shuffle the topics.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gatsby_mlx.evaluation import statistics
from gatsby_mlx.evaluation.reference import Reference, heroes_in
from gatsby_mlx.evaluation.statistics import Interval
from gatsby_mlx.evaluation.stories import Piece
from gatsby_mlx.evaluation.topics import key_stems, unseen_words
from gatsby_mlx.story import text
from gatsby_mlx.story.obsession import LEVELS

HEAD_CHARS = 100
NOT_ENGLISH = "topic adherence is judged by the stems of English words, and these stories are not in English"
NAMES = {
    "honored": "any content word of the topic is in the first 100 characters",
    "noun": "the topic's noun (the unseen one, if there is one) is in the first 100 characters",
    "again": "that noun is in the second half of the story",
}
JSON_KEYS = {"honored": "honoured", "honored_chance": "honoured_chance"}  # where the format spells a field differently


class Scores(NamedTuple):
    """One story: whether it did each thing (0 or 1), and the share of other topics for which it would count (0..1)."""

    honored: float
    honored_chance: float
    noun: float
    noun_chance: float
    again: float
    again_chance: float
    one_hero: float


@dataclass(frozen=True)
class GroupFigures:
    """The figures of one group of topics: shares in 0..1 with 95% intervals over topics. `NAMES` describes them.

    `one_hero` is the share of stories that name exactly one hero; None if the corpus lists no names.
    """

    topics: int
    stories: int
    honored: Interval
    honored_chance: Interval
    noun: Interval
    noun_chance: Interval
    again: Interval
    again_chance: Interval
    one_hero: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures under the keys of evaluation.json."""
        return {JSON_KEYS.get(k, k): v._asdict() if isinstance(v, Interval) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Adherence:
    """Topic adherence of all stories (`every`), by level, and by group of topics.

    `levels` has the share of honored topics at levels 1 to 5. `seen` and `unseen` are None if there are no such topics,
    or no corpus to sort them by; `corpus` holds the figures of the corpus's sample.
    """

    every: GroupFigures
    levels: tuple[Interval, ...]
    seen: GroupFigures | None = None
    unseen: GroupFigures | None = None
    corpus: GroupFigures | None = None

    def groups(self) -> dict[str, GroupFigures]:
        """Return the groups that exist, by display name."""
        named = {"seen nouns": self.seen, "unseen nouns": self.unseen, "all topics": self.every, "corpus": self.corpus}
        return {name: figures for name, figures in named.items() if figures}

    def to_json(self) -> dict[str, Any]:
        """Return all figures under the keys of evaluation.json; the ends of intervals may be NaN."""
        groups = {k: v.to_json() if (v := getattr(self, k)) else None for k in ("seen", "unseen", "every", "corpus")}
        return {"head_chars": HEAD_CHARS, **groups, "levels": [level._asdict() for level in self.levels]}


def measure(pieces: Iterable[Piece], corpus: Reference | None = None) -> Adherence:
    """Measure how well stories keep to their topics.

    `corpus` sorts the topics into seen and unseen ones, lists the heroes, and is measured too. The interval of a group
    with a single topic is NaN. Raises ValueError if there are no stories.
    """
    pieces = list(pieces)
    if not pieces:
        raise ValueError("there is no story to measure")
    stems = corpus.stems if corpus else None
    heroes = corpus.heroes if corpus else {}
    scored = list(zip(pieces, _scores(pieces, heroes, lambda topic: key_stems(topic, stems)), strict=True))
    levels = tuple(_interval([(p, s) for p, s in scored if p.level == level], "honored") for level in LEVELS)
    every = _figures(scored, bool(heroes))
    if corpus is None:
        return Adherence(every, levels)
    is_unseen = {p.topic: bool(unseen_words(p.topic, corpus.stems)) for p in pieces}
    seen, unseen = ([(p, s) for p, s in scored if is_unseen[p.topic] == wanted] for wanted in (False, True))
    sample = list(zip(corpus.sample, _scores(corpus.sample, heroes, key_stems), strict=True))
    return Adherence(every, levels, *(_figures(x, bool(heroes)) if x else None for x in (seen, unseen, sample)))


def _scores(pieces: Sequence[Piece], heroes: dict[str, str], keys: Callable[[str], set[str]]) -> list[Scores]:
    """Score each piece against its topic and, for chance, against every other topic of `pieces`."""
    topics = sorted({p.topic for p in pieces})
    content = {t: {text.stem(w) for w in text.content_words(t)} for t in topics}
    nouns = {t: keys(t) for t in topics}
    scores = []
    for p in pieces:
        head = set(map(text.stem, text.words(p.text[:HEAD_CHARS])))
        half = set(map(text.stem, text.words(p.text[len(p.text) // 2 :])))
        shares: list[float] = []
        for wanted, present in ((content, head), (nouns, head), (nouns, half)):
            others = [not present.isdisjoint(wanted[t]) for t in topics if t != p.topic]
            shares += [not present.isdisjoint(wanted[p.topic]), sum(others) / len(others) if others else float("nan")]
        shares.append(len(heroes_in(p.text, heroes)) == 1)
        scores.append(Scores._make(map(float, shares)))
    return scores


Scored = Sequence[tuple[Piece, Scores]]


def _figures(scored: Scored, has_heroes: bool) -> GroupFigures:
    intervals: dict[str, Any] = {name: _interval(scored, name) for name in Scores._fields}
    if not has_heroes:
        intervals["one_hero"] = None
    return GroupFigures(len({p.topic for p, _ in scored}), len(scored), **intervals)


def _interval(scored: Scored, name: str) -> Interval:
    by_topic = defaultdict(list)
    for p, scores in scored:
        by_topic[p.topic].append(getattr(scores, name))
    return statistics.bootstrap_mean(by_topic) if by_topic else Interval(*[float("nan")] * 3)
