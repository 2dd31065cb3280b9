"""What the model sees in a step: rows of one whole story each, or the seed's random windows.

>>> from gatsby_mlx.corpus.document import parse
>>> from gatsby_mlx.tokenizer import CharTokenizer
>>> from gatsby_mlx.prime import ALPHABET, build
>>> rows = StoryRows(parse(build("a cat", 1) + "A cat sat.\\n\\n"), CharTokenizer(ALPHABET), 1024, 2048, seed=1)
>>> rows.micro_batch(0).ids.shape
(16, 128)
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gatsby_mlx import text
from gatsby_mlx.corpus.document import Document, render, topics_of
from gatsby_mlx.errors import TrainingError
from gatsby_mlx.prime import END
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.swap import Swapper

BUCKET = 64  # rows are padded to a multiple of this, so that there are few shapes to compile
MORE = "Write more stories: gatsby write --n 400 --out DIR"


@dataclass(frozen=True)
class MicroBatch:
    """Arrays [B, T]: ids and targets (int32), weights (float32; 1 where a target counts, 0 on padding), and `story`
    (float32; 1 where the target belongs to the story or its end, 0 in the prime and on padding)."""

    ids: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    story: np.ndarray

    @property
    def n_targets(self) -> int:
        return int(self.weights.sum())


@dataclass(frozen=True)
class Split:
    """Documents to learn from and documents to be judged by, and the running text of each side."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    train_text: str
    validation_text: str


def split(documents: Sequence[Document], how: str, fraction: float = 0.1, seed: int = 1925) -> Split:
    """Part `documents` by `how`: "topic" (see `split_by_topic`) or "tail", the seed's last tenth of the characters.

    The tail cuts a story in two and shares topics with training: it is there to compare with the seed's figures only.
    Raises TrainingError when one side would be empty.
    """
    if how == "topic":
        train, validation = split_by_topic(documents, fraction, seed)
        return Split(train, validation, render(train), render(validation))
    running = render(documents)
    cut = int(len(running) * (1 - fraction))
    ends = np.cumsum([len(d.text) for d in documents])
    train = tuple(d for d, end in zip(documents, ends, strict=True) if end <= cut)
    validation = tuple(d for d, end in zip(documents, ends, strict=True) if end - len(d.text) >= cut)
    if not train or not validation:
        raise _too_small(documents)
    return Split(train, validation, running[:cut], running[cut:])


def _too_small(documents: Sequence[Document]) -> TrainingError:
    told = f"A corpus of {len(documents)} stories on {len(topics_of(documents))} topics is too small to split"
    return TrainingError(told, MORE)


def split_by_topic(
    documents: Sequence[Document], fraction: float, seed: int
) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
    """Part `documents` so that no topic, nor a near-duplicate of one, stands on both sides.

    Topics that share half or more of their content stems (Jaccard index) go together. Groups are drawn in random order
    until `fraction` of the documents is in validation; one that would make it more than twice that is passed over.
    """
    group_of = _topic_groups(topics_of(documents))
    sizes = Counter(group_of[d.topic] for d in documents)
    names = sorted(sizes)
    held, chosen = 0, set()
    for i in np.random.Generator(np.random.Philox(seed)).permutation(len(names)):
        if held < fraction * len(documents) and held + sizes[names[i]] <= max(2, 2 * fraction * len(documents)):
            chosen.add(names[i])
            held += sizes[names[i]]
    if not 0 < held < len(documents):
        raise _too_small(documents)
    train = tuple(d for d in documents if group_of[d.topic] not in chosen)
    return train, tuple(d for d in documents if group_of[d.topic] in chosen)


