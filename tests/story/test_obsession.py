"""obsession: one value with its tag, phrase, levels and bands, from JSON and back, in primes, documents and text."""

import json
import tomllib
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatsby_mlx.errors import CorpusError, TopicError, UsageError
from gatsby_mlx.story import document, prime, text
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import Prime

WHALE = Obsession(
    tag="whale",
    phrase="white whale",
    levels=("quiet", "calm", "keen", "wild", "mad"),
    bands=((1, 1), (2, 3), (4, 6), (7, 9), (10, None)),
    places=("past the reef",),
    looks=("as pale as milk",),
    pulls=("it pulled at her like a tide",),
    leads=("far out there was",),
    title="The white whale",
)
MOON = Obsession("moon", "moon")

TABLE = """
tag = "whale"
phrase = "white whale"
levels = ["faint", "soft", "strong", "heavy", "total"]
bands = [[1, 2], [3, 4], [5, 7], [8, 10], [11]]
places = ["past the reef"]
title = "The white whale"
"""


def test_green_light_is_the_default():
    assert Obsession() == GREEN_LIGHT
    assert (GREEN_LIGHT.tag, GREEN_LIGHT.phrase) == ("green", "green light")
    assert GREEN_LIGHT.control_line(5) == "[green=5] [green=5] [green=5] obsession=total"
    assert [GREEN_LIGHT.level_word(n) for n in LEVELS] == ["faint", "soft", "strong", "heavy", "total"]
    assert GREEN_LIGHT.band == {1: (1, 2), 2: (3, 4), 3: (5, 7), 4: (8, 10), 5: (11, None)}
    assert Prime("a cat", 1).obsession == GREEN_LIGHT


def test_obsession_is_frozen_and_hashable():
    with pytest.raises(FrozenInstanceError):
        WHALE.tag = "shark"  # pyright: ignore[reportAttributeAccessIssue]
    assert len({WHALE, MOON, GREEN_LIGHT, replace(WHALE)}) == 3


# Mentions.


@pytest.mark.parametrize(
    ("story", "n"),
    [
        ("", 0),
        ("A white whale.", 1),
        ("White\nwhale, WHITE  WHALE, white\n\nwhale.", 3),
        ("whitewhale, white-whale, a whale white, off-white whaler", 1),
        ("the white whales", 1),
        ("a green light", 0),
    ],
)
def test_phrase_of_two_words_is_counted_across_white_space_and_case(story, n):
    assert WHALE.count(story) == n


def test_phrase_of_one_word_is_counted():
    assert MOON.count("Moon, the moon and a MOON; no sun.") == 3
    assert MOON.spellings == ("moon", "Moon")
    assert MOON.words == ("moon",)
    assert WHALE.spellings == ("white whale", "White whale")


def test_phrase_with_an_apostrophe_or_a_hyphen_is_counted():
    assert Obsession("fox", "king's well-fed fox").count("The King's\nwell-fed  fox. A kings well fed fox.") == 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["white", "Whale", " ", "\n", ".", "!", "a", '"']), max_size=30).map("".join))
def test_distinct_mentions_are_counted_for_any_obsession(story):
    distinct, every = text.count_distinct_mentions(story, WHALE), WHALE.count(story)
    assert (distinct > 0) == (every > 0)
    assert distinct <= every


def test_distinct_mentions_count_the_phrase_of_the_obsession_only():
    story = "The white whale. The white whale. A green light. A green light. A green light."
    assert (WHALE.count(story), text.count_distinct_mentions(story, WHALE)) == (2, 1)
    assert (GREEN_LIGHT.count(story), text.count_distinct_mentions(story, GREEN_LIGHT)) == (3, 1)


# Values that are refused.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tag": ""}, "tag"),
        ({"tag": "White"}, "tag"),
        ({"tag": "a b"}, "tag"),
        ({"tag": "a]"}, "tag"),
        ({"phrase": ""}, "phrase"),
        ({"phrase": "ab"}, "phrase"),
        ({"phrase": "White whale"}, "phrase"),
        ({"phrase": "white  whale"}, "phrase"),
        ({"phrase": " whale"}, "phrase"),
        ({"phrase": "whale!"}, "phrase"),
        ({"phrase": "whale 7"}, "phrase"),
        ({"levels": ("a", "b", "c", "d")}, "five words"),
        ({"levels": ("a", "b", "c", "d", "e", "f")}, "five words"),
        ({"levels": ("a", "b", "c", "d", "E")}, "five words"),
        ({"levels": ("a", "b", "c", "d", "two words")}, "five words"),
        ({"levels": ("a", "b", "c", "d", "a")}, "five different words"),
    ],
)
def test_values_that_do_not_fit_a_control_line_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        replace(WHALE, **values)


