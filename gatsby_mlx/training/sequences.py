"""What the model sees in a step: sequences of one story each, or the baseline's random windows.

>>> from gatsby_mlx.story.document import parse
>>> from gatsby_mlx.tokenizer import CharTokenizer
>>> from gatsby_mlx.story.prime import ALPHABET, build
>>> documents = parse(build("a cat", 1) + "A cat sat.\\n\\n")
>>> sequences = StorySequences(documents, CharTokenizer(ALPHABET), block_size=1024, micro_chars=2048, seed=1)
>>> sequences.micro_batch(0).ids.shape
(16, 128)
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gatsby_mlx.errors import TrainingError
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document, render, topics_of
from gatsby_mlx.story.english import counted
from gatsby_mlx.story.prime import END
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.augment import WordSubstitution

BUCKET = 64  # sequences are padded to a multiple of this, so there are few shapes to compile
MORE_HINT = "Write more stories: gatsby write --n 400 --out DIR"


@dataclass(frozen=True)
class MicroBatch:
    """Arrays [B, T]: `ids` and `targets` (int32), and two masks (float32).

    `weights` is 1 where a target counts and 0 on padding. `story` is 1 where the target belongs to the story or is its
    end token, and 0 in the prime and on padding.
    """

    ids: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    story: np.ndarray

    @property
    def n_targets(self) -> int:
        """The number of targets that count."""
        return int(self.weights.sum())

    @property
    def n_story(self) -> float:
        """The number of targets that belong to a story or are its end token."""
        return float(self.story.sum())


@dataclass(frozen=True)
class Split:
    """Documents for training and for validation, and the text of each side."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    train_text: str
    validation_text: str


def split(documents: Sequence[Document], how: str, fraction: float = 0.1, seed: int = 1925) -> Split:
    """Split `documents` by `how`: "topic" (see `split_by_topic`), or "tail", the last tenth of the characters.

    With "topic", documents that came with a split keep it (see `given_split`).

    "tail" is what the baseline does. It cuts a story in two, and its sides share topics, so use it only to compare with
    the baseline's figures. Raises TrainingError when one side would be empty.
    """
    if how == "topic":
        train, validation = given_split(documents) or split_by_topic(documents, fraction, seed)
        return Split(train, validation, render(train), render(validation))
    everything = render(documents)
    cut = int(len(everything) * (1 - fraction))
    ends = np.cumsum([len(d.text) for d in documents])
    train = tuple(d for d, end in zip(documents, ends, strict=True) if end <= cut)
    validation = tuple(d for d, end in zip(documents, ends, strict=True) if end - len(d.text) >= cut)
    if not train or not validation:
        raise _too_small(documents)
    return Split(train, validation, everything[:cut], everything[cut:])


def given_split(documents: Sequence[Document]) -> tuple[tuple[Document, ...], tuple[Document, ...]] | None:
    """Return the training and validation documents of a corpus that came split, or None if it did not.

    Without a validation split the test split is used for it; with one, nothing is trained or validated on the test
    split. None as well if either side would be empty.
    """
    splits = {d.split for d in documents}
    held_out = "validation" if "validation" in splits else "test"
    train = tuple(d for d in documents if d.split not in ("validation", "test"))
    validation = tuple(d for d in documents if d.split == held_out)
    return (train, validation) if train and validation else None


def _too_small(documents: Sequence[Document]) -> TrainingError:
    stories, topics = counted(len(documents), "story"), counted(len(topics_of(documents)), "topic")
    return TrainingError(f"A corpus of {stories} on {topics} is too small to split", MORE_HINT)


def _too_near(documents: Sequence[Document], sizes: Counter[int], group_of: Mapping[str, int]) -> TrainingError:
    """Return the error for topics so alike that no part of them can be held out."""
    largest = max(sizes, key=sizes.__getitem__)
    alike = [topic for topic in topics_of(documents) if group_of[topic] == largest]
    share = f"{sizes[largest]:,} of {len(documents):,} stories"
    message = (
        f"{share} are on topics that share half of their words or more ({alike[0]!r}, {alike[-1]!r}), "
        "so no topic can be held out for validation"
    )
    hint = "Name more different things in the topics, add stories on other topics, or let the topics be read from "
    return TrainingError(message, hint + "the stories: gatsby corpus import SOURCE --fields topic= --out DIR")


