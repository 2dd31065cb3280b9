"""Measure a corpus: whether its stories keep their form, whether the dial rises, how much the stories repeat."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gatsby_mlx.corpus.levels import means_by_level, values_by_level
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import LEVELS

SAMPLE = 1000  # stories: repetition grows with size, so corpora are compared on their first thousand
DOCUMENT_MAX, USUAL_WORDS_MIN, USUAL_WORDS_MAX = 1000, 80, 170
COMMON = 300  # words that a pattern shows; the others are masked
PATTERN_MIN_WORDS = 5


def measure(documents: Sequence[Document]) -> dict[str, Any]:
    """Return the figures of `documents` by name. Shares are 0 to 1, and None where there is nothing to measure."""
    sample = documents[:SAMPLE]
    return {"documents": len(documents), **_form(documents), **_dial(documents), **_variety(sample), **_overlap(sample)}


def _share(values: list[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def fits_length(document: Document) -> bool:
    """Return whether a document has at most 1,000 characters, prime included."""
    return len(document.text) <= DOCUMENT_MAX


def fits_words(document: Document) -> bool:
    """Return whether a story has the usual 80 to 170 words."""
    return USUAL_WORDS_MIN <= len(text.words(document.story)) <= USUAL_WORDS_MAX


def names_hero(document: Document) -> bool:
    """Return whether a story has its hero's name; False if no name is known."""
    return bool(document.name and re.search(rf"\b{re.escape(document.name)}\b", document.story))


def opens_on_topic(document: Document) -> bool:
    """Return whether the first sentence has every content word of the topic."""
    first = next(iter(text.sentences(document.story)), "")
    return text.names_topic(document.topic, first, every=True)


def _form(documents: Sequence[Document]) -> dict[str, Any]:
    return {
        "at_most_1000_chars": _share([fits_length(d) for d in documents]),
        "words_80_to_170": _share([fits_words(d) for d in documents]),
        "ends_in_sentence": _share([text.ends_in_sentence(d.story) for d in documents]),
        "names_hero": _share([names_hero(d) for d in documents if d.name]),
        "topic_in_first_sentence": _share([opens_on_topic(d) for d in documents]),
    }


def _dial(documents: Sequence[Document]) -> dict[str, Any]:
    mentions = [(d.level, d.mentions) for d in documents]
    present = {level: values for level, values in values_by_level(mentions).items() if values}
    means: dict[int, float] = dict(zip(LEVELS, means_by_level(mentions), strict=True))
    by_topic: dict[str, dict[int, int]] = defaultdict(dict)
    for d in documents:
        by_topic[d.topic][d.level] = d.mentions
    complete = [[counts[k] for k in LEVELS] for counts in by_topic.values() if len(counts) == len(LEVELS)]
    total = sum(n for _, n in mentions)
    first_words = sum(d.story.lower().count(d.prime.obsession.words[0]) for d in documents)
    return {
        "mentions_by_level": {level: means[level] for level in present},
        "mentions_range_by_level": {level: [min(values), max(values)] for level, values in present.items()},
        "topics_strictly_rising": _share([all(a < b for a, b in pairwise(counts)) for counts in complete]),
        "green_that_is_not_the_light": (first_words - total) / first_words if first_words else None,
    }


def _tokens(story: str) -> list[str]:
    return text.words(story.lower())


def _variety(sample: Sequence[Document]) -> dict[str, Any]:
    vocabulary, grams, sentences, firsts = Counter(), Counter(), Counter(), Counter()
    for d in sample:
        tokens = _tokens(d.story)
        vocabulary.update(tokens)
        grams.update(zip(*(tokens[i:] for i in range(4)), strict=False))
        in_story = text.sentences(d.story)
        sentences.update(in_story)
        firsts.update(in_story[:1])
    pattern, stories = commonest_pattern(sample, {w for w, _ in vocabulary.most_common(COMMON)})
    return {
        "distinct_words": len(vocabulary),
        "distinct_4_grams": len(grams) / max(1, grams.total()),
        "distinct_sentences": len(sentences) / max(1, sentences.total()),
        "first_sentences_shared": sum(n for n in firsts.values() if n > 1) / max(1, firsts.total()),
        "commonest_pattern": stories / max(1, len(sample)),
        "commonest_pattern_text": pattern,
    }


def patterns(sample: Sequence[Document], common: set[str]) -> Counter[str]:
    """Count the stories with each sentence pattern of five words or more; words outside `common` are masked as `_`."""
    counts: Counter[str] = Counter()
    for d in sample:
        masked = ([w if w in common else "_" for w in _tokens(s)] for s in text.sentences(d.story))
        counts.update({" ".join(m) for m in masked if len(m) >= PATTERN_MIN_WORDS})
    return counts


def commonest_pattern(sample: Sequence[Document], common: set[str]) -> tuple[str, int]:
    """Return the pattern that occurs in the most stories, and the number of those."""
    return max(patterns(sample, common).items(), key=lambda item: (item[1], item[0]), default=("", 0))


def _overlap(sample: Sequence[Document]) -> dict[str, Any]:
    """Return the highest Jaccard index of the word sets of two stories whose topics differ."""
    index: dict[str, int] = {}
    sets = [{index.setdefault(w, len(index)) for w in _tokens(d.story)} for d in sample]
    if len(sets) < 2:
        return {"highest_jaccard": None}
    occurs = np.zeros((len(sets), len(index)), np.float32)
    for i, words in enumerate(sets):
        occurs[i, list(words)] = 1
    shared = occurs @ occurs.T
    sizes = occurs.sum(1)
    jaccard = shared / np.maximum(1, sizes[:, None] + sizes[None, :] - shared)
    topic_ids = {t: i for i, t in enumerate(dict.fromkeys(d.topic for d in sample))}
    ids = np.array([topic_ids[d.topic] for d in sample])
    jaccard[ids[:, None] == ids[None, :]] = 0
    return {"highest_jaccard": float(jaccard.max())}
