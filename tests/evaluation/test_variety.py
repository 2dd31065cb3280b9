"""Variety: what stories of one level share."""

from dataclasses import replace

import pytest

from gatsby_mlx.evaluation import variety
from gatsby_mlx.story.obsession import GREEN_LIGHT

STORIES = [
    "Nora had a kite. Off it went! The green light shone on the bay.",
    "Otto had a drum. OFF it went. The green light shone on the bay.",
    "Ivy had a boat. Off it went! The green light shone on the bay at night.",
]


def test_a_sentence_is_shared_if_two_other_stories_have_it_whatever_its_case_and_end():
    assert variety.shared_sentences(STORIES) == 3 / 9
    assert variety.shared_sentences(STORIES[:2] + ["Off we go."]) == 0


def test_a_sentence_that_one_story_repeats_is_not_shared():
    assert variety.shared_sentences(["Hush. Hush. Hush.", "Hush.", "Sing."]) == 0


def test_commonest_run_leaves_out_the_phrase_of_the_obsession():
    assert variety.commonest_run(STORIES) == ("shone on the bay", 1.0)
    shining = replace(GREEN_LIGHT, phrase="shone far")
    assert variety.commonest_run(STORIES, shining) == ("went the green light", 1.0)


def test_jaccard_is_of_all_pairs():
    assert variety.mean_jaccard(["a b", "a c", "b c"]) == pytest.approx(1 / 3)
    assert variety.mean_jaccard(["a b", "B a a"]) == 1


def test_measure_draws_fifty_stories_four_times_and_repeats_itself():
    hero = "a{}b{}".format
    stories = [f"{hero('c' * (i % 20), 'd' * (i // 20))} ran. It was {'far' if i % 4 else 'near'}." for i in range(400)]
    first = variety.measure(stories)
    assert first == variety.measure(stories)
    assert first.n == variety.N
    assert 0.45 < first.shared <= 0.5
    assert first.run == "ran it was far"
    assert variety.measure(stories[:10]).n == 10


def test_two_stories_are_too_few():
    with pytest.raises(ValueError, match="3 stories or more, got 2"):
        variety.measure(STORIES[:2])
