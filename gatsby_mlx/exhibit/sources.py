"""Who taught it that: the longest passage of a story that stands in the corpus, and the corpus's nearest stories.

The index is made when it is first asked for, in a thread of its own, and kept: nobody's first character waits for it.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx import text
from gatsby_mlx.corpus.load import Corpus, load, locate
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.exhibit.ticket import BusyError

WAITING = 8  # questions that may wait
N_NEAREST = 3
GAP = "\0"  # stands between two stories, and in none


def suffix_array(codes: np.ndarray) -> np.ndarray:
    """Return the starts of all suffixes of `codes` [n] (integers from 0, under 256) in their order, int64 [n].

    Prefix doubling (Manber & Myers 1990, section 3) from the first eight characters on, packed in one integer; each
    round sorts again only what is not yet told apart.
    """
    n = len(codes)
    padded = np.concatenate([codes.astype(np.uint64) + 1, np.zeros(8, np.uint64)])
    keys = np.zeros(n, np.uint64)
    for i in range(8):  # 7 bits would do for ASCII; 8 leave room for another alphabet
        keys = keys << np.uint64(8) | padded[i : n + i]
    order = np.argsort(keys)
    ordered = keys[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    rank = np.empty(n + 1, np.int64)
    rank[n] = -1
    group = np.maximum.accumulate(np.where(first, np.arange(n), 0))  # where the group of equal keys begins
    rank[order] = group
    width = 8
    while not first.all():
        tied = np.flatnonzero(~(first & np.append(first[1:], True)))  # places whose group has more than one
        suffixes = order[tied]
        after = rank[np.minimum(suffixes + width, n)]
        new = np.lexsort((after, group[tied]))
        order[tied] = suffixes = suffixes[new]
        after = after[new]
        begins = np.concatenate([[True], after[1:] != after[:-1]]) | first[tied]
        first[tied] = begins
        group[tied] = np.maximum.accumulate(np.where(begins, tied, 0))
        rank[suffixes] = group[tied]
        width *= 2
    return order


class Passages:
    """Finds where a text's longest passage stands among `stories`."""

    def __init__(self, stories: list[str]):
        self.text = GAP.join(stories)
        self.starts = np.cumsum([0] + [len(s) + 1 for s in stories])
        points = np.frombuffer(self.text.encode("utf-32-le"), np.uint32)
        _, codes = np.unique(points, return_inverse=True)  # in the order of the characters
        if codes.max() > 254:
            raise CorpusError("The corpus has more than 254 different characters", "Serve without --corpus")
        self.order = suffix_array(codes)

    def longest(self, story: str) -> tuple[int, int, int, int]:
        """Return (length, place in `story`, number of the story it stands in, place in that): the first of the longest.

        The length is 0 where not even a character is shared.
        """
        best, here, there = 0, 0, 0
        for begin in range(len(story)):
            if begin + best >= len(story):
                break
            for found in self._neighbours(story[begin:]):
                n = self._common(story, begin, found)
                if n > best:
                    best, here, there = n, begin, found
        number = int(np.searchsorted(self.starts, there, "right")) - 1
        return best, here, number, there - int(self.starts[number])

    def _neighbours(self, wanted: str) -> list[int]:
        """Return the two suffixes between which `wanted` would stand: one of them shares most with it."""
        low, high = 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            begin = int(self.order[middle])
            if self.text[begin : begin + len(wanted)] < wanted:
                low = middle + 1
            else:
                high = middle
        return [int(self.order[i]) for i in (low - 1, low) if 0 <= i < len(self.order)]

    def _common(self, story: str, begin: int, found: int) -> int:
        n = 0
        while begin + n < len(story) and found + n < len(self.text) and story[begin + n] == self.text[found + n] != GAP:
            n += 1
        return n


