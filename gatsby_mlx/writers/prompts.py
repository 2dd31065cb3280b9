"""What a model is asked: one prompt for every story, one for topics. The variable part stands last, so that all
stories share the longest prefix of tokens, which is computed once."""

import hashlib
from dataclasses import dataclass

from gatsby_mlx.writers.base import StoryJob, TopicJob

SYSTEM = "You write very short stories for young children, in plain and simple English."

STORY = """\
Write a short story for a young child, in plain words and short sentences, in the past tense, 100 to 150 words long, \
in two to four short paragraphs. The hero is called by name, and nobody else has a name. The first sentence names the \
hero and says what the story is about, in the words that are given. In every story there is a green light far away, \
and the hero reaches for it and never gets there. It is always called the green light, never a glow, a spark or a \
flash, and nothing else is green. The last sentence is a whole one. Write only the story: no title, no list, no notes.

"""

# How often a level says it: inside its band, with room on both sides where the band has room.
PULL = {
    1: "{name} sees the green light just once, for a moment, and goes on with the day.",
    2: "Three times {name} looks up and sees the green light.",
    3: "The story says green light six times: {name} wants it more and more.",
    4: "The story says green light nine times: {name} thinks of it all day long and forgets the rest.",
    5: "Nearly every sentence says green light, twelve times or more: {name} wants only the green light.",
}

TOPICS = """\
Think of {n} topics for short stories for young children, on the theme: {theme}. A topic is three to seven plain words \
in lower case, such as: a dog and a balloon, the last cookie, two frogs in the rain. Each has other things in it. No \
names, no colours, no lights. Write one topic a line and nothing else: no numbers, no notes."""


@dataclass(frozen=True)
class Prompt:
    """One request: a system message, a user message, the seed of its draws, and how many tokens it may take."""

    system: str
    user: str
    seed: int
    max_tokens: int

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


def story_prompt(job: StoryJob, max_tokens: int) -> Prompt:
    asked = f"Write the story of {job.name}, about {job.topic}. {PULL[job.level].format(name=job.name)}"
    return Prompt(SYSTEM, STORY + asked, job.seed, max_tokens)


def topic_prompt(job: TopicJob) -> Prompt:
    return Prompt(SYSTEM, TOPICS.format(n=job.n, theme=job.theme), job.seed, 16 * job.n + 32)


def digest() -> str:
    """Return the sha256 of all that a model is asked, jobs aside: another wording is another corpus."""
    return hashlib.sha256(repr((SYSTEM, STORY, PULL, TOPICS)).encode()).hexdigest()
