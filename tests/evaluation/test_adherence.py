"""adherence: whether stories are about their topics, for seen and unseen nouns, and the chance level."""

import math

import pytest
from evaluation_tools import pieces_of, small_corpus, small_reference

from gatsby_mlx.evaluation import adherence
from gatsby_mlx.evaluation.reference import heroes_in
from gatsby_mlx.evaluation.stories import Piece


def story(topic: str, text: str, level: int = 1) -> Piece:
    return Piece(topic, level, text, True)


def test_reference_has_words_heroes_and_their_pronouns():
    corpus = small_reference()
    assert corpus.heroes == {"Finn": "he", "Leo": "he", "Mia": "she"}
    assert {"cat", "shone", "mia"} <= corpus.words and "lion" not in corpus.words
    assert corpus.means == (1, 2, 3, 4, 5) and corpus.spearman == pytest.approx(1)
    assert len(corpus.sample) == 25 and not corpus.others
    assert heroes_in("Leo's hat. Then Mia and Leo.", corpus.heroes) == ["Leo", "Mia"]


def test_corpus_honors_its_topics_and_no_others():
    found = adherence.measure(pieces_of(small_corpus()), small_reference())
    assert found.unseen is None and found.seen == found.every == found.corpus
    assert found.every.honored == found.every.noun == found.every.again == (1, 1, 1)
    assert found.every.honored_chance.mean == 0 and found.every.one_hero == (1, 1, 1)
    assert [level.mean for level in found.levels] == [1] * 5


def test_unseen_topics_are_a_group_and_scored_by_the_unseen_word():
    stories = [
        story("a lion on a train", "The train was late. A lion sat in it."),
        story("a cat with a violin", "The cat slept. It purred, and that was all. Leo met Mia."),
        story("a clock", "The robot ticked. It was a robot."),
    ]
    found = adherence.measure(stories, small_reference())
    assert (found.seen.topics, found.unseen.topics) == (1, 2)
    assert found.unseen.honored.mean == 1 and found.unseen.noun.mean == 0.5 and found.unseen.again.mean == 0.5
    assert found.seen.honored.mean == 0 and math.isnan(found.seen.honored.low)
    assert found.every.honored.mean == pytest.approx(2 / 3)
    assert found.every.one_hero.mean == 0  # two names in one, none in the others


def test_chance_is_the_mean_over_all_other_topics():
    stories = [story("a cat", "A cat and a dog."), story("a dog", "A dog."), story("a bird", "A bird.")]
    found = adherence.measure(stories)
    assert found.every.honored.mean == 1
    assert found.every.honored_chance.mean == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found.seen is None and found.corpus is None and found.every.one_hero is None
    content = found.to_json()
    assert content["every"]["honoured"]["mean"] == 1 and content["seen"] is None
    assert content["every"]["honoured_chance"]["mean"] == found.every.honored_chance.mean


def test_only_the_first_hundred_characters_count_as_the_head():
    late = "It was a long and quiet day in the town by the sea. " * 2 + "Then a cat came, and the cat stayed."
    found = adherence.measure([story("a cat", late)])
    assert found.every.honored.mean == 0 and found.every.again.mean == 1


def test_no_stories_raise_an_error():
    with pytest.raises(ValueError, match="no story"):
        adherence.measure([])


@pytest.mark.baseline
def test_baseline_corpus_has_its_published_figures(baseline_corpora):
    from gatsby_mlx.corpus.load import load
    from gatsby_mlx.evaluation.reference import reference

    corpus = reference(load(baseline_corpora / "gatsby-2.raw.txt"))
    found = adherence.measure(corpus.sample, corpus).corpus
    assert found.honored.low < 0.941 < found.honored.high
    assert found.honored_chance.mean < 0.06
    assert corpus.spearman == pytest.approx(0.55, abs=0.01)
    assert [round(m, 2) for m in corpus.means] == [1.88, 2.81, 3.94, 5.29, 7.49]
