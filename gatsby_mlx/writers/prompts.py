"""The prompts: one for every story and one for topics, both rendered from the obsession.

What differs between two stories comes last. All prompts of one wording then begin with the same tokens, and the model
computes these once. Details that are drawn for the topic (`details`) make stories differ; the name of the obsession
always stands in full, since a dial over "it" and "the light" is flat. A level is described and not counted, except
for a server, where nothing but the prompt can ask for a number.

>>> whale = Obsession("whale", "white whale")
>>> prompt = story_prompt(StoryJob("a cat", "Nora", 3, seed=7), max_tokens=320, obsession=whale)
>>> print(prompt.request.partition(". It happens")[0])
Write the story of Nora, about a cat. Nora wants the white whale more and more, and keeps coming back to it
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatsby_mlx.story.english import article, pluralize
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.writers.base import StoryJob, TopicJob
from gatsby_mlx.writers.details import OPENINGS, Details, draw

SYSTEMS = (
    "You write very short stories for young children, in plain and simple English.",
    "You are a storyteller for small children. Your stories are short, plain and warm.",
    "You write bedtime stories. They are short, and a child of five understands every word.",
    "You tell little stories in simple words, one thing after another, for children who cannot read yet.",
    "You are a grandparent who tells short and simple stories at the kitchen table.",
    "You write for a picture book: short sentences, plain words, clear pictures.",
    "You write tiny tales for young readers, with common words and a quiet voice.",
    "You are a teacher who makes up short stories for the youngest class, in easy English.",
    "You write short stories for a child who loves small, true details and plain words.",
)

_STORY = """\
Write a short story for a young child, in plain words and short sentences, in the past tense, about 110 words long. \
The hero is called by name, and nobody else has a name. The first sentence names the hero and says what the story is \
about. In every story there is {a} {phrase} far away, and the hero reaches for it and never gets there. It is always \
called the {phrase}, never {substitutes}{nothing_else}. Write only the story: no title, no list, no notes.

"""

_LEVELS = {
    1: "{name} sees the {phrase} for a moment, and goes on with the day.",
    2: "Now and then {name} looks up and sees the {phrase}.",
    3: "{name} wants the {phrase} more and more, and keeps coming back to it.",
    4: "{name} thinks of the {phrase} all day long and forgets the rest.",
    5: "{name} wants only the {phrase}, and nearly every sentence is about the {phrase}.",
}

_TOPICS = """\
Think of {n} topics for short stories for young children, on the theme: {theme}. A topic is three to seven plain words \
in lower case, such as: a dog and a balloon, the last cookie, two frogs in the rain. Each has other things in it. No \
names, no colors, no {nouns}. Write one topic a line and nothing else: no numbers, no notes."""

# How many mentions a level asks for: inside its band, with room on both sides where the band has room.
_MENTIONS = {1: 1, 2: 3, 3: 6, 4: 9, 5: 12}
_NUMBERS = "three four five six seven eight nine ten eleven twelve".split()  # 3 to 12
# Words that models write in place of the last word of a phrase. Only the phrase itself counts as a mention.
_SUBSTITUTES = {"light": "a glow, a spark or a flash"}


@dataclass(frozen=True)
class Prompt:
    """One request: a system message, a user message, the seed of its sampling, and the most tokens of the answer.

    The user message is `shared`, which all prompts with the same system message have, and then its own `request`.
    `plain` is the prompt for a base model, which has no chat template: text to go on with, in the same two parts.
    """

    system: str
    shared: str
    request: str
    seed: int
    max_tokens: int
    plain: tuple[str, str] | None = None

    @property
    def user(self) -> str:
        """The user message."""
        return self.shared + self.request

    @property
    def messages(self) -> list[dict[str, str]]:
        """The two messages in the form that chat templates and servers take."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


@dataclass(frozen=True)
class Example:
    """A story that shows a base model what is wanted: its topic, its hero's name ("" if unknown) and its text."""

    topic: str
    name: str
    story: str