def _topic_groups(topics: Sequence[str]) -> dict[str, int]:
    """Number the groups of near-duplicate topics: joined where they share half or more of their content stems."""
    stems = [frozenset(map(text.stem, text.content_words(t))) or frozenset([t]) for t in topics]
    parent = list(range(len(topics)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    holders = defaultdict(list)
    for i, own in enumerate(stems):
        for j in sorted({j for s in own for j in holders[s]}):
            if 2 * len(own & stems[j]) >= len(own | stems[j]):
                parent[root(i)] = root(j)
        for s in own:
            holders[s].append(i)
    return {t: root(i) for i, t in enumerate(topics)}


class StoryRows:
    """Rows of one document each, from its first character; the target after its blank line is the end token.

    A document longer than `block_size` is cut and has no end target. Micro-batches hold rows of like length, about
    `micro_chars` characters with the padding. Batch k is the same whenever it is asked for. A `swapper` makes up topic
    words in some of the rows that are trained on (see `swap`), never in those of `all`.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        tokenizer: CharTokenizer,
        block_size: int,
        micro_chars: int,
        seed: int,
        swapper: Swapper | None = None,
    ):
        if not documents:
            raise TrainingError("There are no stories to train on")
        self.documents, self.tokenizer, self.swapper = documents, tokenizer, swapper
        self.rows = [self._row(d.text, block_size) for d in documents]
        self.headers = [len(d.header) for d in documents]
        self.block_size, self.micro_chars, self.seed = block_size, micro_chars, seed
        self._latest: tuple[int, list[tuple[int, list[int]]]] = (-1, [])

    def _row(self, text: str, block_size: int) -> np.ndarray:
        return np.array(self.tokenizer.encode(text + END)[: block_size + 1], np.int32)

    @cached_property
    def _widths(self) -> list[int]:
        return [min(self.block_size, -(-(len(r) - 1) // BUCKET) * BUCKET) for r in self.rows]

    def epoch(self, number: int) -> list[tuple[int, list[int]]]:
        """Return pass `number` over all rows: micro-batches as (width, row numbers) in the order of training.

        Each row stands in it once. Rows that do not fill a batch of their width go up to the next; the last of the
        widest is filled with empty rows, so that a width has one shape. Every pass has as many batches. Two and two are
        neighbours in width, for the workers of a step wait for each other; one that is left over ends an even pass and
        begins an odd one.
        """
        if self._latest[0] != number:
            self._latest = number, self._order(number)
        return self._latest[1]

    def _order(self, number: int) -> list[tuple[int, list[int]]]:
        draws = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        by_width, batches, left = defaultdict(list), [], []
        for i in draws.permutation(len(self.rows)):
            by_width[self._widths[i]].append(int(i))
        for width in sorted(by_width):
            own = left + by_width[width]
            size = max(1, self.micro_chars // width)
            full = len(own) - len(own) % size
            batches += [(width, own[i : i + size]) for i in range(0, full, size)]
            left = own[full:]
        if left:
            batches.append((max(by_width), left))
        n_pairs, odd = divmod(len(batches), 2)
        order = [batches[i] for pair in draws.permutation(n_pairs) for i in (2 * pair, 2 * pair + 1)]
        single = batches[-1:] if odd else []
        return single + order if number % 2 else order + single

    @cached_property
    def n_batches(self) -> int:
        return len(self._order(0))

    def micro_batch(self, k: int) -> MicroBatch:
        """Return micro-batch `k` of endless training, pass after pass."""
        number, place = divmod(k, self.n_batches)
        width, numbers = self.epoch(number)[place]
        if not self.swapper:
            return self._pad(width, numbers)
        texts = (self.swapper.text(self.documents[i], number * len(self.rows) + i) for i in numbers)
        return self._pad(width, numbers, [self._row(t, self.block_size) for t in texts])

    def all(self) -> list[MicroBatch]:
        """Return every row once, for evaluation."""
        return [self._pad(width, numbers) for width, numbers in self._order(0)]

    def _pad(self, width: int, numbers: list[int], rows: list[np.ndarray] | None = None) -> MicroBatch:
        B = max(1, self.micro_chars // width)
        ids, targets = np.zeros((B, width), np.int32), np.zeros((B, width), np.int32)
        weights, story = np.zeros((B, width), np.float32), np.zeros((B, width), np.float32)
        for b, i in enumerate(numbers):
            row = rows[b] if rows else self.rows[i]
            n = len(row) - 1
            ids[b, :n], targets[b, :n], weights[b, :n] = row[:-1], row[1:], 1
            story[b, self.headers[i] - 1 : n] = 1
        return MicroBatch(ids, targets, weights, story)


class WindowRows:
    """The seed's rows: windows of `block_size` characters that begin anywhere in the running text."""

    def __init__(self, running: str, tokenizer: CharTokenizer, block_size: int, micro_chars: int, seed: int):
        self.data = np.array(tokenizer.encode(running), np.int32)
        if len(self.data) <= block_size + 1:
            raise TrainingError(f"{len(self.data)} characters do not fill a window of {block_size}", MORE)
        self.block_size, self.n_rows, self.seed = block_size, max(1, micro_chars // block_size), seed

    def micro_batch(self, k: int) -> MicroBatch:
        """Return micro-batch `k`: its windows are drawn from a stream of its own."""
        draws = np.random.Generator(np.random.Philox(key=[self.seed, k]))
        return self._windows(draws.integers(0, len(self.data) - self.block_size, self.n_rows))

    def all(self, n: int = 32) -> list[MicroBatch]:
        """Return `n` micro-batches of windows spread evenly over the text, for evaluation."""
        starts = np.linspace(0, len(self.data) - self.block_size - 1, n * self.n_rows).astype(int)
        return [self._windows(s) for s in starts.reshape(n, self.n_rows)]

    def _windows(self, starts: np.ndarray) -> MicroBatch:
        windows = self.data[starts[:, None] + np.arange(self.block_size + 1)]
        ones = np.ones((len(starts), self.block_size), np.float32)
        return MicroBatch(windows[:, :-1], windows[:, 1:], ones, np.zeros_like(ones))
