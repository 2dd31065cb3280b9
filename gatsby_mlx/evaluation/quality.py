"""Text quality: is it English, does it end, does it repeat itself, does it keep its hero, is it copied.

>>> measured = measure([Piece("a zorp", 1, "The zorp ran hmoe.", True)])
>>> measured.figures["spelled"].mean, measured.misspelled
(0.75, (('hmoe', 1),))

Every figure comes with the same figure of the corpus: the writer that the model learned from makes mistakes, too.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from gatsby_mlx.evaluation import statistics, variety
from gatsby_mlx.evaluation.passages import longest_copies
from gatsby_mlx.evaluation.reference import PRONOUNS, Reference, heroes_in
from gatsby_mlx.evaluation.statistics import Interval
from gatsby_mlx.evaluation.stories import Piece
from gatsby_mlx.evaluation.variety import Variety
from gatsby_mlx.story import text
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

LOOP_WORDS = 8
EXAMPLES = 20
NAMES = {
    "spelled": "words that are in the topic, the corpus or the word list",
    "spelled_as_corpus": "words that are in the topic or the corpus",
    "spelled_as_listed": "words that are in the topic, the word list or the heroes' names",
    "ended": "stories that reach their end",
    "loops": f"stories that repeat {LOOP_WORDS} words in a row",
    "repeated_4_grams": "runs of four words that occur earlier in the story",
    "name_slips": "stories that name a second hero",
    "pronoun_slips": "stories that use a pronoun other than the hero's",
    "words": "words per story",
    "copy": "longest passage copied from the corpus, in characters, median",
    "nats_per_char": "loss of a reference model, nats per character",
}
ENGLISH_ONLY = ("spelled", "spelled_as_listed", "pronoun_slips")  # they need a word list or English pronouns
UNITS = {"words": 0, "copy": 0, "nats_per_char": 3}  # the figures that are not shares, and their digits

Rate = tuple[str, float, float]  # topic, part, total
Reader = Callable[[Sequence[Piece]], Sequence[Rate]]  # (topic, nats, characters) of each story that was read


@dataclass(frozen=True)
class TextQuality:
    """Figures by the keys of `NAMES`: shares in 0..1, except `words`, `copy` and `nats_per_char`, whose units `NAMES`
    gives.

    `corpus` has the same figures of the corpus's sample; its `copy` compares with stories on other topics. `copies` and
    `corpus_copies` are the lengths behind `copy`, story by story. `misspelled` has the most common words that are in
    neither topic, corpus nor word list, with their counts. `variety` and `corpus_variety` are by level, of draws of one
    size. `left_out` names the figures that need an English text and are missing because this is none.
    """

    figures: dict[str, Interval]
    corpus: dict[str, Interval] = field(default_factory=dict)
    misspelled: tuple[tuple[str, int], ...] = ()
    copies: tuple[int, ...] = ()
    corpus_copies: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    variety: dict[int, Variety] = field(default_factory=dict)
    corpus_variety: dict[int, Variety] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all figures under the keys of evaluation.json; the ends of intervals may be NaN."""
        return {
            "figures": {name: interval._asdict() for name, interval in self.figures.items()},
            "corpus": {name: interval._asdict() for name, interval in self.corpus.items()},
            "misspelled": dict(self.misspelled),
            "copies": self.copies,
            "corpus_copies": self.corpus_copies,
            "variety": {str(level): figure._asdict() for level, figure in self.variety.items()},
            "corpus_variety": {str(level): figure._asdict() for level, figure in self.corpus_variety.items()},
            **({"left_out": self.left_out} if self.left_out else {}),
        }


@cache
def word_list() -> frozenset[str]:
    """Return pyspellchecker's list of English words, in lower case."""
    from spellchecker import SpellChecker

    return frozenset(SpellChecker(language="en", distance=1).word_frequency.words())


