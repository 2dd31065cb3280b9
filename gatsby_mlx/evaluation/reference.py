"""What a corpus gives an evaluation: its words, its heroes, its dial, and stories to measure for comparison."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatsby_mlx.corpus.levels import CorpusDial, corpus_dials, means_by_level
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.evaluation import statistics
from gatsby_mlx.evaluation.stories import Piece
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document, topics_of
from gatsby_mlx.story.text import spread

TOPICS = 120  # of a corpus, whose stories are measured for comparison
CLEAR = 0.8  # a hero's pronoun is clear if this share of the stories with a pronoun use it
PRONOUNS = {
    "he": frozenset({"he", "him", "his", "himself"}),
    "she": frozenset({"she", "her", "hers", "herself"}),
}


@dataclass(frozen=True)
class Reference:
    """A corpus to compare with.

    `words` (lower case) and `stems` are those of all its topics and stories. `heroes` maps each name to its pronoun
    ("he", "she", or "" if that is not clear). `dials` are from `corpus_dials`; `distinct` are the five mean mentions
    with repeated sentences counted once; `spearman` correlates level and mentions over all stories. `sample` has every
    story on up to TOPICS topics, `others` the stories on all other topics, `stories` all of them.
    """

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

    def to_json(self) -> dict[str, Any]:
        """Return what evaluation.json says about the corpus."""
        return {
            "sha256": self.sha256,
            "stories": self.n_documents,
            "characters": self.n_chars,
            "writers": [d.writer for d in self.dials],
            "spearman": self.spearman,
            "sample": len(self.sample),
        }


def reference(corpus: Corpus) -> Reference:
    """Return what an evaluation compares with, from a corpus."""
    documents = corpus.documents
    words = frozenset(w.lower() for d in documents for w in text.words(f"{d.topic} {d.story}"))
    sampled = set(spread(sorted(topics_of(documents)), TOPICS))
    return Reference(
        sha256=corpus.sha256,
        n_documents=len(documents),
        n_chars=corpus.n_chars,
        words=words,
        stems=frozenset(map(text.stem, words)),
        heroes=_heroes(documents),
        dials=corpus_dials(documents),
        distinct=means_by_level((d.level, d.distinct_mentions) for d in documents),
        spearman=statistics.spearman([d.level for d in documents], [d.mentions for d in documents]),
        sample=tuple(
            Piece(d.topic, d.level, d.story, text.ends_in_sentence(d.story)) for d in documents if d.topic in sampled
        ),
        others=tuple(d.story for d in documents if d.topic not in sampled),
        stories=tuple(d.story for d in documents),
    )


def _heroes(documents: tuple[Document, ...]) -> dict[str, str]:
    """Return the names that the manifest lists, each with the pronoun that most of its stories use."""
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for d in documents:
        if d.name:
            used[d.name].update(kind for w in text.words(d.story.lower()) for kind in PRONOUNS if w in PRONOUNS[kind])
    return {name: _clear(counts) for name, counts in sorted(used.items())}


def _clear(counts: Counter[str]) -> str:
    return next((pronoun for pronoun, n in counts.items() if n >= CLEAR * counts.total()), "")


def heroes_in(story: str, heroes: Mapping[str, str]) -> list[str]:
    """Return the names of `heroes` that occur in `story`, in order of first appearance.

    >>> heroes_in("Leo's hat. Then Mia and Leo.", {"Leo": "he", "Mia": "she"})
    ['Leo', 'Mia']
    """
    return list(dict.fromkeys(w for w in (w.removesuffix("'s") for w in text.words(story)) if w in heroes))