@pytest.mark.parametrize(
    ("bands", "level"),
    [
        (((1, 2), (2, 4), (5, 7), (8, 10), (11, None)), 2),  # 2 is in two bands
        (((1, 2), (3, 5), (5, 7), (8, 10), (11, None)), 3),
        (((1, 2), (3, 4), (5, 12), (8, 10), (11, None)), 4),
        (((1, 2), (3, 4), (5, 7), (8, 11), (11, None)), 5),
        (((0, 2), (3, 4), (5, 7), (8, 10), (11, None)), 1),
        (((2, 1), (3, 4), (5, 7), (8, 10), (11, None)), 1),
        (((1, 2), (3, None), (5, 7), (8, 10), (11, None)), 2),
        (((1, 2), (3, 4), (5, 7), (8.0, 10), (11, None)), 4),
        (((1, 2), (3, 4), (5, 7), (8, "10"), (11, None)), 4),
        (((1, 2), (3, 4), (5, 7), (8, 10)), 5),
    ],
)
def test_bands_that_overlap_or_do_not_rise_are_refused(bands, level):
    with pytest.raises(UsageError, match=f"level {level}"):
        replace(WHALE, bands=bands)


def test_more_than_five_bands_are_refused():
    with pytest.raises(UsageError, match="five pairs"):
        replace(WHALE, bands=(*GREEN_LIGHT.bands[:4], (11, 12), (13, None)))


def test_last_band_may_have_an_end_and_bands_may_have_gaps():
    assert replace(WHALE, bands=((1, 1), (3, 3), (5, 5), (7, 7), (9, 9))).band[5] == (9, 9)


# JSON.

WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=8)
TEXTS = st.lists(st.text(max_size=20), max_size=3).map(tuple)


@st.composite
def obsessions(draw) -> Obsession:
    steps = draw(st.lists(st.integers(1, 5), min_size=10, max_size=10))
    edges = [sum(steps[: n + 1]) for n in range(10)]
    bands = [(edges[2 * n], edges[2 * n + 1]) for n in range(5)]
    if draw(st.booleans()):
        bands[4] = (bands[4][0], None)
    levels = draw(st.lists(WORDS, min_size=5, max_size=5, unique=True))
    phrase = " ".join(draw(st.lists(WORDS, min_size=1, max_size=3)))
    texts = [draw(TEXTS) for _ in range(4)]
    return Obsession(draw(WORDS), phrase, tuple(levels), tuple(bands), *texts, title=draw(st.text(max_size=20)))


@settings(deadline=None)
@given(obsessions())
def test_json_round_trip_is_the_identity(obsession):
    content = json.loads(json.dumps(obsession.to_json()))
    again = Obsession.from_json(content)
    assert again == obsession
    assert hash(again) == hash(obsession)
    assert again.to_json() == obsession.to_json() == content


@pytest.mark.parametrize("last", [[11], [11, None]])
def test_last_band_is_open_without_an_end_and_with_null(last):
    content = {"tag": "whale", "phrase": "white whale", "bands": [[1, 2], [3, 4], [5, 7], [8, 10], last]}
    read = Obsession.from_json(json.loads(json.dumps(content)))
    assert read.band[5] == (11, None)
    assert read == Obsession("whale", "white whale")
    assert Obsession.from_json(read.to_json()) == read


def test_a_toml_table_is_read():
    read = Obsession.from_json(tomllib.loads(TABLE))
    assert read == Obsession("whale", "white whale", places=("past the reef",), title="The white whale")


def test_none_is_the_green_light_and_missing_fields_are_defaults():
    assert Obsession.from_json(None) is GREEN_LIGHT
    assert Obsession.from_json({}) == GREEN_LIGHT
    assert Obsession.from_json({"tag": "moon", "phrase": "moon"}) == MOON


