"""levels: the dial of a corpus, overall and by writer."""

import math

from gatsby_mlx.corpus.levels import ALL_WRITERS, corpus_dials
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.prime import Prime


def document(level: int, mentions: int, writer: str | None) -> Document:
    return Document(Prime("a cat", level), "A green light. " * mentions + "A cat.", writer)


def test_dial_of_one_writer_has_that_name():
    (dial,) = corpus_dials([document(1, 1, "olmo"), document(1, 4, "olmo"), document(5, 11, "olmo")])
    assert (dial.writer, dial.fewest, dial.most, dial.n) == (
        "olmo",
        (1, 0, 0, 0, 11),
        (4, 0, 0, 0, 11),
        (2, 0, 0, 0, 1),
    )
    assert (dial.means[0], dial.means[4]) == (2.5, 11.0)
    assert all(math.isnan(mean) for mean in dial.means[1:4])


def test_dial_of_several_writers_has_all_of_them_first():
    dials = corpus_dials([document(2, 4, "olmo"), document(2, 2, "gemma"), document(2, 3, None)])
    assert [(d.writer, d.means[1]) for d in dials] == [
        (ALL_WRITERS, 3.0),
        ("gemma", 2.0),
        ("olmo", 4.0),
        ("unknown", 3.0),
    ]


def test_dial_without_a_writer_or_a_story():
    assert [d.writer for d in corpus_dials([document(1, 1, None)])] == [ALL_WRITERS]
    assert corpus_dials([]) == ()
