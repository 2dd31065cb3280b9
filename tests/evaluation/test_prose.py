"""prose: each fault is found where it was put, and nowhere else."""

import random

import pytest
from evaluation_tools import pieces_of, small_corpus, small_reference

from gatsby_mlx.evaluation import prose
from gatsby_mlx.evaluation.stories import Piece


@pytest.fixture(scope="module")
def corpus():
    return small_reference()


def changed(change) -> list[Piece]:
    return [p._replace(text=change(p)) for p in pieces_of(small_corpus())]


def test_the_corpus_itself_has_no_fault(corpus):
    found = prose.measure(pieces_of(small_corpus()), corpus)
    for name in ("spelled", "spelled_as_corpus", "ended"):
        assert found.figures[name] == (1, 1, 1), name
    for name in ("name_slips", "pronoun_slips"):
        assert found.figures[name] == (0, 0, 0), name
    assert found.misspelled == ()
    # Word for word from the corpus; of a corpus whose every topic is in the sample, nothing is left to compare with.
    assert found.copies == tuple(len(p.text) for p in pieces_of(small_corpus()))
    assert "copy" not in found.corpus and set(found.corpus) < set(prose.NAMES)


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
def test_a_fault_is_found_where_it_was_put(corpus, name, change):
    before, after = (prose.measure(x, corpus).figures for x in (pieces_of(small_corpus()), changed(change)))
    assert after[name] != before[name]
    allowed = {name, "words", "copy", "repeated_4_grams", "loops", "spelled_as_corpus", "spelled_as_listed", "spelled"}
    assert {k for k in after if after[k] != before[k]} <= allowed


def test_words_of_the_topic_count_as_spelled_and_quotes_are_no_part_of_a_word(corpus):
    found = prose.measure([Piece("a zorp", 1, "The zorp's 'home' was Mia's. 'Zorp,' she said. Zrp!", True)], corpus)
    assert found.misspelled == (("zrp", 1),)
    assert found.figures["spelled"].mean == pytest.approx(8 / 9)


def test_an_opposite_pronoun_needs_a_hero_whose_own_is_known(corpus):
    nobody = [Piece("a cat", 1, "He and she sat in the sun.", True)]
    assert "pronoun_slips" not in prose.measure(nobody, corpus).figures
    assert prose.measure(nobody).figures["ended"].mean == 1
    assert "copy" not in prose.measure(nobody).figures


def test_a_judge_reads_both_sides(corpus):
    def judge(pieces):
        return [(p.topic, float(len(p.text)), len(p.text) * 2) for p in pieces]

    found = prose.measure(pieces_of(small_corpus()), corpus, judge)
    assert found.figures["nats_per_char"].mean == found.corpus["nats_per_char"].mean == 0.5
    told = found.to_json()
    assert told["figures"]["nats_per_char"] == {"mean": 0.5, "low": 0.5, "high": 0.5}


def test_the_word_list_knows_english_and_not_its_misspellings():
    listed = prose.word_list()
    known = "the kitten wandered gently through seventeen puddles toward grandmother's lantern".replace(
        "'s", ""
    ).split()
    assert set(known) <= listed
    rng = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyz"
    torn = [w[:i] + rng.choice(letters) + w[i:] for w in known for i in range(1, len(w))]
    assert sum(w in listed for w in torn) / len(torn) < 0.15


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="no story"):
        prose.measure([])