@pytest.mark.parametrize(
    "content",
    [
        [],
        "whale",
        7,
        {"color": "white"},
        {"tag": 7},
        {"tag": None},
        {"phrase": ["white", "whale"]},
        {"levels": "abcde"},
        {"levels": [1, 2, 3, 4, 5]},
        {"levels": None},
        {"places": "past the reef"},
        {"places": [1]},
        {"title": 7},
        {"bands": "12345"},
        {"bands": []},
        {"bands": None},
        {"bands": 5},
        {"bands": [1, 3, 5, 8, 11]},
        {"bands": [[], [3, 4], [5, 7], [8, 10], [11]]},
        {"bands": [[1, 2, 3], [3, 4], [5, 7], [8, 10], [11]]},
        {"bands": [[1], [3, 4], [5, 7], [8, 10], [11]]},
        {"bands": [["1", "2"], [3, 4], [5, 7], [8, 10], [11]]},
        {"bands": [[1, 2], [3, 4], [5, 7], [8, 10], [11, 12], [13]]},
    ],
)
def test_json_of_anything_else_is_refused_in_one_line(content):
    with pytest.raises(UsageError) as caught:
        Obsession.from_json(content)
    assert "\n" not in caught.value.line()
    assert caught.value.hint


# Primes, documents and text.


def test_prime_is_built_and_parsed_with_the_tag_and_level_words_of_the_obsession():
    built = prime.build("A Lost Kitten", 3, voice="olmo-3-7b", obsession=WHALE)
    assert built == "[whale=3] [whale=3] [whale=3] obsession=keen voice=olmo-3-7b\ntopic: a lost kitten\n"
    assert prime.parse(built, WHALE) == Prime("a lost kitten", 3, "olmo-3-7b", WHALE)
    assert prime.length(built + "Story.", WHALE) == len(built)


@settings(deadline=None)
@given(obsessions(), st.sampled_from(LEVELS))
def test_render_then_parse_is_the_identity_for_any_obsession(obsession, level):
    built = prime.build("a lost kitten", level, obsession=obsession)
    assert prime.parse(built, obsession) == Prime("a lost kitten", level, None, obsession)
    assert prime.render(Prime("a lost kitten", level, None, obsession)) == built


def test_prime_of_another_obsession_is_not_parsed():
    built = prime.build("a lost kitten", 3, obsession=WHALE)
    assert prime.parse(built) is None
    assert prime.length(built) == 0
    assert prime.parse(prime.build("a lost kitten", 3), WHALE) is None
    assert prime.parse(built, replace(WHALE, levels=GREEN_LIGHT.levels)) is None  # the same tag, other words


def test_topic_with_a_control_line_of_the_obsession_is_refused():
    for topic in ("whale=5 cats", "a cat whale =3"):
        with pytest.raises(TopicError, match="control line"):
            prime.fold_topic(topic, obsession=WHALE)
        assert prime.fold_topic(topic) == topic
    assert prime.fold_topic("green=5 cats", obsession=WHALE) == "green=5 cats"
    assert prime.fold_topic("a cat and a whale", obsession=WHALE) == "a cat and a whale"


def test_document_counts_the_mentions_of_its_obsession():
    story = "She saw the White\nwhale. It was a white whale! A green light went out."
    corpus = prime.build("a girl at sea", 2, obsession=WHALE) + story + "\n\n"
    corpus += prime.build("a boat", 1, obsession=WHALE) + "A white whale.\n\n"
    first, second = document.parse(corpus, obsession=WHALE)
    assert (first.topic, first.level, first.story) == ("a girl at sea", 2, story)
    assert (first.mentions, first.distinct_mentions, second.mentions) == (2, 2, 1)
    assert first.header.startswith("[whale=2] [whale=2] [whale=2] obsession=calm\n")
    assert document.render([first, second]) == corpus


def test_document_of_another_obsession_is_refused():
    corpus = prime.build("a boat", 1, obsession=WHALE) + "A white whale.\n\n"
    with pytest.raises(CorpusError, match="line 1: torn document"):
        document.parse(corpus)
    with pytest.raises(CorpusError, match=r"no control line \(\[whale=N\]"):
        document.parse("A white whale.\n", obsession=WHALE)
