"""Variety: what stories of one level share."""

from dataclasses import replace

import pytest

from gatsby_mlx.evaluation import variety
from gatsby_mlx.evaluation.stories import Piece
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


def test_a_topic_is_in_a_draw_once():
    stories = ["The cat ran off."] * 8 + [f"A {'b' * i} sat." for i in range(1, 5)]
    topics = ["a cat"] * 8 + [f"topic {i}" for i in range(4)]
    assert variety.measure(stories, topics=topics).n == 5
    assert variety.measure(stories, topics=topics).shared == 0
    assert variety.measure(stories).shared > 0.5


def test_levels_are_measured_apart_in_draws_of_one_size():
    texts = [(level, i, f"It {'was' * level}. {'So' * (i + 1)}.") for i in range(60) for level in (1, 5)]
    pieces = [Piece(f"topic {i}", level, story, True) for level, i, story in texts]
    found = variety.by_level([*pieces, Piece("one", 3, "Alone.", True)], n=20)
    assert list(found) == [1, 5]
    assert {v.n for v in found.values()} == {20}
    assert found[1].shared == 0.5
