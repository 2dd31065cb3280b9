"""How much of the house's words and lines its stories draw on: all, or a smaller world for a smaller model.

>>> len(SMALL.lines("turn")), len(WHOLE.lines("turn")) == len(sentences.lines("turn"))
(2, True)
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from . import sentences
from .lexicon import Noun, names, nouns, read_table
from .reading import Topic


@dataclass(frozen=True)
class World:
    """The nouns of `words`; the `depth` shortest lines of each role, three times as many to open a story with; the
    first `phrases` of each sort that a noun has; the first `n_names` of the heroes' names; topics of the first
    `n_forms` forms. None is all there are. With `alike` what a noun does, wants and fears suits everything, known or
    not (anything.txt), so that no story waters a penguin; and no story opens with a pronoun before the name that it
    stands for, which a model would have to remember without having chosen."""

    name: str
    words: frozenset[str] | None = None
    depth: int | None = None
    phrases: int | None = None
    n_names: int | None = None
    n_forms: int | None = None
    alike: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(names())[: self.n_names]

    def lines(self, role: str) -> tuple[str, ...]:
        own = sentences.lines(role)
        if not role.startswith("open_"):
            return _shortest(own, self.depth)
        if self.alike:
            own = tuple(line for line in own if not re.search(r"\{(he|him|his)\}.*\{Name\}", line))
        return _shortest(own, self.depth and 3 * self.depth)

    def few(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        """Return the shortest of `lines`, twice the `depth`."""
        return _shortest(lines, self.depth and 2 * self.depth)

    def holds(self, noun: Noun) -> bool:
        return self.words is None or noun.word in self.words

    def nouns(self) -> tuple[Noun, ...]:
        """Return the nouns that topics are composed of, in the order of the tables."""
        return tuple(self.in_topic(noun) for noun in nouns().values() if self.holds(noun))

    def in_topic(self, noun: Noun) -> Noun:
        """Return `noun` with the phrases that topics are composed of in this world."""
        return _cut(noun, self.phrases)

    def noun(self, noun: Noun) -> Noun:
        """Return `noun` with the phrases that stories have for it in this world."""
        own = _cut(noun, self.phrases)
        return _alike(own) if self.alike else own

    def topic(self, topic: Topic) -> Topic:
        return replace(topic, nouns=tuple(map(self.noun, topic.nouns)))


@cache
def _shortest(lines: tuple[str, ...], n: int | None) -> tuple[str, ...]:
    """The `n` shortest lines, in their order; all of them where there are no more."""
    short = sorted(range(len(lines)), key=lambda i: len(lines[i]))[:n]
    return tuple(lines[i] for i in sorted(short))


@cache
def _cut(noun: Noun, n: int | None) -> Noun:
    lists = ("adjectives", "homes", "does", "use", "wants", "troubles")
    return replace(noun, **{name: getattr(noun, name)[:n] for name in lists})


@cache
def _alike(noun: Noun) -> Noun:
    other = noun if noun.kind == "sky" else _anything()  # sun and moon are never unknown
    return replace(noun, **{name: getattr(other, name) for name in ("homes", "does", "use", "wants", "troubles")})


@cache
def _anything() -> Noun:
    text = resources.files("gatsby_mlx.writers.house").joinpath("anything.txt").read_text(encoding="utf-8")
    return read_table(text, "anything.txt")[0]


WHOLE = World("whole", n_forms=58)
WORDS = "cat kitten dog puppy bunny pony cow horse lamb pig hen duck doll kite balloon bubble moon sun star cloud"
PLAIN = World("plain", depth=6, phrases=2, alike=True)
SMALL = World("small", frozenset(WORDS.split()), depth=2, phrases=1, n_names=2, n_forms=12)
