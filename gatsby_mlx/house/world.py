"""How much of the house's vocabulary and templates its stories use: all of it, or less for a smaller model.

>>> len(SMALL.lines("turn")), len(FULL.lines("turn")) == len(sentences.lines("turn"))
(2, True)
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from gatsby_mlx.house import sentences
from gatsby_mlx.house.lexicon import Noun, names, nouns, read_table
from gatsby_mlx.house.reading import Topic


@dataclass(frozen=True)
class World:
    """A selection of the vocabulary and templates. None means all there are.

    `words` are the nouns that topics are about. `depth` is the number of templates for each role, the shortest ones
    (three times as many for the opening). `phrases` is the number of phrases of each kind for a noun, `n_names` the
    number of heroes' names, `n_forms` the number of topic forms. In a `uniform` world all nouns do, want and fear the
    same things (anything.txt), so nothing in a story depends on knowing the noun. Its stories also never open with a
    pronoun before the hero's name, because a model would have to choose the name in advance.
    """

    name: str
    words: frozenset[str] | None = None
    depth: int | None = None
    phrases: int | None = None
    n_names: int | None = None
    n_forms: int | None = None
    uniform: bool = False
    quests: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of heroes."""
        return tuple(names())[: self.n_names]

    def lines(self, role: str) -> tuple[str, ...]:
        """Return the templates of a role in this world."""
        lines = sentences.lines(role)
        if self.quests:
            lines = _tailed(role, lines + sentences.lines(f"{role}_more"))
        if not role.startswith("open_"):
            return _shortest(lines, self.depth)
        if self.uniform:
            lines = tuple(line for line in lines if not re.search(r"\{(he|him|his)\}.*\{Name\}", line))
        if self.quests:  # a model makes two heroes of a noun that is given its name later
            lines = tuple(line for line in lines if "Now give" not in line)
        return _shortest(lines, self.depth and 3 * self.depth)

    def few(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        """Return the shortest of `lines`, as many as twice the `depth`."""
        return _shortest(lines, self.depth and 2 * self.depth)

    def has(self, noun: Noun) -> bool:
        """Return whether topics in this world are about `noun`."""
        return self.words is None or noun.word in self.words

    def nouns(self) -> tuple[Noun, ...]:
        """Return the nouns of topics in this world, in the order of the tables."""
        return tuple(self.in_topic(noun) for noun in nouns().values() if self.has(noun))

    def in_topic(self, noun: Noun) -> Noun:
        """Return `noun` with the phrases that topics use in this world."""
        return _cut(noun, self.phrases)

    def noun(self, noun: Noun) -> Noun:
        """Return `noun` with the phrases that stories use in this world."""
        noun = _cut(noun, self.phrases)
        return _uniform(noun, 1 if self.quests else 0) if self.uniform else noun

    def topic(self, topic: Topic) -> Topic:
        """Return `topic` with the phrases that stories use in this world."""
        return replace(topic, nouns=tuple(map(self.noun, topic.nouns)))


_ONLY_THE_LIGHT = re.compile(r"(?:(?<=[.?!] )|(?<=[.?!]\" ))((?:The g|G)reen light)\.")


@cache
def _tailed(role: str, lines: tuple[str, ...]) -> tuple[str, ...]:
    """Let something follow the sentences of level 5 that are only "The green light.": half of all sentences are."""
    if role not in ("light_short", "light_break", "light_last"):
        return lines
    return tuple(_ONLY_THE_LIGHT.sub(r"\1 {light_tail}.", line) for line in lines)


@cache
def _shortest(lines: tuple[str, ...], n: int | None) -> tuple[str, ...]:
    """Return the `n` shortest lines in their original order."""
    shortest = sorted(range(len(lines)), key=lambda i: len(lines[i]))[:n]
    return tuple(lines[i] for i in sorted(shortest))


@cache
def _cut(noun: Noun, n: int | None) -> Noun:
    """Return `noun` with the first `n` phrases of each kind."""
    lists = ("adjectives", "homes", "does", "use", "wants", "troubles")
    return replace(noun, **{name: getattr(noun, name)[:n] for name in lists})


@cache
def _uniform(noun: Noun, record: int) -> Noun:
    """Return `noun` with the phrases of a record of anything.txt. Sun and moon keep theirs."""
    source = noun if noun.kind == "sky" else _anything()[record]
    return replace(noun, **{name: getattr(source, name) for name in ("homes", "does", "use", "wants", "troubles")})


@cache
def _anything() -> list[Noun]:
    text = resources.files("gatsby_mlx.house").joinpath("anything.txt").read_text(encoding="utf-8")
    return read_table(text, "anything.txt")


FULL = World("full", n_forms=58)
WORDS = "cat kitten dog puppy bunny pony cow horse lamb pig hen duck doll kite balloon bubble moon sun star cloud"
PLAIN = World("plain", depth=6, phrases=2, uniform=True)
TALES = World("tales", phrases=4, uniform=True, quests=True)
SMALL = World("small", frozenset(WORDS.split()), depth=2, phrases=1, n_names=2, n_forms=12)
