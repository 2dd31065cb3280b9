"""plan: every topic at every level, heroes in turn, and one seed decides all of it on every machine."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatsby_mlx.corpus.plan import plan, story_seed
from gatsby_mlx.corpus.topics import read_answer
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.writers.base import StoryJob

TOPICS = [f"topic {chr(97 + i)}" for i in range(20)]
NAMES = ("Mia", "Tom", "Zoe")


def test_seeds_are_pinned():
    """A change here changes every corpus: `printf '1925/a cat/1/0' | sha256sum`, its first 53 bits."""
    assert story_seed(1925, "a cat", 1) == 0x504DDC5EDAFD8274 >> 11
    assert story_seed(1925, "a cat", 1, attempt=1) == 3108079682955291
    order = [(j.topic, j.name, j.level) for j in plan(["a cat", "a dog"], NAMES, 1925)]
    assert order[:4] == [("a dog", "Mia", 4), ("a dog", "Tom", 3), ("a cat", "Zoe", 4), ("a dog", "Mia", 5)]


@settings(deadline=None)
@given(st.integers(), st.text(max_size=20), st.sampled_from(LEVELS), st.integers(0, 9))
def test_story_seeds_fit_a_double(seed, topic, level, attempt):
    assert 0 <= story_seed(seed, topic, level, attempt) < 2**53


def test_story_seeds_differ_by_seed_topic_level_and_attempt():
    seeds = {story_seed(s, t, k, a) for s in range(4) for t in TOPICS for k in LEVELS for a in range(3)}
    assert len(seeds) == 4 * len(TOPICS) * len(LEVELS) * 3


def test_plan_is_deterministic_balanced_and_shuffled():
    jobs = plan(TOPICS, NAMES, 1925)
    assert jobs == plan(TOPICS, NAMES, 1925)
    assert jobs != plan(TOPICS, NAMES, 1926)
    assert Counter((j.topic, j.level) for j in jobs) == Counter((t, k) for t in TOPICS for k in LEVELS)
    heroes = Counter(j.name for j in jobs)
    assert max(heroes.values()) - min(heroes.values()) <= 1
    assert [j.topic for j in jobs] != sorted(j.topic for j in jobs)
    assert all(j.seed == story_seed(1925, j.topic, j.level) for j in jobs)
    assert len({j.level for j in jobs[:12]}) > 2


def test_story_seed_does_not_depend_on_the_other_stories():
    few, many = plan(TOPICS[:2], NAMES, 7), plan(TOPICS, NAMES, 7)
    by_slot = {(j.topic, j.level): j.seed for j in many}
    assert all(by_slot[j.topic, j.level] == j.seed for j in few)


def test_job_is_a_plain_value():
    assert StoryJob("a cat", "Mia", 1, 7) == StoryJob(topic="a cat", name="Mia", level=1, seed=7)


@pytest.mark.parametrize(
    "answer",
    [
        "1. A dog and a balloon\n2) The last cookie.\nI hope these help you!",
        "Here are two topics:\n- a dog and a balloon\n- the last cookie\n\nLet me know if you need more",
        "| # | Topic |\n|---|---|\n| 1 | A dog and a balloon |\n| 2 | The last cookie |",
        '["a dog and a balloon", "the last cookie"]',
        '```json\n{"topics": [{"topic": "a dog and a balloon", "n": 1}, {"topic": "the last cookie"}]}\n```',
        "Topics: A dog and a balloon, the last cookie, ###, and 5.",
    ],
    ids=["numbers", "marks", "table", "list", "objects", "commas"],
)
def test_topics_are_read_from_every_form_of_answer(answer):
    assert read_answer(answer) == ["a dog and a balloon", "the last cookie"]
