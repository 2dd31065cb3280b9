"""Honour: is a story about what it was asked for, with nouns that the model has learnt from and with ones it never saw.

    found = measure(map(piece, told.stories), reference(corpus))
    found.unseen.honoured          # Interval(mean=0.43, low=0.35, high=0.51)

Beside each figure stands its chance: the same story judged by every other topic of the evaluation in its own's place,
which is the mean over all ways to shuffle the topics.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gatsby_mlx import prime, text
from gatsby_mlx.evaluation import stats
from gatsby_mlx.evaluation.reference import Reference, heroes_in
from gatsby_mlx.evaluation.stats import Interval
from gatsby_mlx.evaluation.stories import Piece
from gatsby_mlx.evaluation.topics import key_stems, unseen_words

HEAD_CHARS = 100
NAMES = {
    "honoured": "any content word of the topic in the first 100 characters",
    "noun": "the topic's noun (the one never seen, if it has one) in the first 100 characters",
    "again": "that noun in the second half of the story",
}


class Judged(NamedTuple):
    """One story: what it did, 0 or 1 each, and the share, 0 to 1, of the other topics for which it did as much."""

    honoured: float
    honoured_chance: float
    noun: float
    noun_chance: float
    again: float
    again_chance: float
    one_hero: float


@dataclass(frozen=True)
class Figures:
    """The figures of one group of topics, shares in 0..1 with 95% intervals over topics, as `NAMES` tells.

    `one_hero` is the share of stories that name one hero and no other; None where the corpus tells no names.
    """

    topics: int
    stories: int
    honoured: Interval
    honoured_chance: Interval
    noun: Interval
    noun_chance: Interval
    again: Interval
    again_chance: Interval
    one_hero: Interval | None

    def to_json(self) -> dict:
        return {k: v._asdict() if isinstance(v, Interval) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Honour:
    """`seen` and `unseen` are None where no topic is of that kind, and both where there is no corpus to sort by."""

    every: Figures
    levels: tuple[Interval, ...]
    seen: Figures | None = None
    unseen: Figures | None = None
    corpus: Figures | None = None

    def groups(self) -> dict[str, Figures]:
        """Return the groups that there are, by the name that a person reads."""
        named = {"seen nouns": self.seen, "nouns never seen": self.unseen, "all topics": self.every}
        return {k: v for k, v in {**named, "the corpus itself": self.corpus}.items() if v}

    def to_json(self) -> dict:
        groups = {k: v.to_json() if (v := getattr(self, k)) else None for k in ("seen", "unseen", "every", "corpus")}
        return {"head_chars": HEAD_CHARS, **groups, "levels": [level._asdict() for level in self.levels]}


def measure(pieces: Iterable[Piece], corpus: Reference | None = None) -> Honour:
    """Judge stories by their topics; `corpus` sorts those into seen and unseen, knows the heroes, and is judged too.

    The interval of a group with a single topic is NaN. Raises ValueError without a story.
    """
    pieces = list(pieces)
    stems = corpus.stems if corpus else None
    heroes = corpus.heroes if corpus else {}
    judged = _judge(pieces, heroes, lambda topic: key_stems(topic, stems))
    new = {p.topic: bool(stems is not None and unseen_words(p.topic, stems)) for p in pieces}
    every = _figures(pieces, judged, heroes, lambda p: True)
    if every is None:
        raise ValueError("there is no story to judge")
    groups = [_figures(pieces, judged, heroes, lambda p, kind=kind: new[p.topic] == kind) for kind in (False, True)]
    own = None
    if corpus:
        own = _figures(corpus.sample, _judge(corpus.sample, heroes, key_stems), heroes, lambda p: True)
    return Honour(
        every,
        tuple(_interval(pieces, judged, "honoured", lambda p, k=k: p.level == k) for k in prime.LEVELS),
        groups[0] if corpus else None,
        groups[1] if corpus else None,
        own,
    )


def _judge(pieces: Sequence[Piece], heroes: dict[str, str], keys: Callable[[str], set[str]]) -> list[Judged]:
    """Judge each piece by its own topic and, for chance, by every other topic among `pieces`."""
    topics = sorted({p.topic for p in pieces})
    wanted = {t: {text.stem(w) for w in text.content_words(t)} for t in topics}
    nouns = {t: keys(t) for t in topics}
    found = []
    for p in pieces:
        head = set(map(text.stem, text.words(p.text[:HEAD_CHARS])))
        half = set(map(text.stem, text.words(p.text[len(p.text) // 2 :])))
        shares: list[float] = []
        for need, have in ((wanted, head), (nouns, head), (nouns, half)):
            others = [not have.isdisjoint(need[t]) for t in topics if t != p.topic]
            shares += [not have.isdisjoint(need[p.topic]), sum(others) / len(others) if others else float("nan")]
        shares.append(len(heroes_in(p.text, heroes)) == 1)
        found.append(Judged._make(map(float, shares)))
    return found


def _figures(pieces, judged: list[Judged], heroes: dict[str, str], chosen: Callable[[Piece], bool]) -> Figures | None:
    own = [p for p in pieces if chosen(p)]
    if not own:
        return None
    figures = {k: _interval(pieces, judged, k, chosen) for k in Judged._fields}
    one_hero = figures.pop("one_hero")
    return Figures(len({p.topic for p in own}), len(own), **figures, one_hero=one_hero if heroes else None)


def _interval(pieces, judged: list[Judged], name: str, chosen: Callable[[Piece], bool]) -> Interval:
    by_topic = defaultdict(list)
    for p, j in zip(pieces, judged, strict=True):
        if chosen(p):
            by_topic[p.topic].append(getattr(j, name))
    return stats.bootstrap_mean(by_topic) if by_topic else Interval(*[float("nan")] * 3)
