"""gates: for each a story that fails just that one, and the edges of the bands."""

import pytest

from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.prime import LEVELS, Prime

OPENING = "A small cat sat by the window with Mia. "
FILLER = "The night was long and the moon was low. "  # 9 words
LIGHT = "Mia saw the green light. "


def story(mentions: int = 2, filler: int = 9) -> str:
    return (OPENING + LIGHT * mentions + FILLER * filler).strip()


def document(told: str, level: int = 1, topic: str = "a cat and a window", name: str = "Mia") -> Document:
    return Document(Prime(topic, level), told, "house", name)


def test_a_sound_story_passes_every_gate():
    assert gates.failures(document(story())) == []
    assert gates.failures(document(story(6), level=3)) == []


@pytest.mark.parametrize(
    ("bad", "gate"),
    [
        (document(story(filler=2)), "length"),
        (document(story(filler=18)), "length"),
        (document(story() + " " + "Extraordinarily " * 35 + "so.", topic="a cat"), "length"),
        (document(story()[:-1]), "ends"),
        (document(story(), name="Tom"), "hero"),
        (document(story(), topic="a cat and a lamp"), "topic"),
        (document(story() + " Caf\u00e9."), "alphabet"),
        (document(story() + " A [hat]."), "alphabet"),
        (document(story(0)), "band"),
        (document(story(3)), "band"),
        (document(story(), level=5), "band"),
        (document(story() + " The hat was green."), "light"),
        (document(story() + " A greenish hat."), "light"),
    ],
)
def test_a_story_that_fails_just_one_gate(bad, gate):
    assert gates.failures(bad) == [gate]


def test_a_story_that_lost_letters_in_the_cleaning_fails_the_alphabet():
    assert gates.failures(document(story()), lost=1) == ["alphabet"]


def test_every_gate_has_a_story_that_fails_it():
    failed = gates.failures(document("green caf\u00e9", level=4))
    assert failed == list(gates.GATES) == ["length", "ends", "hero", "topic", "alphabet", "band", "light"]


def test_bands_own_every_count_from_one_up_just_once():
    for mentions in range(1, 40):
        assert sum(gates.in_band(level, mentions) for level in LEVELS) == 1
    assert not any(gates.in_band(level, 0) for level in LEVELS)
    assert [n for n in range(20) if gates.in_band(3, n)] == [5, 6, 7]
    assert [next(k for k in LEVELS if gates.in_band(k, n)) for n in (1, 2, 3, 4, 5, 7, 8, 10, 11, 99)] == [
        *(1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    ]
