"""The prompts: details of the topic, wordings, the obsession's name in full, and no number except for a server."""

import re
from dataclasses import replace

import pytest

from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.writers import details, prompts
from gatsby_mlx.writers.base import StoryJob, TopicJob

WHALE = Obsession("whale", "old white whale", bands=((1, 1), (2, 2), (3, 4), (5, 6), (7, None)))
TOPICS = [f"a {adjective} {noun}" for adjective in ("lost", "red", "shy", "wet") for noun in ("cat", "hat", "kite")]


def prompt(level: int, obsession: Obsession = GREEN_LIGHT, topic: str = "a cat", seed: int = 3, counted: bool = False):
    return prompts.story_prompt(StoryJob(topic, "Nora", level, seed), 320, obsession, counted=counted)


def test_digest_depends_on_the_obsession_and_on_counts():
    assert prompts.digest(WHALE) != prompts.digest() != prompts.digest(counted=True)
    assert prompts.digest(replace(GREEN_LIGHT, title="Another title")) == prompts.digest()


def test_a_request_names_hero_topic_and_the_phrase_in_full_at_every_level():
    for level in LEVELS:
        request = prompt(level).request
        assert request.startswith("Write the story of Nora, about a cat. ")
        assert request.count("green light") >= 2
    assert len({prompt(level).request for level in LEVELS}) == 5


def test_no_number_is_named_except_for_a_writer_without_a_guide():
    numbers = r"\b(once|twice|three|four|five|six|seven|nine|eleven|twelve|times|\d+)\b"
    for level in LEVELS:
        assert not re.search(numbers, prompt(level).request.replace("three words", ""))
    counted = [re.search(r"The story says green light (.+?)\. It", prompt(k, counted=True).request) for k in LEVELS]
    assert [found and found[1] for found in counted] == [
        "once",
        "three times",
        "six times",
        "nine times",
        "twelve times or more",
    ]


@pytest.mark.parametrize(
    ("level", "times"), [(1, "once"), (2, "twice"), (3, "four times"), (4, "six times"), (5, "twelve times or more")]
)
def test_a_count_is_in_the_band(level, times):
    assert f"old white whale {times}." in prompt(level, WHALE, counted=True).request


def test_numbers_above_twelve_are_digits():
    many = replace(GREEN_LIGHT, bands=((1, 2), (3, 4), (5, 7), (8, 19), (20, None)))
    assert "green light 20 times or more" in prompt(5, many, counted=True).request


def test_prompts_are_about_the_obsession():
    text = prompt(5, WHALE).user
    assert "there is an old white whale far away" in text
    assert "always called the old white whale, never anything else. Write" in text
    assert not re.search("green|light", text.replace("lighthouse", ""))
    assert "no whales." in prompts.topic_prompt(TopicJob("pets", 10, 3), WHALE).user
    assert "and nothing else is white." in prompt(1, Obsession("whale", "white whale")).user
    topics = prompts.topic_prompt(TopicJob("the sea", 10, 3))
    assert "on the theme: the sea" in topics.user and "no colors, no lights." in topics.user
    assert (topics.seed, topics.max_tokens) == (3, 192)


def test_details_are_the_topic_s_and_the_same_at_its_five_levels():
    requests = [prompt(level, topic=topic).request for topic in TOPICS for level in LEVELS]
    ends = {request.partition("It happens")[2] for request in requests}
    assert len(ends) == len(TOPICS)
    assert len({details.draw(topic, GREEN_LIGHT) for topic in TOPICS}) == len(TOPICS)


def test_the_obsession_s_phrases_come_first():
    whale = replace(WHALE, places=("past the reef",), looks=("pale as milk",))
    assert all("The old white whale is past the reef, pale as milk." in prompt(3, whale, t).request for t in TOPICS)


def test_wordings_vary_with_the_seed_and_share_their_beginning():
    assert len(prompts.SYSTEMS) >= 8
    assert {prompt(3, seed=seed).system for seed in range(40)} == set(prompts.SYSTEMS)
    assert prompt(3, seed=1).system != prompt(3, seed=2).system, "another attempt is asked for in other words"
    assert prompt(1).shared == prompt(5, topic="a dog").shared
    assert [message["role"] for message in prompt(1).messages] == ["system", "user"]
    assert prompt(1).messages[1]["content"] == prompt(1).user


def test_a_base_model_is_shown_examples_and_the_heading_of_its_story():
    examples = [prompts.Example("a dog", "Mia", "Mia had a dog.\n\nIt ran."), prompts.Example("a hat", "", "A hat.")]
    shown = prompts.shown_prompt(StoryJob("a cat", "Nora", 2, 3), 320, lambda level: examples[:level])
    assert shown.plain == (
        "A story about a dog, with Mia: Mia had a dog. It ran.\n\nA story about a hat: A hat.\n\n",
        "A story about a cat, with Nora:",
    )
