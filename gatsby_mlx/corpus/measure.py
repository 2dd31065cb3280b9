"""Figures of a corpus: does it fit its form, does the dial rise, and how much does it repeat itself."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gatsby_mlx import text
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.prime import LEVELS

SAMPLE = 1000  # repetition grows with size, so corpora are compared on their first thousand stories
DOCUMENT_MAX, WORDS_MIN, WORDS_MAX = 1000, 80, 170
COMMON = 300
PATTERN_MIN_WORDS = 5


def measure(documents: Sequence[Document]) -> dict:
    """Return the figures of `documents` by name; shares are in 0..1, None where the corpus cannot tell."""
    sample = documents[:SAMPLE]
    return {"documents": len(documents), **_form(documents), **_dial(documents), **_variety(sample), **_overlap(sample)}


def _share(values: list[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def fits_length(document: Document) -> bool:
    return len(document.text) <= DOCUMENT_MAX


def fits_words(document: Document) -> bool:
    return WORDS_MIN <= len(text.words(document.story)) <= WORDS_MAX


def names_hero(document: Document) -> bool:
    return bool(document.name and re.search(rf"\b{re.escape(document.name)}\b", document.story))


def opens_on_topic(document: Document) -> bool:
    first = next(iter(text.sentences(document.story)), "")
    return text.names_topic(document.topic, first, every=True)


def _form(documents: Sequence[Document]) -> dict:
    return {
        "at_most_1000_chars": _share([fits_length(d) for d in documents]),
        "words_80_to_170": _share([fits_words(d) for d in documents]),
        "ends_in_sentence": _share([text.ends_in_sentence(d.story) for d in documents]),
        "names_hero": _share([names_hero(d) for d in documents if d.name]),
        "topic_in_first_sentence": _share([opens_on_topic(d) for d in documents]),
    }


def _dial(documents: Sequence[Document]) -> dict:
    by_level, by_topic, greens, mentions = defaultdict(list), defaultdict(dict), 0, 0
    for d in documents:
        n = text.count_mentions(d.story)
        by_level[d.level].append(n)
        by_topic[d.topic][d.level] = n
        greens += d.story.lower().count("green")
        mentions += n
    whole = [[levels[k] for k in sorted(levels)] for levels in by_topic.values() if len(levels) == len(LEVELS)]
    return {
        "mentions_by_level": {k: float(np.mean(v)) for k, v in sorted(by_level.items())},
        "mentions_range_by_level": {k: [min(v), max(v)] for k, v in sorted(by_level.items())},
        "topics_strictly_rising": _share([all(a < b for a, b in pairwise(counts)) for counts in whole]),
        "green_that_is_not_the_light": (greens - mentions) / greens if greens else None,
    }


def _tokens(story: str) -> list[str]:
    return text.words(story.lower())


def _variety(sample: Sequence[Document]) -> dict:
    vocabulary, grams, sentences, firsts = Counter(), Counter(), Counter(), Counter()
    for d in sample:
        tokens = _tokens(d.story)
        vocabulary.update(tokens)
        grams.update(zip(*(tokens[i:] for i in range(4)), strict=False))
        own = text.sentences(d.story)
        sentences.update(own)
        firsts.update(own[:1])
    pattern, stories = commonest_pattern(sample, {w for w, _ in vocabulary.most_common(COMMON)})
    return {
        "distinct_words": len(vocabulary),
        "distinct_4_grams": len(grams) / max(1, grams.total()),
        "distinct_sentences": len(sentences) / max(1, sentences.total()),
        "first_sentences_shared": sum(n for n in firsts.values() if n > 1) / max(1, firsts.total()),
        "commonest_pattern": stories / max(1, len(sample)),
        "commonest_pattern_text": pattern,
    }


def patterns(sample: Sequence[Document], common: set[str]) -> Counter:
    """Count, over stories, the sentence patterns of five words or more, words outside `common` masked as `_`."""
    counts = Counter()
    for d in sample:
        masked = ([w if w in common else "_" for w in _tokens(s)] for s in text.sentences(d.story))
        counts.update({" ".join(m) for m in masked if len(m) >= PATTERN_MIN_WORDS})
    return counts


def commonest_pattern(sample: Sequence[Document], common: set[str]) -> tuple[str, int]:
    """Return the pattern that stands in most stories, and in how many."""
    return max(patterns(sample, common).items(), key=lambda item: (item[1], item[0]), default=("", 0))


def _overlap(sample: Sequence[Document]) -> dict:
    """Return the highest Jaccard index of the word sets of two stories whose topics differ."""
    index: dict[str, int] = {}
    sets = [{index.setdefault(w, len(index)) for w in _tokens(d.story)} for d in sample]
    if len(sets) < 2:
        return {"highest_jaccard": None}
    rows = np.zeros((len(sets), len(index)), np.float32)
    for i, own in enumerate(sets):
        rows[i, list(own)] = 1
    shared = rows @ rows.T
    sizes = rows.sum(1)
    jaccard = shared / np.maximum(1, sizes[:, None] + sizes[None, :] - shared)
    topic_ids = {t: i for i, t in enumerate(dict.fromkeys(d.topic for d in sample))}
    ids = np.array([topic_ids[d.topic] for d in sample])
    jaccard[ids[:, None] == ids[None, :]] = 0
    return {"highest_jaccard": float(jaccard.max())}
