"""Prose: is it English, does it end, does it turn in circles, does it keep its hero, is it its own.

    found = measure([piece(s) for s in told.stories], reference(corpus))
    found.figures["spelled"]       # Interval(mean=0.993, low=0.992, high=0.994)

Every figure stands beside the same figure of the corpus: a writer that the model learnt from has faults of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from gatsby_mlx import text
from gatsby_mlx.evaluation import stats
from gatsby_mlx.evaluation.overlap import longest_copies
from gatsby_mlx.evaluation.reference import PRONOUNS, Reference, heroes_in
from gatsby_mlx.evaluation.stats import Interval
from gatsby_mlx.evaluation.stories import Piece

LOOP_WORDS = 8
EXAMPLES = 20
NAMES = {
    "spelled": "words found in the topic, the corpus or the word list",
    "spelled_as_corpus": "words found in the topic or the corpus",
    "spelled_as_listed": "words found in the topic, the word list or the heroes' names",
    "ended": "stories that come to their end",
    "loops": f"stories that say the same {LOOP_WORDS} words twice",
    "repeated_4_grams": "runs of four words that the story has had before",
    "name_slips": "stories that name a second hero",
    "pronoun_slips": "stories that use the pronoun that is not the hero's",
    "words": "words in a story",
    "copy": "longest passage copied from the corpus, in characters, median",
    "nats_per_char": "surprise of an independent model, nats per character",
}
UNITS = {"words": 0, "copy": 0, "nats_per_char": 3}  # the figures that are no shares, and their digits


@dataclass(frozen=True)
class Prose:
    """Figures by the names of `NAMES`: shares in 0..1, but for `words`, `copy` and `nats_per_char`, whose units stand
    there. `corpus` holds the same of the corpus's sample; its `copy` is from stories on other topics. `copies` and
    `corpus_copies` are the lengths behind `copy`, story by story; `misspelled` the commonest words that stand nowhere.
    """

    figures: dict[str, Interval]
    corpus: dict[str, Interval] = field(default_factory=dict)
    misspelled: tuple[tuple[str, int], ...] = ()
    copies: tuple[int, ...] = ()
    corpus_copies: tuple[int, ...] = ()

    def to_json(self) -> dict:
        parts = {k: {name: v._asdict() for name, v in getattr(self, k).items()} for k in ("figures", "corpus")}
        told = {"misspelled": dict(self.misspelled), "copies": self.copies, "corpus_copies": self.corpus_copies}
        return {**parts, **told}


@cache
def word_list() -> frozenset[str]:
    """Return pyspellchecker's list of English words, lower case."""
    from spellchecker import SpellChecker

    return frozenset(SpellChecker(language="en", distance=1).word_frequency.words())


Judge = Callable[[Sequence[Piece]], "list[tuple[str, float, int]]"]


def measure(pieces: Iterable[Piece], corpus: Reference | None = None, judge: Judge | None = None) -> Prose:
    """Measure stories, and the corpus's beside them. `judge` is a model to read both (see `judge.Judge`).

    Without a corpus there is nothing that could be copied and there are no heroes: those figures are left out.
    Raises ValueError without a story.
    """
    pieces = list(pieces)
    if not pieces:
        raise ValueError("there is no story to measure")
    figures, misspelled = _figures(pieces, corpus)
    own: dict[str, Interval] = {}
    copies = corpus_copies = np.zeros(0, np.int64)
    if corpus:
        own, _ = _figures(corpus.sample, corpus)
        copies = longest_copies([p.text for p in pieces], corpus.stories)
        corpus_copies = longest_copies([p.text for p in corpus.sample], corpus.others)
        figures["copy"] = _median(pieces, copies)
        if len(corpus.others):
            own["copy"] = _median(corpus.sample, corpus_copies)
    if judge:
        figures["nats_per_char"] = _rate(judge(pieces))
        if corpus:
            own["nats_per_char"] = _rate(judge(corpus.sample))
    return Prose(figures, own, misspelled, tuple(copies.tolist()), tuple(corpus_copies.tolist()))


def _figures(pieces: Sequence[Piece], corpus: Reference | None) -> tuple[dict[str, Interval], tuple]:
    listed = word_list()
    vocabulary = corpus.words if corpus else frozenset()
    heroes = frozenset(name.lower() for name in corpus.heroes) if corpus else frozenset()
    rates: dict[str, list[tuple[str, float, int]]] = defaultdict(list)
    unknown: Counter[str] = Counter()
    for p in pieces:
        words = [w for w in text.words(p.text.lower()) if w.strip("'")]
        topic = {w.strip("'") for w in text.words(p.topic.lower())}
        strange = [w for w in words if not _stands_in(w, topic) and not _stands_in(w, vocabulary)]
        nowhere = [w for w in strange if not _stands_in(w, listed)]
        unlisted = [w for w in words if not any(_stands_in(w, known) for known in (listed, topic, heroes))]
        unknown.update(nowhere)
        rates["spelled"].append((p.topic, len(words) - len(nowhere), len(words)))
        rates["spelled_as_listed"].append((p.topic, len(words) - len(unlisted), len(words)))
        if corpus:
            rates["spelled_as_corpus"].append((p.topic, len(words) - len(strange), len(words)))
        rates["ended"].append((p.topic, p.ended, 1))
        rates["loops"].append((p.topic, _repeated(words, LOOP_WORDS) > 0, 1))
        rates["repeated_4_grams"].append((p.topic, _repeated(words, 4), max(0, len(words) - 3)))
        if corpus and corpus.heroes:
            names = heroes_in(p.text, corpus.heroes)
            rates["name_slips"].append((p.topic, len(names) > 1, 1))
            if names and (kind := corpus.heroes[names[0]]):
                rates["pronoun_slips"].append((p.topic, _uses_other(words, kind), 1))
        rates["words"].append((p.topic, len(words), 1))
    return {k: _rate(v) for k, v in rates.items()}, tuple(unknown.most_common(EXAMPLES))


def _stands_in(word: str, known: Collection[str]) -> bool:
    """Tell whether a word stands in `known` as it is, or without quotation marks, or without its possessive."""
    bare = word.strip("'")
    return word in known or bare in known or bare.removesuffix("'s") in known


def _repeated(words: Sequence[str], n: int) -> int:
    """Return how many runs of `n` words have stood in `words` before."""
    runs = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    return runs.total() - len(runs)


def _uses_other(words: Iterable[str], kind: str) -> bool:
    others = frozenset().union(*(own for name, own in PRONOUNS.items() if name != kind))
    return not others.isdisjoint(words)


def _rate(rows: Sequence[tuple[str, float, int]]) -> Interval:
    """Return the sum of the second over the sum of the third of (topic, part, whole) rows, with its interval."""
    by_topic = defaultdict(list)
    for topic, part, whole in rows:
        by_topic[topic].append((part, whole))
    return stats.bootstrap_ratio(by_topic)


def _median(pieces: Sequence[Piece], lengths: np.ndarray) -> Interval:
    by_topic = defaultdict(list)
    for p, n in zip(pieces, lengths, strict=True):
        by_topic[p.topic].append(int(n))
    return stats.bootstrap(by_topic, lambda x: float(np.median(x)))
