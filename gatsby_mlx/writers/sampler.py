"""Draw the next token of every story in a batch: one sampler for all rows, with one draw a story from its own seed.

Each step reads one array back from the device: the tokens, and whether the shortlist of each row was long enough. The
guides take the tokens and answer for the next step, so that the work on the text needs nothing more from the device.

mlx-lm calls a sampler once a step if all rows share it, without saying which rows these are. It calls each row's
logits processors before that, in the order of the rows: `Row` notes the order and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from gatsby_mlx.writers.base import Guided
from gatsby_mlx.writers.guide import Answer, Guide
from gatsby_mlx.writers.masks import Vocabulary

if TYPE_CHECKING:
    import mlx.core as mx

BLOCK = 32  # tokens whose highest stands for all
BLOCKS = 64  # that are looked at, so the shortlist has 2,048 tokens


@dataclass(eq=False)
class Row:
    """One story of the batch: its draws, and its guide if it has one. It is the story's logits processor, too."""

    sampler: "Sampler"
    random: Random
    guide: Guide | None = None
    stuck: bool = False  # no token was allowed
    ended: bool = False
    _answer: Answer | None = field(default=None, repr=False)

    def guided(self) -> Guided | None:
        """Return what the guide did."""
        counts = self.guide and self.guide.counts
        return counts and Guided(counts.forced, counts.leaned, counts.opened)

    def __call__(self, tokens: "mx.array", logits: "mx.array") -> "mx.array":
        self.sampler.rows.append(self)
        return logits


class Sampler:
    """Maps log-probabilities (B, V) to tokens (B,). `temp` 0 is greedy. As in mlx-lm, top-p comes before temperature.

    The draw inverts the cumulative distribution at one uniform number a token (Devroye, Non-Uniform Random Variate
    Generation, 1986, section III.2), from the row's own stream: a story does not depend on its neighbors.
    """

    def __init__(self, temp: float, top_p: float, vocabulary: Vocabulary | None = None):
        self.temp, self.top_p, self.vocabulary = temp, top_p, vocabulary
        self.rows: list[Row] = []

    def row(self, seed: int, guide: Guide | None = None) -> Row:
        """Return a new row: its logits processor, with its own draws."""
        return Row(self, Random(seed), guide)

    def __call__(self, logprobs: "mx.array") -> "mx.array":
        import mlx.core as mx

        rows, self.rows = self.rows, []
        logprobs = logprobs.astype(mx.float32)
        if any(row.guide for row in rows):
            logprobs = logprobs + mx.array(np.stack([self._mask(row, logprobs.shape[-1]) for row in rows]))
        draws = [row.random.random() for row in rows]
        tokens = draw(logprobs, self.temp, self.top_p, draws)
        for row, token in zip(rows, tokens, strict=True):
            self._feed(row, token)
        return mx.array(tokens, dtype=mx.uint32)

    def _mask(self, row: Row, size: int) -> np.ndarray:
        """Return the mask (V,) of a row; without a token that is allowed the story ends as stuck."""
        if row.guide is None or self.vocabulary is None:
            return np.zeros(size, np.float32)
        if row.ended:  # mlx-lm is one step ahead: it draws once more after the end
            return self.vocabulary.mask(Answer(end="now"))
        row._answer = row.guide.answer()
        mask = self.vocabulary.mask(row._answer)
        if not np.isfinite(mask).any():
            row.stuck = True
            row._answer = Answer(end="now")
            mask = self.vocabulary.mask(row._answer)
        return mask

    def _feed(self, row: Row, token: int) -> None:
        if row.guide is None or self.vocabulary is None or row._answer is None or row.ended:
            return
        row.ended = token in self.vocabulary.end
        row.guide.feed(self.vocabulary.pieces[token])


