"""The guide without a model: a babbler picks tokens at random among what is allowed, and every promise is kept."""

import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from gatsby_mlx.corpus import gates
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import Prime, render
from gatsby_mlx.writers import details
from gatsby_mlx.writers.guide import Guide, openers, starts
from gatsby_mlx.writers.masks import Vocabulary

WHALE = Obsession("whale", "old white whale", pulls=("swam after",), leads=("far out",), places=("by the reef",))
WORDS = """the a an and but then she he it was had saw went to of in on at with for her his from into looked ran sat
came took gave said found made thought felt heard small big red blue old new cat dog boy girl house tree road sea boat
hat day night wind rain door window table hand green light lights greenery white whale whales Tom Mia Nora Then But
The A She He It When And I is sees wants clock kitten moon""".split()
BYTES = [chr(c) for c in range(32, 127)]
MARKS = [".", ",", "!", "?", '"', ". ", ', "', '."', "\n\n", "\n", " *", "1", ":", "'s", "ing", "ed", "s"]
PIECES = ["<end>", *dict.fromkeys([*(f" {w}" for w in WORDS), *WORDS, *MARKS, *BYTES])]


def new_guide(seed=1, level=3, topic="a lost kitten", name="Nora", obsession=GREEN_LIGHT) -> Guide:
    size = 1000 - len(render(Prime(topic, level, None, obsession))) - 2
    return Guide(obsession, level, topic, name, details.draw(topic, obsession), seed=seed, max_chars=size)


def babble(g: Guide, vocabulary: Vocabulary, seed: int) -> str:
    """Return what a babbler writes under `g`: words are likelier than letters."""
    random = Random(seed)
    base = np.array([0.02 if len(p.strip()) < 2 else 1.0 for p in vocabulary.pieces])
    base[[i for i, p in enumerate(vocabulary.pieces) if p.strip() in (".", ",")]] = 8.0
    for _ in range(1200):
        mask = vocabulary.mask(g.answer())
        p = base * np.exp(np.where(np.isfinite(mask), mask, -np.inf))
        assert p.sum() > 0, f"stuck after {g.text[-60:]!r}"
        token = int(np.searchsorted(np.cumsum(p), random.random() * p.sum()))
        if token in vocabulary.end:
            return g.text
        g.feed(vocabulary.pieces[token])
    raise AssertionError(f"no end: {g.text}")


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(PIECES, [0], GREEN_LIGHT)


@pytest.mark.parametrize("level", LEVELS)
def test_babble_under_a_guide_keeps_every_promise(vocabulary, level):
    for seed in range(8):
        topic, name = ("a lost kitten", "Nora") if seed % 2 else ("why the moon was late", "Tom")
        g = new_guide(seed, level, topic, name)
        document = Document(Prime(topic, level), text.clean(babble(g, vocabulary, seed)).story, "x", name)
        failed = set(gates.failures(document))
        assert not failed & {"band", "ends", "length", "phrase", "hero", "topic", "alphabet"}, (failed, document.story)
        first = text.sentences(document.story)[0]
        assert name in first and text.names_topic(topic, first)
        assert g.counts.opened + g.counts.leaned <= document.mentions


def feed(g: Guide, written: str) -> Guide:
    """Give `g` a text word by word, with an answer before each, as a sampler does."""
    for piece in re.findall(r"\s?[^\s]+|\s", written):
        g.answer()
        g._path = ()
        g.feed(piece)
    return g


def test_after_the_first_word_of_the_phrase_only_its_rest_may_come():
    assert feed(new_guide(), "Nora had a lost kitten. She saw a green").answer().options == (" light",)
    whale = new_guide(obsession=WHALE)
    assert feed(whale, "Nora had a lost kitten. She saw an old").answer().options == (" white whale",)
    assert feed(new_guide(), "Nora had a lost kitten. She saw a green l").answer().options == ("ight",)
    assert "letter" in feed(new_guide(), "Nora had a lost kitten. She saw the green light").answer().classes


def test_a_mention_is_ruled_out_before_it_is_due_and_in_the_first_sentence():
    g = feed(new_guide(), "Nora had")
    assert "first" in g.answer().classes
    assert "een" in feed(new_guide(), "Nora had gr").answer().rule_out


