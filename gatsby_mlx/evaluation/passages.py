"""The longest passage that a story shares, letter for letter, with other texts: what a model memorized.

>>> longest_copies(["the cat sat down"], ["a cat sat up", "a dog"]).tolist()
[9]
>>> Passages(["a cat sat up", "a dog"]).longest("the cat sat down")
Passage(length=9, start=3, source=0, source_start=1)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

GAP = "\0"  # separates two sources, and is in none


class Passage(NamedTuple):
    """A passage of `length` characters: at `start` in a story, and at `source_start` in source number `source`."""

    length: int
    start: int
    source: int
    source_start: int


class Passages:
    """An index of `sources` that finds the longest passage a story shares with any of them."""

    def __init__(self, sources: Sequence[str]):
        self.text = GAP.join(sources)
        self.starts = np.cumsum([0] + [len(s) + 1 for s in sources])
        self.order = suffix_array(_codes(self.text))

    def longest(self, story: str) -> Passage:
        """Return the first of the longest shared passages; its length is 0 if not even a character is shared."""
        best, start, match = 0, 0, 0
        for i in range(len(story)):
            if i + best >= len(story):
                break
            for position in self._neighbors(story[i:]):
                n = self._common(story, i, position)
                if n > best:
                    best, start, match = n, i, position
        source = int(np.searchsorted(self.starts, match, "right")) - 1
        return Passage(best, start, source, match - int(self.starts[source]))

    def _neighbors(self, wanted: str) -> list[int]:
        """Return the suffixes just before and after `wanted` in sorted order: one of them shares most with it."""
        low, high = 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            start = int(self.order[middle])
            if self.text[start : start + len(wanted)] < wanted:
                low = middle + 1
            else:
                high = middle
        return [int(self.order[i]) for i in (low - 1, low) if 0 <= i < len(self.order)]

    def _common(self, story: str, start: int, position: int) -> int:
        """Return how many characters from `start` in `story` and from `position` in the sources are the same."""
        n, limit = 0, min(len(story) - start, len(self.text) - position)
        while n < limit and story[start + n] == self.text[position + n] != GAP:
            n += 1
        return n


def longest_copies(stories: Sequence[str], sources: Sequence[str]) -> np.ndarray:
    """Return [n] int64, the length in characters of the longest passage that each story shares with any one source.

    The lengths are those of `Passages(sources).longest`, for many stories at once: the suffixes of stories and sources
    are sorted together, and the source suffix that shares most with a story's suffix is the nearest one before or
    after it in that order.
    """
    if not stories:
        return np.zeros(0, np.int64)
    codes, starts = _joined(stories, sources)
    order = suffix_array(codes)
    from_source = order < starts[0]
    index = np.arange(len(order))
    before = np.maximum.accumulate(np.where(from_source, index, -1))
    after = np.minimum.accumulate(np.where(from_source, index, len(order))[::-1])[::-1]
    longest = np.zeros(len(codes), np.int64)
    keys, width = _packed(codes)
    of_stories = np.flatnonzero(~from_source)
    for neighbor in (before, after):
        other = neighbor[of_stories]
        exists = (other >= 0) & (other < len(order))
        mine, theirs = order[of_stories[exists]], order[other[exists]]
        longest[mine] = np.maximum(longest[mine], _shared(codes, keys, width, mine, theirs))
    return np.maximum.reduceat(longest[starts[0] :], starts[:-1] - starts[0])


def suffix_array(codes: np.ndarray) -> np.ndarray:
    """Return the starts of all suffixes of `codes` [n] (integers from 0) in sorted order, int64 [n].

    Prefix doubling (Manber and Myers 1993, section 3), which starts from as many codes as fit in one integer; each
    round sorts only the suffixes that are still tied.
    """
    n = len(codes)
    if not n:
        return np.zeros(0, np.int64)
    keys, width = _packed(codes)
    order = np.argsort(keys)
    ordered = keys[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    rank = np.empty(n + 1, np.int64)
    rank[n] = -1
    group = np.maximum.accumulate(np.where(first, np.arange(n), 0))  # where the group of equal keys starts
    rank[order] = group
    while not first.all():
        tied = np.flatnonzero(~(first & np.append(first[1:], True)))  # positions in groups of more than one
        suffixes = order[tied]
        after = rank[np.minimum(suffixes + width, n)]
        new = np.lexsort((after, group[tied]))
        order[tied] = suffixes = suffixes[new]
        after = after[new]
        starts = np.concatenate([[True], after[1:] != after[:-1]]) | first[tied]
        first[tied] = starts
        group[tied] = np.maximum.accumulate(np.where(starts, tied, 0))
        rank[suffixes] = group[tied]
        width *= 2
    return order


def _codes(text: str) -> np.ndarray:
    """Return the characters of `text` as integers from 0, in the order of the characters."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return np.unique(points, return_inverse=True)[1]


def _joined(stories: Sequence[str], sources: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of sources and stories, one after another, and where each story starts (and the last one ends).

    A source ends in a 1 and a story in a 0. The two marks differ, so that no shared passage crosses an end.
    """
    lengths = np.array([len(t) for t in [*sources, *stories]])
    marks = np.repeat([1, 0], [len(sources), len(stories)])
    codes = np.insert(_codes("".join([*sources, *stories])) + 2, np.cumsum(lengths), marks)
    starts = np.concatenate([[0], np.cumsum(lengths + 1)])
    return codes, starts[len(sources) :]


def _packed(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a key [n] uint64 of the first `width` codes of each suffix, and that width. Keys sort as the codes do."""
    n, bits = len(codes), (int(codes.max()) + 1).bit_length()
    width = 64 // bits
    padded = np.concatenate([codes.astype(np.uint64) + 1, np.zeros(width, np.uint64)])  # 0: after the end
    keys = np.zeros(n, np.uint64)
    for i in range(width):
        keys = keys << np.uint64(bits) | padded[i : n + i]
    return keys, width


def _shared(codes: np.ndarray, keys: np.ndarray, width: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return [m] how many codes from positions `a` and from positions `b` [m] on are the same.

    Positions `a` are in stories and `b` in sources, so that their marks stop the comparison before the end.
    """
    length, live = np.zeros(len(a), np.int64), np.arange(len(a))
    while len(live):  # `width` codes at a time
        at = length[live]
        live = live[keys[a[live] + at] == keys[b[live] + at]]
        length[live] += width
    live = np.arange(len(a))
    while len(live):  # then one by one
        at = length[live]
        live = live[codes[a[live] + at] == codes[b[live] + at]]
        length[live] += 1
    return length
