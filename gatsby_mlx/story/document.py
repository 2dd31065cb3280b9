"""Documents and the corpus file: prime, story and blank line, one document after another, nothing else.

A document ends at a blank line followed by `[`, or at the end of the file. A story may contain blank lines, but no line
that begins with `[`.

>>> text = prime.build("a cat", 1) + "A cat sat.\\n\\n" + prime.build("a dog", 2) + "A dog ran.\\n\\n"
>>> [(d.topic, d.level, d.story) for d in parse(text)]
[('a cat', 1, 'A cat sat.'), ('a dog', 2, 'A dog ran.')]
>>> render(parse(text)) == text
True
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from shlex import quote

from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.story.text import count_distinct_mentions

SEPARATOR = "\n\n"
HINT = "Write one with: gatsby write --out DIR, or bring your stories: gatsby corpus import SOURCE --out DIR"
OTHER = "it is written for another obsession"
_STARTS = re.compile(r"(?:\A|(?<=\n\n))\[")
_CONTROL = re.compile(r"^\[([A-Za-z][\w-]*) ?= ?([^\]\n]*)\]([^\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """One story and its prime. `writer`, `name` (the hero) and `split` are known only if a manifest has them.

    `split` is "train", "validation" or "test", for a corpus whose source was split already.
    """

    prime: Prime
    story: str
    writer: str | None = None
    name: str | None = None
    split: str | None = None

    @property
    def topic(self) -> str:
        return self.prime.topic

    @property
    def level(self) -> int:
        return self.prime.level

    @cached_property
    def mentions(self) -> int:
        """The number of mentions of the obsession in the story."""
        return self.prime.obsession.count(self.story)

    @property
    def distinct_mentions(self) -> int:
        """The number of mentions, with every repeated sentence counted once."""
        return count_distinct_mentions(self.story, self.prime.obsession)

    @cached_property
    def header(self) -> str:
        """The prime as text: the control line and the topic line."""
        return prime.render(self.prime)

    @cached_property
    def text(self) -> str:
        """The document as it is in the file, with the blank line at its end."""
        return self.header + self.story + SEPARATOR


def render(documents: Iterable[Document]) -> str:
    """Return the text of a corpus file with these `documents`."""
    return "".join(d.text for d in documents)


def parse(text: str, where: str = "the corpus", obsession: Obsession = GREEN_LIGHT) -> list[Document]:
    """Return the documents in the text of a corpus file; `render` turns them back into the same text.

    `where` names the file in messages. Raises CorpusError for a text without control lines, and for a torn document,
    with the line where it begins.
    """
    starts = [m.start() for m in _STARTS.finditer(text)]
    if not starts:
        file = quote(where)
        hint = f"If it has your stories: gatsby corpus import {file} --out DIR. As plain prose, without a dial: "
        hint += f"gatsby train --corpus {file} --sequences windows"
        raise CorpusError(f"{where} holds no control line ([{obsession.tag}=N] ... topic: ...)", hint)
    mend = f"To mend it: gatsby corpus import {quote(where)} --out DIR"
    if starts[0] != 0:
        raise CorpusError(f"{where}, line 1: it does not begin with a control line, but with {text[:30]!r}", mend)
    documents = []
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        block = text[begin:end]
        header = prime.parse(block, obsession)
        reason, below = _fault(header, block, obsession)
        if header is None or reason:
            line = text.count("\n", 0, begin) + 1 + below
            if reason.startswith(OTHER):
                mend = "Give the obsession that it was written for: --obsession FILE"
            raise CorpusError(f"{where}, line {line}: torn document, {reason}", mend)
        documents.append(Document(header, block[len(prime.render(header)) : -len(SEPARATOR)]))
    return documents


def has_control_line(text: str) -> bool:
    """Return whether any line of `text` is a control line, of whichever obsession, or was meant as one."""
    return bool(_CONTROL.search(text))


def _fault(header: Prime | None, block: str, obsession: Obsession) -> tuple[str, int]:
    """Return what is wrong with a document, "" if nothing is, and how many lines below its first one that is."""
    if header is None:
        return _prime_fault(block, obsession)
    story = block[len(prime.render(header)) :]
    if not story.strip():
        return "its story is empty", 0
    if control := next((m for m in _CONTROL.finditer(story)), None):
        below = 2 + story.count("\n", 0, control.start())
        return f"a blank line is missing before the control line {control[0][:40]!r}", below
    if not story.endswith(SEPARATOR):
        return "it does not end in a blank line", 0
    if story.startswith("[") or "\n[" in story:
        return "a line of its story begins with '['", 0
    return "", 0


def _prime_fault(block: str, obsession: Obsession) -> tuple[str, int]:
    """Return what is wrong with the prime of a document, and on which of its lines: 0 or 1."""
    control = _CONTROL.match(block)
    second = block.split("\n", 2)[1] if "\n" in block else ""
    if control is None:
        return f"its control line or its topic is damaged: {block[:90]!r}", 0
    tag, number, rest = control[1], control[2].strip(), control[3]
    if tag != obsession.tag:
        return f"{OTHER}: [{tag}={number}], where [{obsession.tag}=N] should be", 0
    if number not in {str(level) for level in LEVELS}:
        return f"a level is 1 to 5, not {number!r}; a right line: {obsession.control_line(3)}", 0
    right = obsession.control_line(int(number))
    word = re.search(r"obsession=(\S+)", rest)
    if word and word[1] != obsession.level_word(int(number)):
        expected = obsession.level_word(int(number))
        return f"the word of level {number} is {expected}, not {word[1][:20]!r}; a right line: {right}", 0
    if not control[0].startswith(right):
        return f"its control line is {control[0][:60]!r}; a right one: {right}", 0
    if not re.match(r"topic: \S", second):
        return f"the line after the control line is {second[:40]!r}; a right one: topic: a dog and a balloon", 1
    return f"its control line or its topic is damaged: {block[:90]!r}", 0


def topics_of(documents: Sequence[Document]) -> list[str]:
    """Return the topics of `documents` in order of first appearance."""
    return list(dict.fromkeys(d.topic for d in documents))