def measure(
    pieces: Iterable[Piece],
    corpus: Reference | None = None,
    reader: Reader | None = None,
    obsession: Obsession = GREEN_LIGHT,
) -> TextQuality:
    """Measure the text of stories and, for comparison, of the corpus's sample.

    `reader` gives the loss of a reference model (see `reference_model`) on both. Without a corpus the figures
    about copies and heroes are left out. Raises ValueError if there are no stories.
    """
    pieces = list(pieces)
    if not pieces:
        raise ValueError("there is no story to measure")
    figures, misspelled = _figures(pieces, corpus)
    of_corpus: dict[str, Interval] = {}
    copies = corpus_copies = np.zeros(0, np.int64)
    if corpus:
        of_corpus, _ = _figures(corpus.sample, corpus)
        copies = longest_copies([p.text for p in pieces], corpus.stories)
        corpus_copies = longest_copies([p.text for p in corpus.sample], corpus.others)
        figures["copy"] = _median(pieces, copies)
        if corpus.others:
            of_corpus["copy"] = _median(corpus.sample, corpus_copies)
    if reader:
        figures["nats_per_char"] = _ratio(reader(pieces))
        if corpus:
            of_corpus["nats_per_char"] = _ratio(reader(corpus.sample))
    left_out: tuple[str, ...] = ()
    if not text.is_english(p.text for p in pieces):
        left_out, misspelled = tuple(name for name in ENGLISH_ONLY if figures.pop(name, None)), ()
        of_corpus = {name: figure for name, figure in of_corpus.items() if name not in ENGLISH_ONLY}
    varied, n = variety.by_level(pieces, obsession), variety.N
    return TextQuality(
        figures,
        of_corpus,
        misspelled,
        tuple(copies.tolist()),
        tuple(corpus_copies.tolist()),
        left_out,
        varied,
        variety.by_level(corpus.sample, obsession, min((v.n for v in varied.values()), default=n)) if corpus else {},
    )


def _figures(
    pieces: Sequence[Piece], corpus: Reference | None
) -> tuple[dict[str, Interval], tuple[tuple[str, int], ...]]:
    """Return the figures that need no other story and no model, and the most common misspelled words."""
    listed = word_list()
    vocabulary = corpus.words if corpus else frozenset()
    names = frozenset(name.lower() for name in corpus.heroes) if corpus else frozenset()
    rates: dict[str, list[Rate]] = defaultdict(list)
    misspelled: Counter[str] = Counter()
    for p in pieces:
        words = [w for w in text.words(p.text.lower()) if w.strip("'")]
        topic = {w.strip("'") for w in text.words(p.topic.lower())}
        not_in_corpus = [w for w in words if not _in(w, topic) and not _in(w, vocabulary)]
        unknown = [w for w in not_in_corpus if not _in(w, listed)]
        unlisted = [w for w in words if not any(_in(w, known) for known in (listed, topic, names))]
        misspelled.update(unknown)
        rates["spelled"].append((p.topic, len(words) - len(unknown), len(words)))
        rates["spelled_as_listed"].append((p.topic, len(words) - len(unlisted), len(words)))
        if corpus:
            rates["spelled_as_corpus"].append((p.topic, len(words) - len(not_in_corpus), len(words)))
        rates["ended"].append((p.topic, p.ended, 1))
        rates["loops"].append((p.topic, _repeated(words, LOOP_WORDS) > 0, 1))
        rates["repeated_4_grams"].append((p.topic, _repeated(words, 4), max(0, len(words) - 3)))
        if corpus and corpus.heroes:
            heroes = heroes_in(p.text, corpus.heroes)
            rates["name_slips"].append((p.topic, len(heroes) > 1, 1))
            if heroes and (pronoun := corpus.heroes[heroes[0]]):
                rates["pronoun_slips"].append((p.topic, _uses_other_pronoun(words, pronoun), 1))
        rates["words"].append((p.topic, len(words), 1))
    return {name: _ratio(rows) for name, rows in rates.items()}, tuple(misspelled.most_common(EXAMPLES))


def _in(word: str, known: Collection[str]) -> bool:
    """Return whether `known` has a word as it is, or without quotation marks, or without its possessive 's."""
    bare = word.strip("'")
    return word in known or bare in known or bare.removesuffix("'s") in known


def _repeated(words: Sequence[str], n: int) -> int:
    """Return how many runs of `n` words occur earlier in `words`."""
    runs = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    return runs.total() - len(runs)


def _uses_other_pronoun(words: Iterable[str], pronoun: str) -> bool:
    others = frozenset().union(*(forms for name, forms in PRONOUNS.items() if name != pronoun))
    return not others.isdisjoint(words)


def _ratio(rates: Sequence[Rate]) -> Interval:
    """Return the sum of all parts over the sum of all totals, with its interval."""
    by_topic = defaultdict(list)
    for topic, part, total in rates:
        by_topic[topic].append((part, total))
    return statistics.bootstrap_ratio(by_topic)


def _median(pieces: Sequence[Piece], lengths: np.ndarray) -> Interval:
    by_topic = defaultdict(list)
    for p, n in zip(pieces, lengths, strict=True):
        by_topic[p.topic].append(int(n))
    return statistics.bootstrap(by_topic, lambda x: float(np.median(x)))
