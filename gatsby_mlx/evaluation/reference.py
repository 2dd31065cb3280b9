"""What a corpus gives an evaluation: its words, its heroes, its own dial, and stories to measure beside a model's."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from gatsby_mlx import prime, text
from gatsby_mlx.corpus.document import Document, topics_of
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.evaluation import stats
from gatsby_mlx.evaluation.corpus_dial import CorpusDial, corpus_dials
from gatsby_mlx.evaluation.stories import Piece, spread

TOPICS = 120  # of a corpus whose stories are measured beside the model's
CLEAR = 0.8  # share of a name's pronouns that have to be of one kind
PRONOUNS = {
    "he": frozenset({"he", "him", "his", "himself"}),
    "she": frozenset({"she", "her", "hers", "herself"}),
}


@dataclass(frozen=True)
class Reference:
    """A corpus as a measure: `words` (lower case) and `stems` of all its topics and stories; `heroes`, each name with
    the pronoun that goes with it ("he", "she", or "" where that is not clear); `dials` as `corpus_dials` gives them;
    `distinct`, the five means with repeated sentences counted once; `spearman` of level and mentions, pooled;
    `sample`, every story of up to 120 topics; `others`, the stories on the other topics; `stories`, all of them."""

    sha256: str
    n_documents: int
    n_chars: int
    words: frozenset[str]
    stems: frozenset[str]
    heroes: dict[str, str]
    dials: tuple[CorpusDial, ...]
    distinct: tuple[float, ...]
    spearman: float
    sample: tuple[Piece, ...]
    others: tuple[str, ...]
    stories: tuple[str, ...]

    @property
    def means(self) -> tuple[float, ...]:
        """Mean mentions at the five levels."""
        return self.dials[0].means

    def to_json(self) -> dict:
        told = {"sha256": self.sha256, "stories": self.n_documents, "characters": self.n_chars}
        return {
            **told,
            "writers": [d.writer for d in self.dials],
            "spearman": self.spearman,
            "sample": len(self.sample),
        }


def reference(corpus: Corpus) -> Reference:
    """Read a corpus for comparison."""
    documents = corpus.documents
    words = frozenset(w.lower() for d in documents for w in text.words(f"{d.topic} {d.story}"))
    chosen = set(spread(sorted(topics_of(documents)), TOPICS))
    return Reference(
        corpus.sha256,
        len(documents),
        corpus.n_chars,
        words,
        frozenset(map(text.stem, words)),
        _heroes(documents),
        corpus_dials(documents),
        _distinct(documents),
        stats.spearman([d.level for d in documents], [text.count_mentions(d.story) for d in documents]),
        tuple(Piece(d.topic, d.level, d.story, text.ends_in_sentence(d.story)) for d in documents if d.topic in chosen),
        tuple(d.story for d in documents if d.topic not in chosen),
        tuple(d.story for d in documents),
    )


def _distinct(documents: tuple[Document, ...]) -> tuple[float, ...]:
    counts = defaultdict(list)
    for d in documents:
        counts[d.level].append(text.count_distinct_mentions(d.story))
    return tuple(sum(counts[k]) / len(counts[k]) if counts[k] else math.nan for k in prime.LEVELS)


def _heroes(documents: tuple[Document, ...]) -> dict[str, str]:
    """Return the names that the manifest gives, each with its pronoun: the one that most of its stories use."""
    used: dict[str, Counter] = defaultdict(Counter)
    for d in documents:
        if d.name:
            used[d.name].update(kind for w in text.words(d.story.lower()) for kind in PRONOUNS if w in PRONOUNS[kind])
    clear = {name: [k for k, n in own.items() if n >= CLEAR * own.total()] for name, own in used.items()}
    return {name: (kinds or [""])[0] for name, kinds in sorted(clear.items())}


def heroes_in(story: str, heroes: dict[str, str]) -> list[str]:
    """Return the names of `heroes` that stand in `story`, in order of appearance."""
    return list(dict.fromkeys(w for w in (w.removesuffix("'s") for w in text.words(story)) if w in heroes))
