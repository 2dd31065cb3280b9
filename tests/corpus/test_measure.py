"""measure: known values of tiny corpora, and the published ones of the baseline's corpora."""

import warnings

import pytest

from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.measure import commonest_pattern, fits_words, measure, names_hero, opens_on_topic
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.prime import Prime


def document(story: str, topic: str = "a cat", level: int = 1, name: str | None = "Mia") -> Document:
    return Document(Prime(topic, level), story, "house", name)


def five(topic: str, *mentions: int) -> list[Document]:
    return [document("Green light. " * n + "A cat.", topic, level) for level, n in enumerate(mentions, 1)]


def test_dial_of_a_corpus():
    rising, flat = five("a cat", 1, 3, 5, 8, 11), five("a dog", 1, 3, 3, 8, 13)
    alone = document("The green door.", "a fox", 1)
    figures = measure([*rising, *flat, alone])
    assert figures["documents"] == 11
    assert figures["mentions_by_level"] == {1: pytest.approx(2 / 3), 2: 3.0, 3: 4.0, 4: 8.0, 5: 12.0}
    assert figures["mentions_range_by_level"] == {1: [0, 1], 2: [3, 3], 3: [3, 5], 4: [8, 8], 5: [11, 13]}
    assert figures["topics_strictly_rising"] == 0.5  # of the two topics that have all five levels
    assert figures["green_that_is_not_the_light"] == pytest.approx(1 / 57)


def test_form_of_a_corpus():
    good = document("Mia saw a cat. " * 20)  # 80 words
    bad = document("word " * 200 + "and on", "a fox", name=None)
    figures = measure([good, bad])
    assert [figures[k] for k in ("at_most_1000_chars", "words_80_to_170", "ends_in_sentence")] == [0.5] * 3
    assert figures["names_hero"] == 1.0  # of those whose hero is known
    assert figures["topic_in_first_sentence"] == 0.5


def test_variety_of_two_stories():
    figures = measure(
        [document("The cat sat. The cat ran away."), document("The cat sat. A dog's hat fell off.", "a dog")]
    )
    assert figures["distinct_words"] == 10  # the cat sat ran away a dog's hat fell off
    assert figures["distinct_4_grams"] == 1.0  # 4 in the first and 5 in the second, none twice
    assert figures["distinct_sentences"] == 3 / 4
    assert figures["first_sentences_shared"] == 1.0
    assert figures["highest_jaccard"] == pytest.approx(3 / 10)


def test_stories_on_one_topic_are_not_compared_with_each_other():
    assert measure([document("A cat sat."), document("A cat sat.", level=2)])["highest_jaccard"] == 0
    assert measure([document("A cat sat."), document("A cat sat.", "a dog")])["highest_jaccard"] == 1


def test_commonest_pattern_masks_rare_words_and_counts_stories_once():
    stories = ["The cat sat on the mat. The dog sat on the log.", "The owl sat on the bed. It did.", "It did. It did."]
    assert commonest_pattern([document(s) for s in stories], {"the", "sat", "on", "it", "did"}) == (
        "the _ sat on the _",
        2,
    )
    assert commonest_pattern([document("Too short.")], set()) == ("", 0)


def test_corpora_with_nothing_to_measure_have_no_figures_and_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = measure([])
        wordless = measure([document("...", "a cat"), document("!", "a dog")])
    for key in ("ends_in_sentence", "names_hero", "topics_strictly_rising", "highest_jaccard"):
        assert nothing[key] is None
    assert wordless["highest_jaccard"] == 0


@pytest.mark.parametrize("n", [79, 80, 170, 171])
def test_story_has_80_to_170_words(n):
    assert fits_words(document("word " * n)) == (80 <= n <= 170)


@pytest.mark.parametrize("story", ["Mia sat.", "It was Mia's hat.", "'Mia!' it said.", "So did Mia-cat."])
def test_story_names_its_hero(story):
    assert names_hero(document(story))


@pytest.mark.parametrize(("story", "name"), [("Miami sat.", "Mia"), ("mia sat.", "Mia"), ("A cat sat.", None)])
def test_story_does_not_name_its_hero(story, name):
    assert not names_hero(document(story, name=name))


def test_opening_sentence_has_every_topic_word():
    topic = "a dog and a balloon"
    assert opens_on_topic(document("Two dogs had a balloon! They ran.", topic))
    assert not opens_on_topic(document("Two dogs ran. They had a balloon.", topic))
    assert not opens_on_topic(document("", topic))


@pytest.mark.baseline
@pytest.mark.parametrize(
    ("name", "published"),
    [
        (
            "gatsby-1",
            {
                "documents": 1000,
                "distinct_words": 2286,
                "at_most_1000_chars": 0.02,
                "topics_strictly_rising": 0.30,
                "green_that_is_not_the_light": 0.13,
                "distinct_4_grams": 0.53,
                "first_sentences_shared": 0.52,
                "highest_jaccard": 0.57,
            },
        ),
        (
            "gatsby-2",
            {
                "documents": 2000,
                "at_most_1000_chars": 0.86,
                "topics_strictly_rising": 0.10,
                "green_that_is_not_the_light": 0.15,
                "distinct_4_grams": 0.78,
                "highest_jaccard": 0.58,
            },
        ),
    ],
)
def test_figures_of_the_baseline_corpora_are_the_published_ones(baseline_corpora, name, published):
    figures = measure(load(baseline_corpora / f"{name}.raw.txt").documents)
    for key, value in published.items():
        assert round(figures[key], 2) == value, key
    means = {"gatsby-1": (2.1, 2.9, 4.6, 5.4, 10.9), "gatsby-2": (1.9, 2.8, 3.9, 5.3, 7.5)}[name]
    assert tuple(figures["mentions_by_level"].values()) == pytest.approx(means, abs=0.051)
