"""Documents and the corpus file: prime + story + blank line, one after another, nothing else.

Only a blank line followed by `[`, or the end of the file, ends a document; a story may hold blank lines of its own,
but no line that begins with `[`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from gatsby_mlx import prime
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.prime import Prime

SEPARATOR = "\n\n"
CURE = "Write one with: gatsby write --out DIR"
_STARTS = re.compile(r"(?:\A|(?<=\n\n))\[")


@dataclass(frozen=True)
class Document:
    """One story under its prime. `writer` and `name` (the hero) are known only where a manifest tells them."""

    prime: Prime
    story: str
    writer: str | None = None
    name: str | None = None

    @property
    def topic(self) -> str:
        return self.prime.topic

    @property
    def level(self) -> int:
        return self.prime.level

    @cached_property
    def header(self) -> str:
        return prime.render(self.prime)

    @cached_property
    def text(self) -> str:
        """The document's characters in the file, the blank line at its end included."""
        return self.header + self.story + SEPARATOR


def render(documents: Iterable[Document]) -> str:
    """Return the text of a corpus file that holds `documents`."""
    return "".join(d.text for d in documents)


def parse(text: str, where: str = "the corpus") -> list[Document]:
    """Split the text of a corpus file into documents; `render` of the result is `text` again.

    Raises CorpusError for a text without control lines and, naming the line, for a torn document.
    """
    starts = [m.start() for m in _STARTS.finditer(text)]
    if not starts:
        raise CorpusError(f"{where} holds no control line ([green=N] ... topic: ...)", CURE)
    if starts[0] != 0:
        raise CorpusError(f"{where}, line 1: it does not begin with a control line, but with {text[:30]!r}", CURE)
    documents = []
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        block = text[begin:end]
        header = prime.parse(block)
        why = _fault(header, block)
        if header is None or why:
            line = text.count("\n", 0, begin) + 1
            raise CorpusError(f"{where}, line {line}: torn document, {why}", CURE)
        documents.append(Document(header, block[prime.length(block) : -len(SEPARATOR)]))
    return documents


def _fault(header: Prime | None, block: str) -> str:
    """Say what is wrong with a document, or return an empty string."""
    if header is None:
        return f"its control line or its topic is damaged: {block[:90]!r}"
    story = block[prime.length(block) :]
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