def draw(logprobs: "mx.array", temp: float, top_p: float, draws: Sequence[float]) -> list[int]:
    """Return a token for each row of `logprobs` (B, V), at the numbers `draws` (B values in [0, 1)).

    The nucleus is exact and the vocabulary is not sorted: only the tokens of the blocks with the highest maxima are.
    A token outside them is no more likely than the lowest of these maxima, so a nucleus that ends above that is whole.
    Where it does not, the row is sorted in full.
    """
    import mlx.core as mx

    if temp == 0:
        return _ints(mx.argmax(logprobs, axis=-1))
    logprobs = logprobs - mx.max(logprobs, axis=-1, keepdims=True)
    points = mx.array(list(draws), dtype=mx.float32)[:, None]
    n_rows, size = logprobs.shape
    if size <= BLOCK * BLOCKS:
        return _ints(_nucleus(logprobs, mx.argsort(-logprobs, axis=-1), temp, top_p, points)[0])
    n_blocks = -(-size // BLOCK)
    padded = mx.pad(logprobs, [(0, 0), (0, n_blocks * BLOCK - size)], constant_values=-float("inf"))
    highest = mx.max(padded.reshape(n_rows, n_blocks, BLOCK), axis=-1)
    top = mx.argpartition(-highest, BLOCKS - 1, axis=-1)[:, :BLOCKS]
    lowest = mx.min(mx.take_along_axis(highest, top, axis=-1), axis=-1)
    ids = (top[:, :, None] * BLOCK + mx.arange(BLOCK)[None, None, :]).reshape(n_rows, -1)
    values = mx.take_along_axis(padded, ids, axis=-1)
    order = mx.argsort(-values, axis=-1)
    total = mx.sum(mx.exp(logprobs), axis=-1, keepdims=True)
    ids = mx.take_along_axis(ids, order, axis=-1)
    tokens, end = _nucleus(padded, ids, temp, top_p, points, total)
    whole = end >= lowest
    read: Any = mx.stack([tokens.astype(mx.int32), whole.astype(mx.int32)]).tolist()
    out = read[0]
    for i in (i for i, ok in enumerate(read[1]) if not ok):
        row = logprobs[i : i + 1]
        (out[i],) = _ints(_nucleus(row, mx.argsort(-row, axis=-1), temp, top_p, points[i : i + 1])[0])
    return out


def _nucleus(
    logprobs: "mx.array", ids: "mx.array", temp: float, top_p: float, points: "mx.array", total: Any = None
) -> tuple["mx.array", "mx.array"]:
    """Return tokens (B,) out of the nucleus of `ids` (B, K), sorted by likelihood, and where each nucleus ends (B,).

    The nucleus is the fewest most likely tokens with a share of `top_p` of `total` (B, 1). It ends at the
    log-probability of its last token; -inf if the `ids` have too small a share.
    """
    import mlx.core as mx

    values = mx.take_along_axis(logprobs, ids, axis=-1)
    p = mx.exp(values)
    sums = mx.cumsum(p, axis=-1)
    need = top_p * (mx.sum(p, axis=-1, keepdims=True) if total is None else total)
    inside = (sums - p < need) & (values > -float("inf"))
    inside = inside | (mx.arange(values.shape[-1])[None, :] == 0)
    weights = mx.where(inside, mx.exp(values / temp), 0.0)
    cumulative = mx.cumsum(weights, axis=-1)
    last = mx.sum(inside, axis=-1, keepdims=True) - 1
    index = mx.sum(cumulative < points * cumulative[:, -1:], axis=-1, keepdims=True)
    tokens = mx.take_along_axis(ids, mx.minimum(index, last), axis=-1)[:, 0]
    end = mx.take_along_axis(values, last, axis=-1)[:, 0]
    enough = mx.take_along_axis(sums, last, axis=-1)[:, 0] >= need[:, 0]
    return tokens, mx.where(enough, end, -float("inf"))


def _ints(tokens: "mx.array") -> list[int]:
    read: Any = tokens.tolist()
    return read
