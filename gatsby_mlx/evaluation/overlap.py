"""The longest passage that a story has letter for letter from other texts: what was learnt by heart.

>>> longest_copies(["the cat sat down"], ["a cat sat up", "a dog"]).tolist()
[9]
"""

from collections.abc import Sequence

import numpy as np

LIMIT = 1024  # characters: longer passages than that are not told apart


def longest_copies(stories: Sequence[str], sources: Sequence[str]) -> np.ndarray:
    """Return [n] the length in characters of the longest substring that each story shares with any one source.

    All suffixes of stories and sources are sorted together; the source suffix with which a story's suffix shares most
    stands next to it in that order, before or after. The sort doubles the length compared at each round (Manber and
    Myers 1993, section 3); passages above LIMIT characters may come out shorter than they are, and not under it.
    """
    if not stories:
        return np.zeros(0, np.int64)
    codes, bounds = _joined(stories, sources)
    order = np.argsort(_ranks(codes), kind="stable").astype(np.int32)
    from_source = order < bounds[0]
    place = np.where(from_source, np.arange(len(order), dtype=np.int32), -1)
    before = np.maximum.accumulate(place)
    after = np.where(from_source, np.arange(len(order), dtype=np.int32), len(order))
    after = np.minimum.accumulate(after[::-1])[::-1]
    longest = np.zeros(len(codes), np.int64)
    rows = np.flatnonzero(~from_source)
    for neighbour in (before, after):
        other = neighbour[rows]
        there = (other >= 0) & (other < len(order))
        mine, theirs = order[rows[there]], order[other[there]]
        np.maximum.at(longest, mine, _shared(codes, mine, theirs))
    return np.maximum.reduceat(longest[bounds[0] :], bounds[:-1] - bounds[0])


def _joined(stories: Sequence[str], sources: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return all characters as codes from 3, a 2 after each source and a 1 after each story, and where stories begin.

    The two marks differ, so that no shared passage runs over an end.
    """
    everything = "".join([*sources, *stories])
    points = np.frombuffer(everything.encode("utf-32-le"), np.uint32)
    _, letters = np.unique(points, return_inverse=True)
    lengths = np.array([len(t) for t in [*sources, *stories]])
    ends = np.cumsum(lengths)
    marks = np.repeat([2, 1], [len(sources), len(stories)])
    codes = np.insert(letters.astype(np.int32) + 3, ends, marks)
    begins = np.concatenate([[0], np.cumsum(lengths + 1)])
    return codes, begins[len(sources) :]


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Return the rank of each suffix of `codes` [n], compared over LIMIT characters or more."""
    n, base = len(codes), int(codes.max()) + 1
    width, keys = 1, codes.astype(np.int64)
    while width < n and base ** (width + 1) < 2**63:  # as many characters as a key holds
        keys = keys * base
        keys[: n - width] += codes[width:]
        width += 1
    ranks = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    while width < LIMIT and ranks.max() < n - 1:
        follow = np.zeros(n, np.int64)
        follow[: max(0, n - width)] = ranks[width:] + 1
        ranks = np.unique(ranks * (n + 1) + follow, return_inverse=True)[1].astype(np.int64)
        width *= 2
    return ranks


def _shared(codes: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return [m] how many codes from positions `a` and `b` [m] on are the same."""
    found, live = np.zeros(len(a), np.int64), np.arange(len(a))
    for n in range(LIMIT):
        ends = np.maximum(a[live], b[live]) + n < len(codes)
        live = live[ends]
        live = live[codes[a[live] + n] == codes[b[live] + n]]
        if not len(live):
            break
        found[live] = n + 1
    return found
