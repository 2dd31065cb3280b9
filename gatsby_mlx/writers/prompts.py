"""The prompts: one for every story and one for topics, both rendered from the obsession.

What differs between two stories comes last. All prompts then begin with the same tokens, and the model computes these
once.

>>> whale = Obsession("whale", "white whale")
>>> print(story_prompt(StoryJob("a cat", "Nora", 3, seed=7), max_tokens=320, obsession=whale).user.splitlines()[-1])
Write the story of Nora, about a cat. The story says white whale six times: Nora wants it more and more.
"""

import hashlib
from dataclasses import dataclass

from gatsby_mlx.story.english import article, pluralize
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.writers.base import StoryJob, TopicJob

SYSTEM = "You write very short stories for young children, in plain and simple English."

_STORY = """\
Write a short story for a young child, in plain words and short sentences, in the past tense, 100 to 150 words long, \
in two to four short paragraphs. The hero is called by name, and nobody else has a name. The first sentence names the \
hero and says what the story is about, in the words that are given. In every story there is {a} {phrase} far away, \
and the hero reaches for it and never gets there. It is always called the {phrase}, never {substitutes}{nothing_else}. \
{details}The last sentence is a whole one. Write only the story: no title, no list, no notes.

"""

_LEVELS = {
    1: "{name} sees the {phrase} just {times}, for a moment, and goes on with the day.",
    2: "{Times} {name} looks up and sees the {phrase}.",
    3: "The story says {phrase} {times}: {name} wants it more and more.",
    4: "The story says {phrase} {times}: {name} thinks of it all day long and forgets the rest.",
    5: "Nearly every sentence says {phrase}, {times} or more: {name} wants only the {phrase}.",
}

_TOPICS = """\
Think of {n} topics for short stories for young children, on the theme: {theme}. A topic is three to seven plain words \
in lower case, such as: a dog and a balloon, the last cookie, two frogs in the rain. Each has other things in it. No \
names, no colours, no {nouns}. Write one topic a line and nothing else: no numbers, no notes."""

# How many mentions a level asks for: inside its band, with room on both sides where the band has room.
_MENTIONS = {1: 1, 2: 3, 3: 6, 4: 9, 5: 12}
_NUMBERS = "three four five six seven eight nine ten eleven twelve".split()  # 3 to 12
# Words that models write in place of the last word of a phrase. Only the phrase itself counts as a mention.
_SUBSTITUTES = {"light": "a glow, a spark or a flash"}


@dataclass(frozen=True)
class Prompt:
    """One request: a system message, a user message, the seed of its sampling, and the most tokens of the answer."""

    system: str
    user: str
    seed: int
    max_tokens: int

    @property
    def messages(self) -> list[dict[str, str]]:
        """The two messages in the form that chat templates and servers take."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


def story_prompt(job: StoryJob, max_tokens: int, obsession: Obsession = GREEN_LIGHT) -> Prompt:
    """Return the prompt for the story of `job`."""
    level = _level_text(job.level, obsession).format(name=job.name)
    request = f"Write the story of {job.name}, about {job.topic}. {level}"
    return Prompt(SYSTEM, _story_text(obsession) + request, job.seed, max_tokens)


def topic_prompt(job: TopicJob, obsession: Obsession = GREEN_LIGHT) -> Prompt:
    """Return the prompt for the topics of `job`."""
    request = _topics_text(obsession).format(n=job.n, theme=job.theme)
    return Prompt(SYSTEM, request, job.seed, 16 * job.n + 32)


def digest(obsession: Obsession = GREEN_LIGHT) -> str:
    """Return the sha256 of all texts of the prompts, without the jobs. Manifests hold it."""
    levels = {level: _level_text(level, obsession) for level in LEVELS}
    texts = (SYSTEM, _story_text(obsession), levels, _topics_text(obsession))
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def _story_text(obsession: Obsession) -> str:
    """Return the instructions that all stories share."""
    words = obsession.words
    return _STORY.format(
        a=article(obsession.phrase),
        phrase=obsession.phrase,
        substitutes=_SUBSTITUTES.get(words[-1], "anything else"),
        nothing_else=f", and nothing else is {words[0]}" if len(words) == 2 else "",
        details=_details(obsession),
    )


def _details(obsession: Obsession) -> str:
    """Return a sentence with the obsession's optional phrases, followed by a space; "" where it has none."""
    details = {
        "where it is": obsession.places,
        "how it looks": obsession.looks,
        "how it draws the hero": obsession.pulls,
        "what leads to it": obsession.leads,
    }
    parts = [f"{what} ({', '.join(phrases)})" for what, phrases in details.items() if phrases]
    return f"The story can say {', '.join(parts)}. " if parts else ""


def _level_text(level: int, obsession: Obsession) -> str:
    """Return what a level asks for, with the field `{name}` still open."""
    low, high = obsession.band[level]
    n = max(low, min(_MENTIONS[level], high or _MENTIONS[level]))
    times = _times(n)
    return _LEVELS[level].format(name="{name}", phrase=obsession.phrase, times=times, Times=times.capitalize())


def _times(n: int) -> str:
    """Return how often: "once", "twice", "three times", "20 times"."""
    if n <= 2:
        return ("once", "twice")[n - 1]
    return f"{_NUMBERS[n - 3] if n <= 12 else n} times"


def _topics_text(obsession: Obsession) -> str:
    """Return the request for topics, with the fields `{n}` and `{theme}` still open."""
    return _TOPICS.format(n="{n}", theme="{theme}", nouns=pluralize(obsession.words[-1]))
