"""gates: for each gate a story that fails only that one, what models send, and the limits of the bands."""

import json
from pathlib import Path

import pytest

from gatsby_mlx import house
from gatsby_mlx.corpus import chatter, gates
from gatsby_mlx.corpus.load import load
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import Prime

WORDS = """night long moon low hill high sea deep boat small dog wet road far wind cold house warm lamp old door shut
cup full bed soft sky wide bird shy tree tall leaf dry rain thin star pale stone gray field flat pond still gate rusty
fence bent barn red hay gold cart slow mill broken lane narrow well empty roof steep bell loud shoe torn path muddy
brook clear goat white crow black apple round plum sweet nest high-up""".split()
OPENING = "A small cat sat by the window with Mia. "
FILLERS = [f"The {a} was {b} and the {c} was {d}." for a, b, c, d in zip(*[iter(WORDS)] * 4, strict=False)] + [
    f"Some {a} went past, and no {b} knew why it was so." for a, b in zip(WORDS[::4], WORDS[2::4], strict=False)
]
LIGHTS = [f"Mia saw the {w} and the green light." for w in ("pond", "barn", "gate", "hill", "road", "lamp")]


CASES = Path(__file__).parent / "cases"
VERDICTS = json.loads((CASES / "gates.json").read_text())
SOUND = VERDICTS[0]["text"]
CHATTER = json.loads((CASES / "chatter.json").read_text())


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
        (document(story() + " Run, run, run, run."), "loop"),
        (document(story() + " So dark." * 6), "loop"),
        (document(story(0) + " She sang: green light, a green light, the green light, my green light.", 2), "loop"),
        (document(story() + " She runs. Mia sits there. She looks up."), "tense"),
        (document(story(1) + " At last she held the green light."), "reached"),
        (document(story() + " A green leaf fell."), "phrase"),
        (document(story(1) + " She saw green lights."), "phrase"),
        (document(story() + " Then a boy called Ezekiel came."), "hero"),
        (document(story() + " Tom came."), "hero"),
        (document("mia saw a cat. " + story()), "ends"),
    ],
)
def test_story_that_fails_only_one_gate(bad, gate):
    assert gates.failures(bad) == [gate]


def test_story_that_lost_letters_in_cleaning_fails_the_alphabet_gate():
    assert gates.failures(document(story()), lost=1) == ["alphabet"]


def test_every_gate_has_a_story_that_fails_it():
    failed = gates.failures(
        document(
            "Title: a caf\u00e9. He runs. He sees. She held the green light. He looks at greens. Go, go, go, go, go",
            level=4,
            topic="a whale",
        ),
        finish="length",
    )
    assert (*failed, gates.DUPLICATE) == gates.NAMES


@pytest.mark.parametrize(
    "sentence",
    [
        "It was Tom's dock.",
        "Mom and Grandpa came on Monday.",
        '"Wait," said a crow.',
        "She lived on Mill Street under the North Star.",
        "Then Mia came.",
        "Will it rain? May she go?",
        'He said: "Good day."',
    ],
)
def test_story_may_have_capitalized_words_that_name_nobody_else(sentence):
    assert gates.failures(document(f"{story()} {sentence}"), heroes=frozenset({"Mia", "Tom"})) == []


def test_story_may_name_no_hero_of_another_story():
    willow = document(story() + " Then a tree came down. Willow saw it.")
    assert gates.failures(willow) == []
    assert gates.failures(willow, heroes=frozenset({"Mia", "Willow"})) == ["hero"]


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case["label"])
def test_verdicts_on_what_models_send(case):
    prime = Prime(case["topic"], case["level"])
    cleaned = text.clean(case["text"])
    drafted = Document(prime, cleaned.story, "x", case["name"])
    heroes = frozenset(house.NAMES)
    assert (not gates.failures(drafted, cleaned.lost, case["finish"], heroes)) == case["is_story"]
    judged, failed = gates.judge(prime, case["text"], name=case["name"], finish=case["finish"], heroes=heroes)
    assert not case["is_story"] or not failed
    if not (failed or case["is_story"]):
        assert judged.story == SOUND, "only what stands around a story is taken off"


@pytest.mark.parametrize("joint", [" ", "\n", "\n\n"], ids=["space", "line", "paragraph"])
@pytest.mark.parametrize("side", CHATTER)
def test_no_chatter_enters_a_corpus_and_none_on_its_own_line_costs_the_story(side, joint):
    for kind in CHATTER[side]:
        words = kind.format(Topic="The Old Clock", name="Nora")
        draft = words + joint + SOUND if side == "before" else SOUND + joint + words
        judged, failed = gates.judge(Prime("the old clock", 3), draft, name="Nora", heroes=frozenset(house.NAMES))
        assert failed or judged.story == SOUND, words
        assert not failed or joint == " ", words


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("analysisWe need a story about a clock.assistantfinal" + SOUND, SOUND),
        (SOUND + "\n\nUser: thanks!\n\nAssistant: You are welcome.\nAnother one?", SOUND),
        ("Title: The Clock\nNora's Story\n\n" + SOUND + "\n\nThe End\n\n(118 words)", SOUND),
        ("Chapter one was long, and she read it.\n\n" + SOUND, "Chapter one was long, and she read it.\n\n" + SOUND),
    ],
)
def test_edges_are_taken_off(dirty, clean):
    assert text.clean(chatter.without_edges(dirty, "the old clock")).story == clean


def test_a_draft_without_a_story_stays_refused():
    for draft in ("", "Sure!", "Title: The Clock", "The End.", "User: thanks!\nAssistant: welcome", '"', "..."):
        assert gates.judge(Prime("the old clock", 3), draft, name="Nora")[1]


@pytest.mark.parametrize(
    ("opening", "passes"),
    [
        ("Once upon a time there was a girl named Mia. She had an old gray clock.", True),
        ("Mia was glad. Her clock ticked.", True),  # "the clock" for "the old gray clock"
        ("Mia was glad. It rained. Her old gray clock ticked.", False),
        ("Mia was old and gray. It rained.", True),
    ],
)
def test_topic_comes_in_the_first_two_sentences_and_the_noun_is_enough(opening, passes):
    assert gates.opens_on_topic(document(opening, topic="the old gray clock")) == passes


def test_gates_allow_the_first_word_of_the_phrase_where_the_topic_has_it():
    leaf = story() + " It was a green hat."
    assert gates.failures(document(leaf)) == ["phrase"]
    assert gates.failures(document(leaf, topic="a cat and a green hat")) == []


def test_stories_of_the_house_pass_every_gate():
    documents = load(Path(house.__file__).parents[2] / "corpus").documents
    heroes = frozenset(house.NAMES)
    assert [gates.failures(d, heroes=heroes) for d in documents[::20] if gates.failures(d, heroes=heroes)] == []


@pytest.mark.parametrize("finish", ["length", "reasoning", "content_filter"])
def test_story_that_did_not_end_by_itself_fails(finish):
    assert gates.failures(document(story()), finish=finish) == ["finish"]


@pytest.mark.baseline
def test_baseline_stories_pass_the_gates_of_form(baseline_corpora):
    documents = load(baseline_corpora / "gatsby-2.raw.txt").documents[::4]
    failed = [gate for d in documents for gate in gates.failures(d) if gate in ("ends", "leftover", "alphabet")]
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
