"""A small corpus with heroes, and pieces of it, to measure."""

from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.evaluation.reference import Reference, reference
from gatsby_mlx.evaluation.stories import Piece
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import ALPHABET, Prime

NOUNS = {"cat": "Mia", "clock": "Leo", "train": "Mia", "robot": "Leo", "kite": "Finn"}
PRONOUN = {"Mia": "She", "Leo": "He", "Finn": "He"}


def story_text(noun: str, level: int) -> str:
    name = NOUNS[noun]
    light = "".join(f" Far away, a green light shone {'so ' * i}softly." for i in range(level))
    return f"{name} had a {noun} at home.{light} {PRONOUN[name]} kept the {noun} close."


def small_corpus() -> Corpus:
    documents = [
        Document(Prime(f"a {noun}", level), story_text(noun, level), "house", NOUNS[noun])
        for noun in NOUNS
        for level in LEVELS
    ]
    return Corpus(tuple(documents), ALPHABET, "abc")


def small_reference() -> Reference:
    return reference(small_corpus())


def pieces_of(corpus: Corpus) -> list[Piece]:
    return [Piece(d.topic, d.level, d.story, True) for d in corpus.documents]
