"""Parsed topics: the nouns, the words about them, and guesses at unknown nouns."""

import pytest

from gatsby_mlx.house.reading import read_topic
from gatsby_mlx.house.topics import compose_topics


@pytest.mark.parametrize(
    ("text", "nouns", "modifiers", "clause"),
    [
        ("my grandmother's bicycle", ["bicycle", "grandmother"], (), ""),
        ("grandpa's canoe", ["canoe", "grandpa"], (), ""),
        ("the last cookie", ["cookie"], ("last",), ""),
        ("two cats on the moon", ["cat", "moon"], (), ""),
        ("what the otter heard", ["otter"], (), "heard"),
        ("the night the moon went away", ["moon"], (), "went away"),
        ("a day at the beach", ["beach"], (), ""),
        ("a hedgehog and a mitten", ["hedgehog", "mitten"], (), ""),
        ("a clever otter racing a snail", ["otter", "snail"], ("clever",), ""),
        ("a robot who wanted a friend", ["robot", "friend"], (), "wanted a friend"),
        ("the clock that lost its tick", ["clock"], (), "lost its tick"),
        ("a mermaid who lost her shoe", ["mermaid"], (), "lost her shoe"),
        ("an orange cat", ["cat"], ("orange",), ""),
        ("what the owl saw", ["owl"], (), "saw"),
        ("how the fox met a tall giraffe", ["fox", "giraffe"], (), "met a tall giraffe"),
        ("a trip to the moon", ["moon"], (), ""),
        ("the kitten's birthday", ["kitten"], (), ""),
        ("once there was a cat", ["cat"], (), ""),
        ("a lost mitten", ["mitten"], ("lost",), ""),
        ("three lobsters in the rain", ["lobster", "rain"], (), ""),
        ("a cactus nobody wanted to hug", ["cactus"], (), "to hug"),
        ("pancakes", ["pancake"], (), ""),
        ("my cat is missing", ["cat"], (), "missing"),
        ("mom and dad are dancing", ["mom"], (), "dancing"),
        ("my dog ate my homework", ["dog", "homework"], (), "my homework"),
        ("saying sorry to my best friend", ["best friend"], (), ""),
        ("where does the wind go at night", ["wind"], (), "go at night"),
        ("my little brother won't stop singing", ["brother"], ("little",), "stop singing"),
        ("a robot who is afraid of the dark", ["robot"], (), "is afraid of the dark"),
        ("three old strongmen", ["strongman"], ("old",), ""),
    ],
)
def test_read_topic_parses_any_topic(text, nouns, modifiers, clause):
    topic = read_topic(text)
    assert [noun.word for noun in topic.nouns] == nouns
    assert topic.modifiers == modifiers
    assert topic.clause == clause
    assert topic.subject is topic.nouns[0]
    assert topic.partner == (topic.nouns[1] if len(nouns) > 1 else None)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a plumber who sang", "person"),
        ("a lonely otter", "animal"),
        ("a speedboat", "vehicle"),
        ("a haunted greenhouse", "place"),
        ("a blackberry", "food"),
        ("an umbrella", "thing"),
    ],
)
def test_read_topic_guesses_the_kind_of_an_unknown_noun(text, kind):
    noun = read_topic(text).subject
    assert (noun.kind, noun.theme) == (kind, "unknown")
    assert noun.adjectives and noun.homes and noun.does and noun.use and noun.wants and noun.troubles


@pytest.mark.parametrize(
    "text", ["it", "the the", "1,2,3", "!?!", "who", "a   B  c", "of the and", "x" * 80, "what", "...", "the night the"]
)
def test_read_topic_never_fails(text):
    topic = read_topic(text)
    assert topic.nouns and topic.subject.word


def test_read_topic_knows_plural_number_and_indirect_topics():
    assert read_topic("two frogs in the rain").number == "two" and read_topic("two frogs in the rain").plural
    assert not read_topic("a frog").plural and read_topic("kittens").plural
    assert read_topic("the day the bus came back").indirect and not read_topic("a frog and a bus").indirect


def test_read_topic_returns_a_noun_for_every_composed_topic():
    for topic in compose_topics(50, 3):
        assert read_topic(topic).nouns
