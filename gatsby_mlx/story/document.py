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

from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.story.text import count_distinct_mentions

SEPARATOR = "\n\n"
HINT = "Write one with: gatsby write --out DIR"
_STARTS = re.compile(r"(?:\A|(?<=\n\n))\[")


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
        raise CorpusError(f"{where} holds no control line ([{obsession.tag}=N] ... topic: ...)", HINT)
    if starts[0] != 0:
        raise CorpusError(f"{where}, line 1: it does not begin with a control line, but with {text[:30]!r}", HINT)
    documents = []
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        block = text[begin:end]
        header = prime.parse(block, obsession)
        reason = _fault(header, block)
        if header is None or reason:
            line = text.count("\n", 0, begin) + 1
            raise CorpusError(f"{where}, line {line}: torn document, {reason}", HINT)
        documents.append(Document(header, block[len(prime.render(header)) : -len(SEPARATOR)]))
    return documents


def _fault(header: Prime | None, block: str) -> str:
    """Return what is wrong with a document, "" if nothing is."""
    if header is None:
        return f"its control line or its topic is damaged: {block[:90]!r}"
    story = block[len(prime.render(header)) :]
    if not story.strip():
        return "its story is empty"
    if not story.endswith(SEPARATOR):
        return "it does not end in a blank line"
    if story.startswith("[") or "\n[" in story:
        return "a line of its story begins with '['"
    return ""


def topics_of(documents: Sequence[Document]) -> list[str]:
    """Return the topics of `documents` in order of first appearance."""
    return list(dict.fromkeys(d.topic for d in documents))
