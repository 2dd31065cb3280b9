"""The prompts: those of the green light never change, and another obsession has its own words and counts."""

import re
from dataclasses import replace

import pytest

from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.writers import prompts
from gatsby_mlx.writers.base import StoryJob, TopicJob

WHALE = Obsession("whale", "old white whale", bands=((1, 1), (2, 2), (3, 4), (5, 6), (7, None)))


def story_text(level: int, obsession: Obsession = GREEN_LIGHT) -> str:
    return prompts.story_prompt(StoryJob("a cat", "Nora", level, 3), 320, obsession).user


def request(level: int, obsession: Obsession = GREEN_LIGHT) -> str:
    return story_text(level, obsession).splitlines()[-1]


def test_digest_of_the_green_light_is_that_of_existing_manifests():
    assert prompts.digest() == "9f232699557dd6fc600ae4a6ebd75a10f00d326cf45cb687f3fefc41185ce7f5"


def test_digest_depends_on_the_obsession():
    assert prompts.digest(WHALE) != prompts.digest()
    assert prompts.digest(replace(GREEN_LIGHT, title="Another title")) == prompts.digest()


def test_requests_for_the_green_light_are_as_they_were():
    assert [request(level).partition("about a cat. ")[2] for level in LEVELS] == [
        "Nora sees the green light just once, for a moment, and goes on with the day.",
        "Three times Nora looks up and sees the green light.",
        "The story says green light six times: Nora wants it more and more.",
        "The story says green light nine times: Nora thinks of it all day long and forgets the rest.",
        "Nearly every sentence says green light, twelve times or more: Nora wants only the green light.",
    ]
    instructions = story_text(1)
    assert "In every story there is a green light far away" in instructions
    assert "always called the green light, never a glow, a spark or a flash, and nothing else is green. The last" in (
        instructions
    )
    topics = prompts.topic_prompt(TopicJob("the sea", 10, 3))
    assert "on the theme: the sea" in topics.user and "no colours, no lights." in topics.user
    assert (topics.seed, topics.max_tokens) == (3, 192)


def test_prompts_are_about_the_obsession():
    text = story_text(5, WHALE)
    assert "there is an old white whale far away" in text
    assert "always called the old white whale, never anything else. The last" in text
    assert not re.search("green|light", text)
    assert "no whales." in prompts.topic_prompt(TopicJob("pets", 10, 3), WHALE).user
    assert "and nothing else is white." in story_text(1, Obsession("whale", "white whale"))


@pytest.mark.parametrize(
    ("level", "times"), [(1, "once"), (2, "Twice"), (3, "four times"), (4, "six times"), (5, "twelve times or more")]
)
def test_a_level_asks_for_a_number_in_its_band(level, times):
    assert times in request(level, WHALE)


def test_numbers_above_twelve_are_digits():
    many = replace(GREEN_LIGHT, bands=((1, 2), (3, 4), (5, 7), (8, 19), (20, None)))
    assert "green light, 20 times or more" in request(5, many)
    assert request(4, many) == request(4)


def test_optional_phrases_are_in_the_prompt():
    whale = replace(WHALE, places=("past the reef", "under the ice"), looks=("pale",), leads=("Far out",))
    text = story_text(1, whale)
    assert (
        "say where it is (past the reef, under the ice), how it looks (pale), what leads to it (Far out). The" in text
    )
    assert "The story can say" not in story_text(1, WHALE)


def test_all_stories_share_the_instructions():
    jobs = StoryJob("a cat", "Nora", 1, 0), StoryJob("the old clock", "Theo", 5, 1)
    first, second = (prompts.story_prompt(job, 320) for job in jobs)
    assert first.system == second.system
    assert first.user.partition("\n\n")[0] == second.user.partition("\n\n")[0]
    assert [message["role"] for message in first.messages] == ["system", "user"]