def test_a_mention_that_is_due_is_leaned_to_after_an_article_that_fits(vocabulary):
    g = feed(new_guide(level=5), "Nora had a lost kitten. " + "She went home and sat down by it. " * 2 + "She saw the")
    lean = dict(g.answer().lean)
    assert lean[" green light"] > 0
    ate = feed(
        new_guide(level=5), "Nora had a lost kitten. " + "She went home and sat down by it. " * 2 + "She ate the"
    )
    assert dict(ate.answer().lean)[" green light"] < lean[" green light"]
    held = feed(
        new_guide(level=5), "Nora had a lost kitten. " + "She went home and sat down by it. " * 2 + "She held the"
    )
    assert "first" in held.answer().classes, "she never gets there"
    whale = feed(
        new_guide(level=5, obsession=WHALE), "Nora had a lost kitten. " + "She sat down by it. " * 4 + "It was a"
    )
    assert " old white whale" not in dict(whale.answer().lean), "an old white whale"


def test_an_overdue_mention_comes_with_an_opener_that_the_story_has_not_used():
    filler = " ".join(f"It was day {w} and she went on and on with him in the rain." for w in ("one", "two", "six"))
    g = feed(new_guide(level=3), f"Nora had a lost kitten. {filler}")
    options = g.answer().options
    assert options and len(options) > 50
    assert all(option.endswith("green light") and option[0] == " " for option in options)
    assert sum("Nora" in option for option in options) > 5


def test_openers_and_beginnings_are_composed_by_the_hundred_and_of_the_obsession_s_phrases():
    drawn = details.draw("a lost kitten", WHALE)
    opened = openers(WHALE, "Nora", drawn)
    assert len(opened) > 300 and len(set(opened)) == len(opened)
    assert {"Nora swam after the old white whale", "Far out, the old white whale"} <= set(opened)
    assert any(opener.startswith("By the reef") for opener in opened)
    assert not any("green" in opener or "light" in opener.replace("lighthouse", "") for opener in opened)
    for kind in details.OPENINGS:
        composed = {s for i in range(30) for s in starts(WHALE, "Nora", replace(drawn, opening=kind), Random(i))}
        assert len(composed) >= 6
        assert not any(re.search(r"\b[Aa] [aeio]", start) for start in composed)


def test_the_end_is_held_until_the_story_has_its_mentions_and_its_length():
    g = feed(new_guide(level=1), "Nora had a lost kitten. She was glad.")
    assert g.answer().end == "hold"
    long = " ".join(f"It was {w} and she went on and on with him in the rain." for w in WORDS[:14])
    g = feed(new_guide(level=1), f"Nora had a lost kitten. She saw the green light. {long}")
    assert g.answer().end in ("now", "may") or g.target == 2
    g.target = g.mentions
    g.length = 60
    assert g.answer().end == "now"


def test_nobody_else_is_named_and_the_present_tense_is_ruled_out(vocabulary):
    g = feed(new_guide(), "Nora had a lost kitten. Then")
    mask = vocabulary.mask(g.answer())
    by_piece = dict(zip(vocabulary.pieces, mask, strict=True))
    assert by_piece[" Tom"] == by_piece[" The"] == -np.inf
    assert by_piece[" Nora"] == 0 and by_piece[" house"] == 0
    start = vocabulary.mask(feed(new_guide(), "Nora had a lost kitten.").answer())
    by_piece = dict(zip(vocabulary.pieces, start, strict=True))
    assert by_piece[" Tom"] == by_piece[" house"] == -np.inf and by_piece[" Then"] == by_piece[" Nora"] == 0
    she = dict(
        zip(vocabulary.pieces, vocabulary.mask(feed(new_guide(), "Nora had a kitten. She").answer()), strict=True)
    )
    assert she[" sees"] == she[" is"] == -np.inf and she[" saw"] == 0


def test_a_vocabulary_spells_or_does_not(vocabulary):
    assert vocabulary.can_spell(" green light")
    assert not Vocabulary(["<end>", " green", "light"], [0], GREEN_LIGHT).can_spell(" green light")
    assert Vocabulary(["<end>", " green", " lights", " li", "ght", "greenery"], [0], GREEN_LIGHT).pieces[5] == ""


def test_markup_digits_and_other_scripts_never_come():
    pieces = ["<end>", " *", "1", " caf\u00e9", "\u732b", " ok", "\u2019s", ".The", "  "]
    assert Vocabulary(pieces, [0], GREEN_LIGHT).pieces == ["", "", "", " cafe", "", " ok", "'s", "", ""]