class Nearest:
    """Ranks `stories` by the words they share with a text, the rare ones first.

    Cosine of tf-idf vectors over word stems, with idf = ln((1 + N) / (1 + df)) + 1 and tf = 1 + ln n (Manning, Raghavan
    & Schuetze 2008, section 6.4).
    """

    def __init__(self, stories: list[str]):
        self.ids: dict[str, int] = {}
        self.stems: dict[str, str] = {}
        rows, columns, counts = [], [], []
        for number, story in enumerate(stories):
            for term, n in self._count(story, True).items():
                rows.append(number)
                columns.append(term)
                counts.append(n)
        self.n = len(stories)
        row, column = np.array(rows), np.array(columns)
        self.idf = np.log((1 + self.n) / (1 + np.bincount(column, minlength=len(self.ids)))) + 1
        weight = (1 + np.log(counts)) * self.idf[column]
        weight /= np.sqrt(np.bincount(row, weight**2, self.n))[row]
        by_term = np.argsort(column, kind="stable")
        self.rows, self.weights = row[by_term], weight[by_term]
        self.begins = np.searchsorted(column[by_term], np.arange(len(self.ids) + 1))

    def _count(self, story: str, new: bool = False) -> dict[int, int]:
        found: dict[int, int] = {}
        for word in text.words(story):
            stem = self.stems.get(word)
            if stem is None:
                stem = text.stem(word)
                if new:
                    self.stems[word] = stem
            term = self.ids.setdefault(stem, len(self.ids)) if new else self.ids.get(stem)
            if term is not None:
                found[term] = found.get(term, 0) + 1
        return found

    def rank(self, story: str) -> list[tuple[int, float]]:
        """Return (number, likeness in 0..1) of the N_NEAREST stories, nearest first; fewer where no word is shared."""
        total, norm = np.zeros(self.n), 0.0
        for term, n in self._count(story).items():
            weight = (1 + np.log(n)) * self.idf[term]
            norm += weight**2
            where = slice(self.begins[term], self.begins[term + 1])
            total[self.rows[where]] += weight * self.weights[where]
        if not norm:
            return []
        best = np.argsort(-total, kind="stable")[:N_NEAREST]
        return [(int(i), float(total[i] / np.sqrt(norm))) for i in best if total[i] > 0]


class Sources:
    """A corpus that can be asked about. `model_sha256` is the one that the model was trained on, where it is known."""

    def __init__(self, folder: Path | None, model_sha256: str | None = None):
        self.folder, self.model_sha256 = folder, model_sha256
        self.exists = folder is not None and locate(folder).is_file()
        self._corpus: Corpus | None = None
        self._thread = ThreadPoolExecutor(1, "sources")
        self._waiting = threading.Semaphore(WAITING)

    def find(self, story: str) -> Future:
        """Return a future of what `_find` returns. Raises BusyError, and CorpusError where there is no corpus."""
        if not self.exists:
            raise CorpusError("There is no corpus to compare with", "Name one with: gatsby serve --corpus DIR")
        if not self._waiting.acquire(blocking=False):
            raise BusyError(5)
        future = self._thread.submit(self._find, story)
        future.add_done_callback(lambda _: self._waiting.release())
        return future

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _find(self, story: str) -> dict[str, Any]:
        if self._corpus is None:
            assert self.folder is not None
            corpus = load(self.folder)
            stories = [d.story for d in corpus.documents]
            self._passages, self._nearest, self._corpus = Passages(stories), Nearest(stories), corpus
        documents = self._corpus.documents

        def about(number: int) -> dict[str, Any]:
            d = documents[number]
            return {"topic": d.topic, "level": d.level, "writer": d.writer}

        n, here, number, there = self._passages.longest(story)
        passage = {"text": story[here : here + n], "begins": here, **about(number), "stands_at": there}
        nearest = [
            {**about(i), "likeness": round(p, 3), "story": documents[i].story} for i, p in self._nearest.rank(story)
        ]
        return {
            "passage": passage if n else None,
            "nearest": nearest,
            "corpus": {
                "stories": len(documents),
                "trained_on": None if not self.model_sha256 else self._corpus.sha256 == self.model_sha256,
            },
        }
