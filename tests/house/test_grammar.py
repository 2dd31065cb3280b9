"""Verb forms, articles, capitals, pronouns and templates of the house writer."""

import pytest

from gatsby_mlx.house import grammar
from gatsby_mlx.house.grammar import Dice, Pronouns, capital, fill, ing, participle, past
from gatsby_mlx.story.english import article


@pytest.mark.parametrize(
    ("base", "was", "being", "been"),
    [
        ("sit in the sun", "sat in the sun", "sitting in the sun", "sat in the sun"),
        ("hop and sing", "hopped and sang", "hopping and singing", "hopped and sung"),
        ("carry it home", "carried it home", "carrying it home", "carried it home"),
        ("be brave", "was brave", "being brave", "been brave"),
        ("tie a bow", "tied a bow", "tying a bow", "tied a bow"),
        ("forget", "forgot", "forgetting", "forgotten"),
    ],
)
def test_phrases_take_their_forms(base, was, being, been):
    assert (past(base), ing(base), participle(base)) == (was, being, been)


@pytest.mark.parametrize(
    ("verb", "past", "ing"),
    [
        ("hop", "hopped", "hopping"),
        ("carry", "carried", "carrying"),
        ("tie", "tied", "tying"),
        ("dye", "dyed", "dyeing"),
        ("tiptoe", "tiptoed", "tiptoeing"),
        ("row", "rowed", "rowing"),
        ("squeak", "squeaked", "squeaking"),
        ("gather", "gathered", "gathering"),
        ("run", "ran", "running"),
        ("outgrow", "outgrew", "outgrowing"),
        ("shrink", "shrank", "shrinking"),
    ],
)
def test_verbs_take_their_forms(verb, past, ing):
    assert (grammar.verb_past(verb), grammar.verb_ing(verb)) == (past, ing)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("owl", "an"), ("unicorn", "a"), ("hour", "an"), ("umbrella", "an"), ("one-eyed cat", "a"), ("ukulele", "a")],
)
def test_article_follows_the_sound(word, expected):
    assert article(word) == expected


def test_capital_skips_an_opening_quote():
    assert capital('"come here"') == '"Come here"'
    assert capital("come here") == "Come here"


def test_fill_tidies_articles_spaces_and_capitals():
    assert fill("{x} saw a (owl) .", {"x": "she"}.__getitem__, Dice(1)) == "She saw an owl."


def test_pronouns_fill_a_phrase():
    assert Pronouns("she").fill("{it} lost {its} hat") == "she lost her hat"
    assert Pronouns("he").fill("wave to {it} and help {it}", first="the king", as_object=True) == (
        "wave to the king and help him"
    )
    assert Pronouns("they").fill("{it} was lost") == "they were lost"
