"""Gates: the tests that a draft must pass to enter the corpus. Their names say why a story was refused."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache

from gatsby_mlx.corpus import measure
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import Bands, Obsession
from gatsby_mlx.story.prime import ALPHABET

STORY_WORDS_MIN = 60  # the upper limit is a document's 1,000 characters, which fit the context
SENTENCE_REPEATS_MAX = 3  # times that a sentence of three words or more may occur
DISTINCT_4_GRAMS_MIN = 0.8  # of all; the lowest of 4,000 house stories is 0.89, of the baseline's 2,000 0.75
BAND, DUPLICATE = "band", "duplicate"
# What is not part of a story: a label ("Title:", "Level 3:"), a control line, markup, a count, words to the reader.
_LEFTOVER = r"""
        ^(?:title|topic|story|hero|name|level|theme|words?|notes?|(?:the\ )?moral|author|answer)\b[^.!?\n]{0,20}:
      | \b(?:obsession|{tag})\s*= | \btopic: | \blevel\ [1-5]\b
      | \b(?:word\ count|\d+\ words)\b
      | <[a-z/|][^>]{0,30}> | \|\w+\|> | https?:// | [{}|\\~#^]
      | \b(?:as\ an\ ai|language\ model|i\ hope\ (?:you|this)\ (?:enjoy|like|help)|let\ me\ know\ if)\b
      | \bhere(?:'s|\ is)\ (?:the|a|your)\ (?:\w+\ )?story\b
      | ^(?:sure|certainly|of\ course|okay)[,!.:]\ (?:here|i)\b
      | \b(?:{phrase})\ \(\w+
      | ^\d+[.)]\s
      | \bno\ (?:title|list|notes)\b
      | \bsay(?:s|ing)?\ the\ words?\ "?{phrase}
    """


@cache
def _leftover(obsession: Obsession) -> re.Pattern[str]:
    pattern = _LEFTOVER.replace("{tag}", obsession.tag).replace("{phrase}", re.escape(obsession.phrase))
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE | re.VERBOSE)


def in_band(level: int, mentions: int, bands: Bands) -> bool:
    """Return whether `mentions` lie in the band of `level`."""
    low, high = bands[level]
    return mentions >= low and (high is None or mentions <= high)


def fitting_level(mentions: int, bands: Bands) -> int | None:
    """Return the level whose band holds `mentions`, or None if none does."""
    return next((level for level in bands if in_band(level, mentions, bands)), None)


def names_no_other(document: Document, heroes: frozenset[str]) -> bool:
    """Return whether the story names none of `heroes` except its own; a possessive ("Anna's dock") does not count."""
    return not (heroes - {document.name}) & set(re.findall(r"\b[A-Z][a-z]+\b(?!'s)", document.story))


def opens_on_topic(document: Document) -> bool:
    """Return whether the first sentence has a word of the topic, and the story at least half of the topic's words."""
    first = next(iter(text.sentences(document.story)), "")
    have = {text.stem(w) for w in text.words(document.story)}
    need = [text.stem(w) in have for w in text.content_words(document.topic)]
    return not need or (text.names_topic(document.topic, first) and 2 * sum(need) >= len(need))


def loops(story: str) -> bool:
    """Return whether a story repeats itself: one sentence again and again, or few distinct runs of four words."""
    repeats = Counter(s.lower() for s in text.sentences(story) if len(text.words(s)) >= 3)
    words = text.words(story.lower())
    runs = list(zip(*(words[i:] for i in range(4)), strict=False))
    return max(repeats.values(), default=0) > SENTENCE_REPEATS_MAX or len(set(runs)) < DISTINCT_4_GRAMS_MIN * len(runs)


# Each takes a cleaned document with its hero's name, the number of letters of other scripts that cleaning dropped, and
# the names of all heroes.
GATES: dict[str, Callable[[Document, int, frozenset[str]], bool]] = {
    "length": lambda d, lost, names: measure.fits_length(d) and len(text.words(d.story)) >= STORY_WORDS_MIN,
    "ends": lambda d, lost, names: text.ends_in_sentence(d.story),
    "hero": lambda d, lost, names: measure.names_hero(d) and names_no_other(d, names),
    "topic": lambda d, lost, names: opens_on_topic(d),
    "leftover": lambda d, lost, names: not _leftover(d.prime.obsession).search(d.story),
    "loop": lambda d, lost, names: not loops(d.story),
    "alphabet": lambda d, lost, names: not lost and set(d.story) <= set(ALPHABET) and "[" not in d.story,
}
# Every reason to refuse a story. The writer reports `finish`; `duplicate` is known when all stories are written.
NAMES = ("finish", *GATES, BAND, DUPLICATE)


def failures(
    document: Document,
    lost: int = 0,
    finish: str = "stop",
    heroes: frozenset[str] = frozenset(),
) -> list[str]:
    """Return the names of the gates that `document` fails.

    `lost` is that of `text.Cleaned`, `finish` that of `Draft`; `heroes` are the names of all heroes.
    """
    failed = [] if finish == "stop" else ["finish"]
    failed += [name for name, passes in GATES.items() if not passes(document, lost, heroes)]
    banded = in_band(document.level, document.mentions, document.prime.obsession.band)
    return failed if banded else [*failed, BAND]
