"""Topics: enough of them, distinct, plain, spread over the themes, and read back as they were meant."""

import json
import re
from importlib import resources

import pytest

from gatsby_mlx.errors import WriterError
from gatsby_mlx.prime import fold
from gatsby_mlx.writers.house import PLAIN, SMALL, grammar, lexicon, topics
from gatsby_mlx.writers.house.topics import compose_topics, read_topic

N, SEED = 800, 1925
SHIPPED = compose_topics(N, SEED)
EVALUATION = json.loads(resources.files("gatsby_mlx.evaluation").joinpath("topics.json").read_text(encoding="utf-8"))
HELD_OUT = """
otter hedgehog walrus ostrich badger lobster peacock raccoon gorilla parrot jellyfish dragonfly flamingo beaver
lizard submarine taxi canoe tractor helicopter skateboard pancake pickle muffin mango coconut waffle noodle
pretzel cactus daisy mushroom tornado hailstone telescope toaster typewriter microscope vacuum trampoline puppet
yoyo marble jigsaw violin trumpet harmonica umbrella backpack mitten necklace wizard astronaut plumber dentist
mermaid lighthouse museum volcano igloo
""".split()


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z'-]+", text)


def key(text: str) -> tuple:
    """What makes two topics near-duplicates: the same nouns called by the same other words."""
    topic = read_topic(text)
    return topic.form, topic.modifiers, topic.clause, tuple(noun.word for noun in topic.nouns)


def test_twenty_thousand_distinct_topics_are_possible():
    many = compose_topics(20_000, 7)
    assert len(set(many)) == 20_000


def test_same_seed_gives_same_topics_and_another_seed_others():
    assert compose_topics(N, SEED) == SHIPPED
    assert compose_topics(50, SEED) == SHIPPED[:50]
    assert len(set(compose_topics(N, 1)) & set(SHIPPED)) < N // 4


def test_used_up_forms_are_an_error_with_a_way_out():
    with pytest.raises(WriterError, match="small world has only about 1,1") as caught:
        compose_topics(3000, 1, SMALL)
    assert "--n" in caught.value.cure


def test_compose_refuses_a_negative_number():
    assert compose_topics(0, 1) == []
    with pytest.raises(ValueError, match="-1"):
        compose_topics(-1, 1)


def test_topics_are_one_short_line_of_plain_lower_case():
    for topic in SHIPPED:
        assert 3 <= len(topic) <= 80
        assert topic == fold(topic).lower() == " ".join(topic.split())
        assert re.fullmatch(r"[ -~]+", topic) and not set("[]{}|") & set(topic), topic
        assert "green" not in topic and not re.search(r"\blights?\b", topic)


def test_topics_have_their_articles_right():
    for topic in SHIPPED:
        for article, word in re.findall(r"\b(an?) (\w+)", topic):
            assert article == grammar.article(word), topic
    assert not [topic for topic in SHIPPED if re.search(r"\b(a|an|the) (a|an|the|my)\b|\b(\w+) \2\b", topic)]


def test_topics_spread_over_the_themes():
    subjects = [read_topic(topic).subject for topic in SHIPPED]
    counts = {
        theme: sum(noun.theme == theme for noun in subjects) for theme in sorted({noun.theme for noun in subjects})
    }
    assert len(counts) >= 20
    assert max(counts.values()) <= 3 * N / len(counts) and min(counts.values()) >= N / len(counts) / 3
    assert len({noun.word for noun in subjects}) >= 500


def test_no_two_topics_are_near_duplicates():
    keys = [key(topic) for topic in SHIPPED if read_topic(topic).form != "single"]
    bags = [" ".join(sorted(words_of(topic))) for topic in SHIPPED]
    assert len(set(SHIPPED)) == N == len(set(bags))
    assert len(set(keys)) >= 0.99 * len(keys)


def test_topics_use_no_noun_that_is_held_out():
    stems = "|".join(HELD_OUT)
    composed = SHIPPED + compose_topics(2_000, 3, PLAIN)
    assert not [topic for topic in composed if re.search(rf"\b(?:{stems})(?:e?s|'s)?\b", topic)]


def test_forms_are_many_and_each_can_be_composed_and_read_back():
    assert len(topics.forms()) >= 24
    dice = grammar.Dice(11)
    for form in topics.forms():
        assert form.subjects and (form.partners or "{p" not in form.template), form.name
        subjects = sorted(form.subjects)
        read_back = 0
        for _ in range(60):
            subject = lexicon.nouns()[dice.choice(subjects)]
            partner = dice.choice(form.partners) if form.partners else None
            slots = topics._slots(form.template, subject, partner, dice)
            if slots and partner != subject:
                topic = grammar.fill(form.template, slots.__getitem__, dice).lower()
                read_back += form.reads(topic, (subject, partner) if partner else (subject,))
        assert read_back >= 20, f"{form.name}: only {read_back} of 60 topics were read back as they were meant"


def test_reading_never_finds_another_noun_than_was_composed():
    for topic in SHIPPED:
        found = read_topic(topic)
        assert found.text == topic and all(noun.theme != "unknown" for noun in found.nouns), topic
        for noun in found.nouns:
            assert re.search(rf"\b(?:{noun.word}|{noun.plural})\b", topic), topic


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
def test_reading_recovers_the_structure_of_any_topic(text, nouns, modifiers, clause):
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
def test_an_unknown_noun_is_guessed_by_its_company(text, kind):
    noun = read_topic(text).subject
    assert (noun.kind, noun.theme) == (kind, "unknown")
    assert noun.adjectives and noun.homes and noun.does and noun.use and noun.wants and noun.troubles


@pytest.mark.parametrize(
    "text", ["it", "the the", "1,2,3", "!?!", "who", "a   B  c", "of the and", "x" * 80, "what", "...", "the night the"]
)
def test_reading_never_fails(text):
    topic = read_topic(text)
    assert topic.nouns and topic.subject.word


def test_plural_number_and_matter_are_told():
    assert read_topic("two frogs in the rain").number == "two" and read_topic("two frogs in the rain").plural
    assert not read_topic("a frog").plural and read_topic("kittens").plural
    assert read_topic("the day the bus came back").matter and not read_topic("a frog and a bus").matter


def test_evaluation_topics_are_sixty_and_sixty():
    seen, unseen = EVALUATION["seen"], EVALUATION["unseen"]
    assert len(set(seen)) == len(set(unseen)) == 60 and not set(seen) & set(unseen)
    for topic in seen + unseen:
        assert 3 <= len(topic) <= 80 and topic == fold(topic).lower() and "green" not in topic


def test_seen_topics_are_of_known_nouns_and_were_never_composed():
    for topic in EVALUATION["seen"]:
        assert all(noun.theme != "unknown" for noun in read_topic(topic).nouns), topic
        assert not set(words_of(topic)) & set(HELD_OUT), topic
    assert not set(EVALUATION["seen"] + EVALUATION["unseen"]) & set(SHIPPED)


def test_unseen_topics_hold_each_held_out_noun_once():
    text = " | ".join(EVALUATION["unseen"])
    for noun in HELD_OUT:
        assert len(re.findall(rf"\b{noun}s?\b", text)) == 1, noun
    for topic in EVALUATION["unseen"]:
        assert [noun for noun in read_topic(topic).nouns if noun.theme == "unknown" and noun.word in HELD_OUT], topic
