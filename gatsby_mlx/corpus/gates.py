"""Gates: what a draft must be to enter the corpus. Each is named, so that a ledger can say why a story was refused."""

import re
from collections import Counter
from collections.abc import Callable, Mapping

from gatsby_mlx import text
from gatsby_mlx.corpus import measure
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.prime import ALPHABET

Bands = Mapping[int, tuple[int, int | None]]

# Mentions of the light a level owns, the same for every writer (DESIGN: level means rate). None: no upper end.
BANDS: Bands = {1: (1, 2), 2: (3, 4), 3: (5, 7), 4: (8, 10), 5: (11, None)}

WORDS_MIN = 60  # the upper end is a document's 1,000 characters: a row of the context holds it whole
SENTENCE_TWICE = 3  # times that a sentence of three words or more may be told
DISTINCT_4_GRAMS = 0.8  # of all; the lowest of 4,000 house stories is 0.89, of the seed's 2,000 0.75
BAND, DUPLICATE = "band", "duplicate"
# What is no story: a label ("Title:", "Level 3:"), a control line, markup, a count, words to the reader.
_LEFTOVER = re.compile(
    r"""^(?:title|topic|story|hero|name|level|theme|words?|notes?|(?:the\ )?moral|author|answer)\b[^.!?\n]{0,20}:
      | \b(?:obsession|green)\s*= | \btopic: | \blevel\ [1-5]\b
      | \b(?:word\ count|\d+\ words)\b
      | <[a-z/|][^>]{0,30}> | \|\w+\|> | https?:// | [{}|\\~#^]
      | \b(?:as\ an\ ai|language\ model|i\ hope\ (?:you|this)\ (?:enjoy|like|help)|let\ me\ know\ if)\b
      | \bhere(?:'s|\ is)\ (?:the|a|your)\ (?:\w+\ )?story\b
      | ^(?:sure|certainly|of\ course|okay)[,!.:]\ (?:here|i)\b
      | \b(?:green\ light)\ \(\w+
      | ^\d+[.)]\s
      | \bno\ (?:title|list|notes)\b
      | \bsay(?:s|ing)?\ the\ words?\ "?green\ light
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


def in_band(level: int, mentions: int, bands: Bands = BANDS) -> bool:
    """Tell whether `mentions` of the light lie in the band of `level`."""
    low, high = bands[level]
    return mentions >= low and (high is None or mentions <= high)


def fitting_level(mentions: int, bands: Bands = BANDS) -> int | None:
    """Return the level whose band holds `mentions`, or None if none does."""
    return next((level for level in bands if in_band(level, mentions, bands)), None)


def names_no_other(document: Document, heroes: frozenset[str]) -> bool:
    """Tell whether none of `heroes` but the document's own is named in its story; "Anna's dock" names a place."""
    return not (heroes - {document.name}) & set(re.findall(r"\b[A-Z][a-z]+\b(?!'s)", document.story))


def opens_on_topic(document: Document) -> bool:
    """Tell whether the first sentence has a word of the topic, and the whole story half of its words or more."""
    first = next(iter(text.sentences(document.story)), "")
    have = {text.stem(w) for w in text.words(document.story)}
    need = [text.stem(w) in have for w in text.content_words(document.topic)]
    return not need or (text.names_topic(document.topic, first) and 2 * sum(need) >= len(need))


def loops(story: str) -> bool:
    """Tell whether a story goes in circles: one sentence told again and again, or few distinct runs of four words."""
    told = Counter(s.lower() for s in text.sentences(story) if len(text.words(s)) >= 3)
    words = text.words(story.lower())
    runs = list(zip(*(words[i:] for i in range(4)), strict=False))
    return max(told.values(), default=0) > SENTENCE_TWICE or len(set(runs)) < DISTINCT_4_GRAMS * len(runs)


# Each takes a document, cleaned and with its hero's name, how many letters of other scripts the cleaning lost, and the
# names that are given to heroes.
GATES: dict[str, Callable[[Document, int, frozenset[str]], bool]] = {
    "length": lambda d, lost, names: measure.fits_length(d) and len(text.words(d.story)) >= WORDS_MIN,
    "ends": lambda d, lost, names: text.ends_in_sentence(d.story),
    "hero": lambda d, lost, names: measure.names_hero(d) and names_no_other(d, names),
    "topic": lambda d, lost, names: opens_on_topic(d),
    "leftover": lambda d, lost, names: not _LEFTOVER.search(d.story),
    "loop": lambda d, lost, names: not loops(d.story),
    "alphabet": lambda d, lost, names: not lost and set(d.story) <= set(ALPHABET) and "[" not in d.story,
}
# All that a story can be refused for: `finish` is the writer's own word, `duplicate` is known when all are written.
NAMES = ("finish", *GATES, BAND, DUPLICATE)


def failures(
    document: Document,
    lost: int = 0,
    finish: str = "stop",
    bands: Bands = BANDS,
    heroes: frozenset[str] = frozenset(),
) -> list[str]:
    """Return the names of the gates that `document` does not pass.

    `lost` as `text.Cleaned` has it, `finish` as `Draft` has it; `heroes` are all names given to heroes.
    """
    failed = [] if finish == "stop" else ["finish"]
    failed += [name for name, passes in GATES.items() if not passes(document, lost, heroes)]
    banded = in_band(document.level, text.count_mentions(document.story), bands)
    return failed if banded else [*failed, BAND]
