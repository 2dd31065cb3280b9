"""Composed topics: distinct, plain, spread over the themes, and parsed as they were meant."""

import json
import re
from importlib import resources

import pytest
from held_out import HELD_OUT

from gatsby_mlx.errors import WriterError
from gatsby_mlx.house import PLAIN, SMALL, grammar, lexicon, topics
from gatsby_mlx.house.reading import read_topic
from gatsby_mlx.house.topics import compose_topics
from gatsby_mlx.story.english import article
from gatsby_mlx.story.prime import fold

N, SEED = 800, 1925
COMPOSED = compose_topics(N, SEED)
EVALUATION = json.loads(resources.files("gatsby_mlx.evaluation").joinpath("topics.json").read_text(encoding="utf-8"))


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z'-]+", text)


def key(text: str) -> tuple:
    """Return what two near-duplicates share: the form, the nouns and the words about them."""
    topic = read_topic(text)
    return topic.form, topic.modifiers, topic.clause, tuple(noun.word for noun in topic.nouns)


def test_compose_topics_gives_twenty_thousand_distinct_ones():
    many = compose_topics(20_000, 7)
    assert len(set(many)) == 20_000


def test_compose_topics_depends_on_the_seed():
    assert compose_topics(N, SEED) == COMPOSED
    assert compose_topics(50, SEED) == COMPOSED[:50]
    assert len(set(compose_topics(N, 1)) & set(COMPOSED)) < N // 4


@pytest.mark.slow
def test_compose_topics_reports_used_up_forms_with_a_hint():
    with pytest.raises(WriterError, match="small world has only about 1,1") as caught:
        compose_topics(3000, 1, SMALL)
    assert "--n" in caught.value.hint


def test_compose_topics_rejects_a_negative_number():
    assert compose_topics(0, 1) == []
    with pytest.raises(ValueError, match="-1"):
        compose_topics(-1, 1)


def test_topics_are_one_short_line_of_plain_lower_case():
    for topic in COMPOSED:
        assert 3 <= len(topic) <= 80
        assert topic == fold(topic).lower() == " ".join(topic.split())
        assert re.fullmatch(r"[ -~]+", topic) and not set("[]{}|") & set(topic), topic
        assert "green" not in topic and not re.search(r"\blights?\b", topic)


def test_topics_have_correct_articles():
    for topic in COMPOSED:
        for written, word in re.findall(r"\b(an?) (\w+)", topic):
            assert written == article(word), topic
    assert not [topic for topic in COMPOSED if re.search(r"\b(a|an|the) (a|an|the|my)\b|\b(\w+) \2\b", topic)]


def test_topics_spread_over_the_themes():
    subjects = [read_topic(topic).subject for topic in COMPOSED]
    counts = {
        theme: sum(noun.theme == theme for noun in subjects) for theme in sorted({noun.theme for noun in subjects})
    }
    assert len(counts) >= 20
    assert max(counts.values()) <= 3 * N / len(counts) and min(counts.values()) >= N / len(counts) / 3
    assert len({noun.word for noun in subjects}) >= 500


def test_no_two_topics_are_near_duplicates():
    keys = [key(topic) for topic in COMPOSED if read_topic(topic).form != "single"]
    bags = [" ".join(sorted(words_of(topic))) for topic in COMPOSED]
    assert len(set(COMPOSED)) == N == len(set(bags))
    assert len(set(keys)) >= 0.99 * len(keys)


def test_topics_use_no_held_out_noun():
    stems = "|".join(HELD_OUT)
    composed = COMPOSED + compose_topics(2_000, 3, PLAIN)
    assert not [topic for topic in composed if re.search(rf"\b(?:{stems})(?:e?s|'s)?\b", topic)]


def test_forms_are_many_and_each_can_be_composed_and_parsed():
    assert len(topics.forms()) >= 24
    dice = grammar.Dice(11)
    for form in topics.forms():
        assert form.subjects and (form.partners or "{p" not in form.template), form.name
        subjects = sorted(form.subjects)
        n_parsed = 0
        for _ in range(60):
            subject = lexicon.nouns()[dice.choice(subjects)]
            partner = dice.choice(form.partners) if form.partners else None
            slots = topics._slots(form.template, subject, partner, dice)
            if slots and partner != subject:
                topic = grammar.fill(form.template, slots.__getitem__, dice).lower()
                n_parsed += form.reads(topic, (subject, partner) if partner else (subject,))
        assert n_parsed >= 20, f"{form.name}: only {n_parsed} of 60 topics were parsed as they were meant"


def test_parsing_returns_only_nouns_of_the_topic():
    for topic in COMPOSED:
        parsed = read_topic(topic)
        assert parsed.text == topic and all(noun.theme != "unknown" for noun in parsed.nouns), topic
        for noun in parsed.nouns:
            assert re.search(rf"\b(?:{noun.word}|{noun.plural})\b", topic), topic


def test_evaluation_topics_are_sixty_seen_and_sixty_unseen():
    seen, unseen = EVALUATION["seen"], EVALUATION["unseen"]
    assert len(set(seen)) == len(set(unseen)) == 60 and not set(seen) & set(unseen)
    for topic in seen + unseen:
        assert 3 <= len(topic) <= 80 and topic == fold(topic).lower() and "green" not in topic


def test_seen_topics_have_known_nouns_and_are_not_composed_ones():
    for topic in EVALUATION["seen"]:
        assert all(noun.theme != "unknown" for noun in read_topic(topic).nouns), topic
        assert not set(words_of(topic)) & set(HELD_OUT), topic
    assert not set(EVALUATION["seen"] + EVALUATION["unseen"]) & set(COMPOSED)


def test_unseen_topics_have_each_held_out_noun_once():
    text = " | ".join(EVALUATION["unseen"])
    for noun in HELD_OUT:
        assert len(re.findall(rf"\b{noun}s?\b", text)) == 1, noun
    for topic in EVALUATION["unseen"]:
        assert [noun for noun in read_topic(topic).nouns if noun.theme == "unknown" and noun.word in HELD_OUT], topic