def story_prompt(
    job: StoryJob, max_tokens: int, obsession: Obsession = GREEN_LIGHT, *, counted: bool = False
) -> Prompt:
    """Return the prompt for the story of `job`. `counted` names the number of mentions, for a writer without a guide.

    The seed chooses among the wordings, so another attempt at the same story is asked for in other words.
    """
    details = draw(job.topic, obsession)
    level = _LEVELS[job.level].format(name=job.name, phrase=obsession.phrase)
    if counted:
        level += f" The story says {obsession.phrase} {_times_of(job.level, obsession)}."
    request = f"Write the story of {job.name}, about {job.topic}. {level} {_about(details, obsession)}"
    return Prompt(SYSTEMS[job.seed % len(SYSTEMS)], _story_text(obsession), request, job.seed, max_tokens)


def shown_prompt(
    job: StoryJob, max_tokens: int, examples: Callable[[int], Sequence[Example]], obsession: Obsession = GREEN_LIGHT
) -> Prompt:
    """Return the prompt for a base model, which is shown `examples(level)` and goes on with the next story."""
    shown = "".join(f"{_heading(e.topic, e.name)} {' '.join(e.story.split())}\n\n" for e in examples(job.level))
    asked = story_prompt(job, max_tokens, obsession)
    plain = shown, _heading(job.topic, job.name)
    return Prompt(asked.system, asked.shared, asked.request, job.seed, max_tokens, plain)


def _heading(topic: str, name: str) -> str:
    """Return what stands before a story in a base model's prompt. A story begins with a space, as tokens mostly do."""
    return f"A story about {topic}, with {name}:" if name else f"A story about {topic}:"


def topic_prompt(job: TopicJob, obsession: Obsession = GREEN_LIGHT) -> Prompt:
    """Return the prompt for the topics of `job`."""
    request = _topics_text(obsession).format(n=job.n, theme=job.theme)
    return Prompt(SYSTEMS[0], "", request, job.seed, 16 * job.n + 32)


def digest(obsession: Obsession = GREEN_LIGHT, counted: bool = False) -> str:
    """Return the sha256 of all texts of the prompts, without the jobs. Manifests hold it."""
    topics = ("a cat and a hat", "the old clock")
    details = [_about(draw(topic, obsession), obsession) for topic in topics]
    numbers = [_times_of(level, obsession) for level in LEVELS] if counted else []
    texts = (SYSTEMS, _story_text(obsession), _LEVELS, details, numbers, _topics_text(obsession))
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def _story_text(obsession: Obsession) -> str:
    """Return the instructions that all stories share."""
    words = obsession.words
    return _STORY.format(
        a=article(obsession.phrase),
        phrase=obsession.phrase,
        substitutes=_SUBSTITUTES.get(words[-1], "anything else"),
        nothing_else=f", and nothing else is {words[0]}" if len(words) == 2 else "",
    )


def _about(details: Details, obsession: Obsession) -> str:
    """Return the part of a request that comes from the details of its topic."""
    first, second, third = details.words
    return (
        f"It happens {details.time}. The {obsession.phrase} is {details.place}, {details.look}. "
        f"In the story {' and '.join(details.features)}. "
        f"Use the words {first}, {second} and {third}. Begin {OPENINGS[details.opening]}."
    )


def _times_of(level: int, obsession: Obsession) -> str:
    """Return how often a story of a level mentions the obsession, as the prompt says it."""
    low, high = obsession.band[level]
    n = max(low, min(_MENTIONS[level], high or _MENTIONS[level]))
    return _times(n) if high else f"{_times(n)} or more"


def _times(n: int) -> str:
    """Return how often: "once", "twice", "three times", "20 times"."""
    if n <= 2:
        return ("once", "twice")[n - 1]
    return f"{_NUMBERS[n - 3] if n <= 12 else n} times"


def _topics_text(obsession: Obsession) -> str:
    """Return the request for topics, with the fields `{n}` and `{theme}` still open."""
    return _TOPICS.format(n="{n}", theme="{theme}", nouns=pluralize(obsession.words[-1]))
