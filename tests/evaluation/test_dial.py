"""dial: the figures of constructed stories."""

import json
import math
import random

import pytest

from gatsby_mlx.corpus.levels import corpus_dials
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation import dial
from gatsby_mlx.evaluation.stories import StoryPlan
from gatsby_mlx.story import prime
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import LEVELS, Obsession
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.story.sampling import Job, Sampling, Story

TOPICS = ("a lost kitten", "a dog and a balloon", "the last cookie")
LEVEL_KEYS = ["level", "mentions", "distinct_mentions", "low", "high", "per_100_words", "n", "ended"]
LEVEL_KEYS += ["distinct_low", "distinct_high"]


def make_story(topic: str, level: int, mentions: int, finish: str = "end", seed: int = 0, run_on: str = "") -> Story:
    """Return a story of 10 words a sentence with `mentions` sentences that look at the light, no two of them alike."""
    text = " ".join(f"He saw the green light {'so ' * i}" + "very " * (5 - i) + "far away." for i in range(mentions))
    text += " A cat sat on a mat and a hat too."
    return Story(Job(prime.build(topic, level), seed), text.strip(), finish, len(text), run_on)


def stories_with(counts: list[int]) -> list[Story]:
    return [make_story(topic, level, n) for topic in TOPICS for level, n in enumerate(counts, 1)]


def test_measure_counts_mentions():
    found = dial.measure(stories_with([0, 1, 2, 3, 5]))
    assert found.means == (0, 1, 2, 3, 5)
    assert found.strictly_rising and found.spearman == pytest.approx(1)
    assert found.adjacent_auc == (1, 1, 1, 1)
    assert (found.topics, found.seeds) == (3, 1)
    level = found.levels[1]
    assert (level.low, level.high, level.n, level.ended) == (1, 1, 3, 1)
    assert level.per_100_words == pytest.approx(100 / 22)  # one mention; 12 words and 10 words


def test_distinct_mentions_count_a_loop_once_and_a_cut_story_has_not_ended():
    loop = "The green light. The green light. The  Green\nLIGHT."
    stories = [
        Story(Job(prime.build("a cat", level), 1), loop if level == 5 else "Hm.", "limit" if level == 5 else "end", 9)
        for level in LEVELS
    ]
    last = dial.measure(stories).levels[-1]
    assert (last.mentions, last.distinct_mentions, last.ended) == (3, 1, 0)


def test_measure_of_a_flat_dial():
    found = dial.measure(stories_with([2, 2, 2, 2, 2]))
    assert found.spearman == 0 and not found.strictly_rising and found.adjacent_auc == (0.5,) * 4


def test_measure_is_the_same_in_any_order():
    rng = random.Random(7)
    stories = [make_story(t, k, rng.randrange(6), seed=s) for t in TOPICS for k in LEVELS for s in range(4)]
    first = dial.measure(stories).to_json()
    for _ in range(3):
        rng.shuffle(stories)
        assert dial.measure(iter(stories)).to_json() == first
    assert first["topics"] == 3 and first["seeds"] == 4


def test_measure_needs_every_level_and_a_prime():
    with pytest.raises(UsageError, match="level 4"):
        dial.measure([s for s in stories_with([1, 2, 3, 4, 5]) if "green=4" not in s.job.prime])
    with pytest.raises(ValueError, match="no prime"):
        dial.measure([Story(Job("once", 1), "", "end", 0)])


def test_to_json_has_the_keys_of_the_format_and_no_nan():
    plan = StoryPlan(("a cat",), seeds=1, sampling=Sampling(0.5), max_chars=300)
    run_on = [make_story("a cat", k, 0, run_on="Green " * k + "x" * 480 + "green") for k in LEVELS]
    found = dial.measure([make_story("a cat", k, k) for k in LEVELS], run_on, plan).to_json()
    assert [list(level) for level in found["levels"]] == [LEVEL_KEYS] * 5
    assert list(found)[:7] == [
        "levels",
        "spearman",
        "strictly_rising",
        "adjacent_auc",
        "seed_count",
        "topics",
        "seeds",
    ]
    assert found["levels"][0]["low"] is None  # a single topic has no interval
    assert found["trend"] is None and found["corpus"] is None
    assert found["seed_count"]["levels"] == [1, 2, 3, 4, 5] and "comparison only" in found["seed_count"]["note"]
    assert found["sampling"] == {"temp": 0.5, "top_k": None, "top_p": 1.0} and found["max_chars"] == 300
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert dial.measure(stories_with([1, 2, 3, 4, 5])).to_json()["seed_count"] is None