def split_by_topic(
    documents: Sequence[Document], fraction: float, seed: int
) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
    """Split `documents` into training and validation so that no topic, or near-duplicate of one, is on both sides.

    Topics that share half or more of their content stems (Jaccard index) form a group. Groups are drawn in random order
    until `fraction` of the documents is in validation, without those that would make it more than twice that. Raises
    TrainingError when one side would be empty.
    """
    group_of = _topic_groups(topics_of(documents))
    sizes = Counter(group_of[d.topic] for d in documents)
    names = sorted(sizes)
    n_validation, chosen = 0, set()
    for i in np.random.Generator(np.random.Philox(seed)).permutation(len(names)):
        with_it = n_validation + sizes[names[i]]
        if n_validation < fraction * len(documents) and with_it <= max(2, 2 * fraction * len(documents)):
            chosen.add(names[i])
            n_validation = with_it
    if not 0 < n_validation < len(documents):
        clump = len(topics_of(documents)) > 2 and max(sizes.values()) > (1 - fraction) * len(documents)
        raise _too_near(documents, sizes, group_of) if clump else _too_small(documents)
    train = tuple(d for d in documents if group_of[d.topic] not in chosen)
    return train, tuple(d for d in documents if group_of[d.topic] in chosen)


def _topic_groups(topics: Sequence[str]) -> dict[str, int]:
    """Return the group number of each topic; topics that share half or more of their content stems have the same."""
    stems = [frozenset(map(text.stem, text.content_words(t))) or frozenset([t]) for t in topics]
    parent = list(range(len(topics)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    holders = defaultdict(list)
    for i, mine in enumerate(stems):
        for j in sorted({j for s in mine for j in holders[s]}):
            if 2 * len(mine & stems[j]) >= len(mine | stems[j]):
                parent[root(i)] = root(j)
        for s in mine:
            holders[s].append(i)
    return {t: root(i) for i, t in enumerate(topics)}


class StorySequences:
    """Sequences of one document each, from its first character. The target after the blank line is the end token.

    A document longer than `block_size` is cut and has no end target. A micro-batch holds sequences of similar length,
    about `micro_chars` characters with the padding, and micro-batch k is the same at every call. A `substitution`
    replaces topic words in some of the training sequences (see `augment`), never in those of `all`. Raises
    TrainingError without documents.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        tokenizer: CharTokenizer,
        block_size: int,
        micro_chars: int,
        seed: int,
        substitution: WordSubstitution | None = None,
    ):
        if not documents:
            raise TrainingError("There are no stories to train on")
        self.documents, self.tokenizer, self.substitution = documents, tokenizer, substitution
        self.encoded = [self._encode(d.text, block_size) for d in documents]  # [T + 1] each: ids and last target
        self.header_lengths = [len(d.header) for d in documents]
        self.block_size, self.micro_chars, self.seed = block_size, micro_chars, seed
        self._latest: tuple[int, list[tuple[int, list[int]]]] = (-1, [])  # an epoch number and its order

    def _encode(self, text: str, block_size: int) -> np.ndarray:
        return np.array(self.tokenizer.encode(text + END)[: block_size + 1], np.int32)

    @cached_property
    def _widths(self) -> list[int]:
        return [min(self.block_size, -(-(len(s) - 1) // BUCKET) * BUCKET) for s in self.encoded]

    def epoch(self, number: int) -> list[tuple[int, list[int]]]:
        """Return epoch `number`: micro-batches as (width, document indices), in the order of training.

        Each document is in it once. Sequences that do not fill a batch of their width move to the next width, and the
        last batch of the widest is filled with empty sequences, so each width has one shape. Every epoch has the same
        number of batches. They come in pairs of similar width, because the workers of a step wait for each other. With
        an odd number, the one without a partner is last in an even epoch and first in an odd one.
        """
        if self._latest[0] != number:
            self._latest = number, self._order(number)
        return self._latest[1]

    def _order(self, number: int) -> list[tuple[int, list[int]]]:
        draws = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        by_width, batches, left = defaultdict(list), [], []
        for i in draws.permutation(len(self.encoded)):
            by_width[self._widths[i]].append(int(i))
        for width in sorted(by_width):
            indices = left + by_width[width]
            size = max(1, self.micro_chars // width)
            full = len(indices) - len(indices) % size
            batches += [(width, indices[i : i + size]) for i in range(0, full, size)]
            left = indices[full:]
        if left:
            batches.append((max(by_width), left))
        n_pairs, odd = divmod(len(batches), 2)
        order = [batches[i] for pair in draws.permutation(n_pairs) for i in (2 * pair, 2 * pair + 1)]
        single = batches[-1:] if odd else []
        return single + order if number % 2 else order + single

    @cached_property
    def n_batches(self) -> int:
        """The number of micro-batches in an epoch."""
        return len(self._order(0))

    def micro_batch(self, k: int) -> MicroBatch:
        """Return micro-batch `k` (0 or more) of training without an end, epoch after epoch."""
        number, position = divmod(k, self.n_batches)
        width, indices = self.epoch(number)[position]
        if not self.substitution:
            return self._pad(width, indices)
        texts = (self.substitution.text(self.documents[i], number * len(self.documents) + i) for i in indices)
        return self._pad(width, indices, [self._encode(t, self.block_size) for t in texts])

    def all(self) -> list[MicroBatch]:
        """Return every sequence once, in random order, for evaluation."""
        return [self._pad(width, indices) for width, indices in self._order(0)]

    def _pad(self, width: int, indices: list[int], encoded: list[np.ndarray] | None = None) -> MicroBatch:
        B = max(1, self.micro_chars // width)
        ids, targets = np.zeros((B, width), np.int32), np.zeros((B, width), np.int32)
        weights, story = np.zeros((B, width), np.float32), np.zeros((B, width), np.float32)
        for b, i in enumerate(indices):
            sequence = encoded[b] if encoded else self.encoded[i]
            n = len(sequence) - 1
            ids[b, :n], targets[b, :n], weights[b, :n] = sequence[:-1], sequence[1:], 1
            story[b, self.header_lengths[i] - 1 : n] = 1
        return MicroBatch(ids, targets, weights, story)


class WindowSequences:
    """The baseline's sequences: windows of `block_size` characters that begin anywhere in `text`.

    Raises TrainingError when the text does not fill a window.
    """

    def __init__(self, text: str, tokenizer: CharTokenizer, block_size: int, micro_chars: int, seed: int):
        self.data = np.array(tokenizer.encode(text), np.int32)
        if len(self.data) <= block_size + 1:
            raise TrainingError(f"{len(self.data)} characters do not fill a window of {block_size}", MORE_HINT)
        self.block_size, self.n_windows, self.seed = block_size, max(1, micro_chars // block_size), seed

    def micro_batch(self, k: int) -> MicroBatch:
        """Return micro-batch `k` (0 or more). Its windows depend only on `k` and the seed."""
        draws = np.random.Generator(np.random.Philox(key=[self.seed, k]))
        return self._windows(draws.integers(0, len(self.data) - self.block_size, self.n_windows))

    def all(self, n: int = 32) -> list[MicroBatch]:
        """Return `n` micro-batches of windows, spread evenly over the text, for evaluation."""
        starts = np.linspace(0, len(self.data) - self.block_size - 1, n * self.n_windows).astype(int)
        return [self._windows(s) for s in starts.reshape(n, self.n_windows)]

    def _windows(self, starts: np.ndarray) -> MicroBatch:
        windows = self.data[starts[:, None] + np.arange(self.block_size + 1)]
        ones = np.ones((len(starts), self.block_size), np.float32)
        return MicroBatch(windows[:, :-1], windows[:, 1:], ones, np.zeros_like(ones))


TrainingSequences = StorySequences | WindowSequences
