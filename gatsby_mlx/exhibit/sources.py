"""Where a story comes from: its longest passage that is in the corpus, and the most similar stories of the corpus.

The index is built by the first question, in a thread of its own, and then kept. So it delays no story. A corpus of the
house writer that is not on this machine is written again before, in a process of its own.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatsby_mlx import api
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.evaluation.passages import Passages
from gatsby_mlx.exhibit.request import BusyError, LearningError
from gatsby_mlx.story import text

MAX_WAITING = 8  # questions
RETRY_SECONDS = 5
N_NEAREST = 3
NICE = 10  # of the process that writes, so that stories are told at their usual speed

NAME_THEM = "Name them, or others to compare with: gatsby serve --corpus DIR"

# What that process runs: the run resumes where a stopped one was, and leaves the corpus where `api.find_corpus` looks.
WRITE = "import json, sys; from gatsby_mlx import api; run = api.plan_corpus_again(json.loads(sys.argv[1])); list(run)"


class Nearest:
    """Ranks `stories` by the words they share with a text; rare words count more.

    The similarity is the cosine of tf-idf vectors over word stems, with idf = ln((1 + N) / (1 + df)) + 1 and
    tf = 1 + ln n (Manning, Raghavan & Schuetze 2008, section 6.4).
    """

    def __init__(self, stories: Sequence[str]):
        self.term_ids: dict[str, int] = {}
        self._stems: dict[str, str] = {}
        story_of, term_of, counts = [], [], []
        for number, story in enumerate(stories):
            for term, n in self._count_terms(story, learn=True).items():
                story_of.append(number)
                term_of.append(term)
                counts.append(n)
        self.n_stories = len(stories)
        number, term = np.array(story_of, np.int64), np.array(term_of, np.int64)
        self.idf = np.log((1 + self.n_stories) / (1 + np.bincount(term, minlength=len(self.term_ids)))) + 1
        weight = (1 + np.log(counts)) * self.idf[term]
        weight /= np.sqrt(np.bincount(number, weight**2, self.n_stories))[number]
        by_term = np.argsort(term, kind="stable")
        self._numbers, self._weights = number[by_term], weight[by_term]
        self._starts = np.searchsorted(term[by_term], np.arange(len(self.term_ids) + 1))  # of each term's stories

    def _count_terms(self, story: str, learn: bool = False) -> dict[int, int]:
        """Return how often each term is in `story`; with `learn`, new words become terms, else they are left out."""
        counts: dict[int, int] = {}
        for word in text.words(story):
            stem = self._stems.get(word)
            if stem is None:
                stem = text.stem(word)
                if learn:
                    self._stems[word] = stem
            term = self.term_ids.setdefault(stem, len(self.term_ids)) if learn else self.term_ids.get(stem)
            if term is not None:
                counts[term] = counts.get(term, 0) + 1
        return counts

    def rank(self, story: str) -> list[tuple[int, float]]:
        """Return (number, similarity in [0, 1]) of up to N_NEAREST stories that share a word, most similar first."""
        total, norm = np.zeros(self.n_stories), 0.0
        for term, n in self._count_terms(story).items():
            weight = (1 + np.log(n)) * self.idf[term]
            norm += weight**2
            stories = slice(self._starts[term], self._starts[term + 1])
            total[self._numbers[stories]] += weight * self._weights[stories]
        if not norm:
            return []
        best = np.argsort(-total, kind="stable")[:N_NEAREST]
        return [(int(i), float(total[i] / np.sqrt(norm))) for i in best if total[i] > 0]


@dataclass(frozen=True)
class _Index:
    """A corpus with what is needed to search it."""

    corpus: Corpus
    passages: Passages
    nearest: Nearest


def _to_word(story: str, start: int, n: int) -> int:
    """Return how many of the `n` characters from `start` come before the first word that begins there; 0 for none."""
    begins = re.compile(r"(?<![\w'])\w").search(story, start, start + n)
    return begins.start() - start if begins else 0


class Sources:
    """What a model learned from, for visitors who ask.

    `learn` returns the corpus and is called once, by the first question, in a thread of its own; None if the corpus is
    not on this machine. `known` is what the model's config.json says of the corpus that it was trained on: its
    `sha256`, and the recipe `written`. Without `learn`, a corpus with a recipe is written again by the first question,
    which takes minutes.
    """

    def __init__(self, learn: Callable[[], Corpus] | None, known: Mapping[str, Any] | None = None):
        self.known = known or {}
        self.model_sha256: str | None = self.known.get("sha256")
        self.again = learn is None and api.plan_corpus_again(self.known) is not None
        self.learn = self._write if self.again else learn
        self._writer: subprocess.Popen[bytes] | None = None
        self._closing = False
        self._learned: Future[_Index] | None = None
        self._index: _Index | None = None
        self._thread = ThreadPoolExecutor(1, "sources")
        self._waiting = threading.Semaphore(MAX_WAITING)

    @property
    def exists(self) -> bool:
        """Whether there is a corpus to ask about."""
        return self.learn is not None

    def find(self, story: str) -> "Future[dict[str, Any]]":
        """Return a future of what the API's /source answers for `story`.

        Raises BusyError, LearningError while the corpus is written again, and CorpusError where there is no corpus.
        The future raises CorpusError for a corpus that cannot be read.
        """
        if not self.exists:
            message = "The stories that this model learned from are not on this machine"
            raise CorpusError(message, NAME_THEM)
        if self.again:
            self._learn_again()
        if not self._waiting.acquire(blocking=False):
            raise BusyError(RETRY_SECONDS)
        future = self._thread.submit(self._find, story)
        future.add_done_callback(lambda _: self._waiting.release())
        return future

    def close(self) -> None:
        """Stop the thread and what it waits for, and cancel the questions."""
        self._closing = True
        if self._writer:
            with contextlib.suppress(OSError):
                self._writer.terminate()
        self._thread.shutdown(cancel_futures=True)

    def _learn_again(self) -> None:
        """Raise LearningError until the corpus is there, and CorpusError if it cannot be written."""
        self._learned = self._learned or self._thread.submit(self._load)
        if not self._learned.done():
            raise LearningError(RETRY_SECONDS)
        if error := self._learned.exception():
            self._learned = None  # the next question tries again
            raise error

    def _write(self) -> Corpus:
        """Let the house write the corpus again, and return it."""
        command = [sys.executable, "-c", WRITE, json.dumps(self.known)]
        if not self._closing:
            self._writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._writer.pid, NICE)
            self._writer.wait()
        if corpus := api.find_corpus(self.model_sha256):
            return corpus
        raise CorpusError("The stories that this model learned from could not be written again", NAME_THEM)

    def _load(self) -> _Index:
        if self._index is None:
            assert self.learn is not None
            corpus = self.learn()
            stories = [document.story for document in corpus.documents]
            self._index = _Index(corpus, Passages(stories), Nearest(stories))
        return self._index

    def _find(self, story: str) -> dict[str, Any]:
        index = self._load()
        documents = index.corpus.documents

        def origin(number: int) -> dict[str, Any]:
            document = documents[number]
            return {"topic": document.topic, "level": document.level, "writer": document.writer}

        n, start, number, source_start = index.passages.longest(story)
        skip = _to_word(story, start, n)
        n, start, source_start = n - skip, start + skip, source_start + skip
        passage = {"text": story[start : start + n], "begins": start, **origin(number), "stands_at": source_start}
        nearest = [
            {**origin(i), "likeness": round(similarity, 3), "story": documents[i].story}
            for i, similarity in index.nearest.rank(story)
        ]
        known = bool(self.model_sha256)
        return {
            "passage": passage if n else None,
            "nearest": nearest,
            "corpus": {
                "stories": len(documents),
                "trained_on": index.corpus.sha256 == self.model_sha256 if known else None,
            },
        }
