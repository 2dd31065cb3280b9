"""The lamp: the chance that the phrase comes before the next sentence ends, from the level and the text so far.

The chance is a logistic regression on a few counts of the story: how many mentions there were, how long ago, how far
the story and its sentence are. It was fitted to stories that the shipped checkpoint told, and measured on topics that
neither the model nor the fit had seen (docs/results.md, "The lamp"). For that checkpoint the words of the sentence
count too. `benchmarks/lamp.py` fits and measures.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from gatsby_mlx.story.obsession import LEVELS, Obsession

FORMAT = "gatsby-mlx/lamp/1"
ENDS = re.compile(r"""[.!?]+["')]*(?=\s|\Z)""")  # of sentences
_WORD = re.compile(r"[a-z']+")
OPEN_BAND = 1.2  # mentions in an open band, as a multiple of the fewest


def expected_mentions(level: int, obsession: Obsession) -> float:
    """Return about how many mentions a story has: the middle of its level's band."""
    low, high = obsession.band[level]
    return (low + high) / 2 if high else OPEN_BAND * low


def counts(level: int, story: str, obsession: Obsession) -> list[float]:
    """Return the counts of a story so far, 0 or more each, on which the chance depends."""
    ends = [match.end() for match in ENDS.finditer(story)]
    mentions = [match.start() for match in obsession.pattern.finditer(story)]
    begin, last = ends[-1] if ends else 0, mentions[-1] if mentions else -1
    words = len(story[begin:].split())  # of the sentence so far
    since = sum(end > last for end in ends)  # sentences that ended after the last mention
    missing = max(0.0, expected_mentions(level, obsession) - len(mentions))
    return [
        float(not words),
        math.log1p(words),
        min(words, 12),
        float(last >= begin),
        len(mentions),
        math.sqrt(len(mentions)),
        since,
        min(since, 1),
        min(since, 2),
        math.log1p(len(story[max(0, last) :].split())),
        len(ends),
        len(story) / 600,
        story.count("\n\n"),
        float(not mentions),
        missing,
        missing * 100 / max(60, 600 - len(story)),
    ]


def features(level: int, story: str, obsession: Obsession) -> np.ndarray:
    """Return the features [n] of a story so far: the counts, the level, and the counts once more at that level."""
    found = counts(level, story, obsession)
    by_level = [x if level == other else 0.0 for other in LEVELS for x in found]
    return np.array([*found, *(float(level == other) for other in LEVELS), *by_level])


def sentence_words(story: str) -> set[str]:
    """Return the words of the sentence that is being told, and its last word once more, with a full stop before it.

    >>> sorted(sentence_words("It slept. Then she looked "))
    ['.looked', 'looked', 'she', 'then']
    """
    ends = [match.end() for match in ENDS.finditer(story)]
    words = _WORD.findall(story[ends[-1] if ends else 0 :].lower())
    return {*words, *(f".{word}" for word in words[-1:])}


class Lamp:
    """The chance of an obsession's phrase. `weights` are the sha256 of the checkpoint's weights, None if not known."""

    def __init__(self, obsession: Obsession, weights: str | None = None, content: Mapping[str, Any] | None = None):
        content = content if content is not None else fitted()
        self.obsession = obsession
        head = content["counts_and_words" if weights and weights == content["weights"] else "counts"]
        self._scale = np.array(head["scale"])
        self._bias = float(head["bias"])
        self._words: dict[str, float] = head.get("words", {})

    def chance(self, level: int, story: str) -> float:
        """Return the probability in [0, 1] that the phrase begins after `story` and before the next sentence ends.

        `story` ends where a word may begin. At the end of a sentence, the next sentence is the one that comes; inside
        one, it is the one after it.
        """
        z = self._bias + float(features(level, story, self.obsession) @ self._scale)
        if self._words:
            z += sum(self._words.get(word, 0.0) for word in sentence_words(story))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, z))))


@cache
def fitted() -> dict[str, Any]:
    """Return what `benchmarks/lamp.py` has fitted."""
    content = json.loads(resources.files("gatsby_mlx.exhibit").joinpath("lamp.json").read_text("utf-8"))
    assert content["format"] == FORMAT
    return content