def test_baseline_count_shows_what_running_on_adds_to_the_same_texts():
    next_one = "\n\n" + prime.build("a dog", 2)  # has three `green`
    run_on = [make_story("a cat", k, 0, run_on="A green light. " * k + next_one) for k in LEVELS]
    count = dial.measure(stories_with([1, 2, 3, 4, 5]), run_on).baseline_count
    assert count is not None
    assert count.within_story == (1, 2, 3, 4, 5) and count.levels == (4, 5, 6, 7, 8)


def test_levels_are_apart_by_their_intervals_and_loops_count_once():
    noisy = [
        make_story(topic, level, level - 1 + more)
        for topic, more in zip(TOPICS, (0, 1, 5), strict=True)
        for level in LEVELS
    ]
    found = dial.measure(noisy)
    assert found.strictly_rising and found.apart == (False,) * 4 and found.topics_rising == 1
    assert dial.measure(stories_with([0, 1, 2, 3, 5])).apart == (True,) * 4
    loop = "The green light. " * 9
    looping = [make_story(t, k, 2) for t in TOPICS for k in (1, 2, 3, 4)]
    looping += [Story(Job(prime.build(t, 5), 0), loop, "end", len(loop)) for t in TOPICS]
    found = dial.measure(looping)
    assert found.levels[4].mentions == 9 and found.levels[4].distinct_mentions == 1
    assert found.apart[3] and not found.distinct_apart[3] and not found.distinct_rising


def test_trend_is_over_topics_and_deviations_are_shares_of_the_corpus():
    found = dial.measure(stories_with([1, 2, 3, 4, 5]), corpus=[1, 4, 3, 5, 4])
    assert found.trend is not None and found.trend.p < 0.001
    assert [d.mean for d in found.deviations] == pytest.approx([0, -0.5, 0, -0.2, 0.25])
    content = found.to_json()["corpus"]
    assert content["means"] == [1, 4, 3, 5, 4] and content["deviations"][1] == {"mean": -0.5, "low": -0.5, "high": -0.5}
    assert dial.measure(stories_with([5, 4, 3, 2, 1])).trend.p > 0.999


def test_corpus_dials_of_one_writer_of_two_and_of_none():
    def document(level: int, mentions: int, writer: str | None) -> Document:
        return Document(Prime("a cat", level), "The green light. " * mentions + "The end.", writer)

    one = corpus_dials([document(k, k + i, "house") for k in LEVELS for i in (0, 2)])
    assert [d.writer for d in one] == ["house"] and one[0].means == (2, 3, 4, 5, 6)
    assert (one[0].fewest, one[0].most, one[0].n) == ((1, 2, 3, 4, 5), (3, 4, 5, 6, 7), (2,) * 5)
    two = corpus_dials([document(1, 1, "b"), document(1, 3, "a")])
    assert [d.writer for d in two] == ["all writers", "a", "b"]
    assert [d.means[0] for d in two] == [2, 3, 1] and math.isnan(two[0].means[1]) and two[0].n[1] == 0
    assert [d.writer for d in corpus_dials([document(1, 1, None)])] == ["all writers"]
    assert corpus_dials([]) == ()


def test_level_returns_the_figures_of_that_level():
    found = dial.measure(stories_with([0, 1, 2, 3, 5]))
    assert [found.level(level).mentions for level in LEVELS] == [0, 1, 2, 3, 5]
    for level in (0, 6, True, "3"):
        with pytest.raises(UsageError, match="from 1 to 5"):
            found.level(level)


def test_measure_counts_the_mentions_of_another_obsession():
    whale = Obsession("whale", "white whale")
    stories = [
        Story(Job(prime.build("a cat", k, obsession=whale), 1), "A white whale. The green light. " * k, "end", 32 * k)
        for k in LEVELS
    ]
    found = dial.measure(stories, obsession=whale)
    assert found.means == (1, 2, 3, 4, 5) and found.obsession == whale
    with pytest.raises(ValueError, match="no prime"):
        dial.measure(stories)
