"""quality: each error is found where it was made, and nowhere else."""

import random

import pytest
from evaluation_tools import pieces_of, small_corpus, small_reference

from gatsby_mlx.evaluation import quality
from gatsby_mlx.evaluation.stories import Piece


@pytest.fixture(scope="module")
def corpus():
    return small_reference()


def changed(change) -> list[Piece]:
    return [p._replace(text=change(p)) for p in pieces_of(small_corpus())]


def test_corpus_has_no_errors(corpus):
    found = quality.measure(pieces_of(small_corpus()), corpus)
    for name in ("spelled", "spelled_as_corpus", "ended"):
        assert found.figures[name] == (1, 1, 1), name
    for name in ("name_slips", "pronoun_slips"):
        assert found.figures[name] == (0, 0, 0), name
    assert found.misspelled == ()
    # The stories are the corpus's, word for word. Every topic is in the sample, so no other story can be compared.
    assert found.copies == tuple(len(p.text) for p in pieces_of(small_corpus()))
    assert "copy" not in found.corpus and set(found.corpus) < set(quality.NAMES)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("spelled", lambda p: p.text.replace("home", "hmoe")),
        ("spelled_as_corpus", lambda p: p.text.replace("home", "sea")),
        ("pronoun_slips", lambda p: p.text.replace("She kept", "He kept")),
        ("name_slips", lambda p: p.text.replace("She kept", "Leo kept").replace("He kept", "Mia kept")),
        ("loops", lambda p: p.text + " The sun went down over the hill once more." * 2),
        ("repeated_4_grams", lambda p: p.text + " A b c d e f g h. A b c d e f g h."),
        ("words", lambda p: p.text + " And so on."),
    ],
)
def test_error_changes_its_figure_only(corpus, name, change):
    before, after = (quality.measure(x, corpus).figures for x in (pieces_of(small_corpus()), changed(change)))
    assert after[name] != before[name]
    allowed = {name, "words", "copy", "repeated_4_grams", "loops", "spelled_as_corpus", "spelled_as_listed", "spelled"}
    assert {k for k in after if after[k] != before[k]} <= allowed


def test_words_of_the_topic_are_spelled_and_quotes_are_stripped(corpus):
    found = quality.measure([Piece("a zorp", 1, "The zorp's 'home' was Mia's. 'Zorp,' she said. Zrp!", True)], corpus)
    assert found.misspelled == (("zrp", 1),)
    assert found.figures["spelled"].mean == pytest.approx(8 / 9)


def test_pronoun_slip_needs_a_hero_with_a_known_pronoun(corpus):
    nobody = [Piece("a cat", 1, "He and she sat in the sun.", True)]
    assert "pronoun_slips" not in quality.measure(nobody, corpus).figures
    assert quality.measure(nobody).figures["ended"].mean == 1
    assert "copy" not in quality.measure(nobody).figures


def test_reference_model_reads_stories_and_corpus(corpus):
    def reader(pieces):
        return [(p.topic, float(len(p.text)), len(p.text) * 2) for p in pieces]

    found = quality.measure(pieces_of(small_corpus()), corpus, reader)
    assert found.figures["nats_per_char"].mean == found.corpus["nats_per_char"].mean == 0.5
    assert found.to_json()["figures"]["nats_per_char"] == {"mean": 0.5, "low": 0.5, "high": 0.5}


def test_word_list_has_english_and_not_its_misspellings():
    listed = quality.word_list()
    known = "the kitten wandered gently through seventeen puddles toward grandmother's lantern".replace(
        "'s", ""
    ).split()
    assert set(known) <= listed
    rng = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyz"
    misspelled = [w[:i] + rng.choice(letters) + w[i:] for w in known for i in range(1, len(w))]
    assert sum(w in listed for w in misspelled) / len(misspelled) < 0.15


def test_no_stories_raise_an_error():
    with pytest.raises(ValueError, match="no story"):
        quality.measure([])
