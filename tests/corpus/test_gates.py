"""gates: for each gate a story that fails only that one, and the limits of the bands."""

import pytest

from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.load import load
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import Prime

WORDS = """night long moon low hill high sea deep boat small dog wet road far wind cold house warm lamp old door shut
cup full bed soft sky wide bird shy tree tall leaf dry rain thin star pale stone grey field flat pond still gate rusty
fence bent barn red hay gold cart slow mill broken lane narrow well empty roof steep bell loud shoe torn path muddy
brook clear goat white crow black apple round plum sweet nest high-up""".split()
OPENING = "A small cat sat by the window with Mia. "
FILLERS = [f"The {a} was {b} and the {c} was {d}." for a, b, c, d in zip(*[iter(WORDS)] * 4, strict=False)] + [
    f"Some {a} went past, and no {b} knew why it was so." for a, b in zip(WORDS[::4], WORDS[2::4], strict=False)
]
LIGHTS = [f"Mia saw the {w} and the green light." for w in ("pond", "barn", "gate", "hill", "road", "lamp")]


def story(mentions: int = 2, filler: int = 9) -> str:
    return " ".join([OPENING.strip(), *LIGHTS[:mentions], *FILLERS[:filler]]).strip()


def document(text: str, level: int = 1, topic: str = "a cat and a window", name: str = "Mia") -> Document:
    return Document(Prime(topic, level), text, "house", name)


def test_good_story_passes_every_gate():
    assert gates.failures(document(story())) == []
    assert gates.failures(document(story(6), level=3)) == []


@pytest.mark.parametrize(
    ("bad", "gate"),
    [
        (document(story(filler=2)), "length"),
        (document(story(filler=32)), "length"),
        (document(story() + " " + " ".join(f"{w}ingly{w}ish" for w in WORDS[:60]) + ".", topic="a cat"), "length"),
        (document(story()[:-1]), "ends"),
        (document(story(), name="Tom"), "hero"),
        (document(story(), topic="a whale"), "topic"),
        (document(story() + " Caf\u00e9."), "alphabet"),
        (document(story() + " A [hat]."), "alphabet"),
        (document(story(0)), "band"),
        (document(story(3)), "band"),
        (document(story(), level=5), "band"),
        (document(story() + "\n\nNote: she was here."), "leftover"),
        (document(story() + " This was level 3."), "leftover"),
        (document(story() + " <end>."), "leftover"),
        (document(story(2, 7) + " I hope you like it, as an AI."), "leftover"),
        (document(story() + " She went on." * 4), "loop"),
    ],
)
def test_story_that_fails_only_one_gate(bad, gate):
    assert gates.failures(bad) == [gate]


def test_story_that_lost_letters_in_cleaning_fails_the_alphabet_gate():
    assert gates.failures(document(story()), lost=1) == ["alphabet"]


def test_every_gate_has_a_story_that_fails_it():
    failed = gates.failures(
        document("Title: a caf\u00e9 and a b and a b and a b", level=4, topic="a whale"), finish="length"
    )
    assert (*failed, gates.DUPLICATE) == gates.NAMES


def test_story_may_name_its_hero_and_no_other():
    both = document(story() + " Then Tom came.")
    assert gates.failures(both) == gates.failures(both, heroes=frozenset({"Mia"})) == []
    assert gates.failures(both, heroes=frozenset({"Mia", "Tom"})) == ["hero"]
    assert gates.failures(document(story() + " It was Tom's dock."), heroes=frozenset({"Mia", "Tom"})) == []


@pytest.mark.parametrize("finish", ["length", "reasoning", "content_filter"])
def test_story_that_did_not_end_by_itself_fails(finish):
    assert gates.failures(document(story()), finish=finish) == ["finish"]


@pytest.mark.baseline
def test_baseline_stories_pass_the_gates_that_are_not_about_length_or_mentions(baseline_corpora):
    documents = load(baseline_corpora / "gatsby-2.raw.txt").documents
    failed = [gate for d in documents for gate in gates.failures(d) if gate in ("ends", "hero", "leftover", "alphabet")]
    assert len(failed) < 0.03 * len(documents)


def test_every_count_from_one_up_is_in_exactly_one_band():
    bands = GREEN_LIGHT.band
    for mentions in range(1, 40):
        assert sum(gates.in_band(level, mentions, bands) for level in LEVELS) == 1
    assert not any(gates.in_band(level, 0, bands) for level in LEVELS)
    assert [n for n in range(20) if gates.in_band(3, n, bands)] == [5, 6, 7]
    levels = [gates.fitting_level(n, bands) for n in (1, 2, 3, 4, 5, 7, 8, 10, 11, 99)]
    assert levels == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert gates.fitting_level(0, bands) is None


def test_gates_use_the_obsession_of_the_document():
    whale = Obsession("whale", "white whale", bands=((2, 2), (3, 4), (5, 7), (8, 10), (11, None)))

    def of_whales(text: str) -> Document:
        return Document(Prime("a cat and a window", 1, None, whale), text, "house", "Mia")

    assert gates.failures(of_whales(story().replace("green light", "white whale"))) == []
    assert gates.failures(of_whales(story(1).replace("green light", "white whale"))) == ["band"]
    assert gates.failures(of_whales(story())) == ["band"]
    forged = story().replace("green light", "white whale") + " It was whale=1 now."
    assert gates.failures(of_whales(forged)) == ["leftover"]
    assert gates.failures(document(story() + " It was whale=1 now.")) == []
