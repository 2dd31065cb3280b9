"""Two readings of the model's own mind: how near the light is, and which characters the dial pulls at."""

import re
from collections.abc import Iterator, Mapping

import mlx.core as mx
import numpy as np

from gatsby_mlx import prime, text
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.model.slots import Slots
from gatsby_mlx.tokenizer import CharTokenizer

SPELLINGS = ("green light", "Green light")
FLOOR = 0.01  # where the first letter alone is less likely than this, the words are, and the reading is 0
T_MOST = max(map(len, SPELLINGS)) - 1  # positions that a reading looks ahead
PIECE = 128  # characters of a long text that go through the model at a time
# Where a word may begin: after white space, or after an opening quote that follows it.
_WORD_BEGINS = re.compile(r"""(?:\A|\s)["'(]?\Z""")
_GREEN = re.compile(r"(?:\A|[^A-Za-z'])green\s\Z", re.IGNORECASE)


def word_begins(story: str) -> bool:
    """Tell whether a word may begin after `story`; only there is the light read.

    >>> word_begins("He saw a "), word_begins("He sa"), word_begins("")
    (True, False, True)
    """
    return bool(_WORD_BEGINS.search(story[-2:]))


def what_is_missing(story: str) -> tuple[str, ...]:
    """Return what would make the words "green light" come next: both words, or after "green " the second one."""
    return ("light",) if _GREEN.search(story[-8:]) else SPELLINGS


def nearness(slots: Slots, tokenizer: CharTokenizer, stories: Mapping[int, str]) -> dict[int, float]:
    """Return, for each row of `slots`, the probability in [0, 1] that "green light" comes next in its story.

    `stories` holds each row's text so far, or its last few characters, at a place where a word may begin. The
    probability is the product over the characters, at temperature 1, summed over the two spellings; 0 where the first
    letter alone is under FLOOR, and where fewer positions are left than the words need.
    """
    rows = [row for row in stories if slots.block_size - 1 - slots.places[row] > T_MOST]
    found = dict.fromkeys(stories, 0.0)
    if not rows:
        return found
    first = np.array(mx.softmax(slots.logits[mx.array(rows)], axis=-1))  # [R, V]
    asked: list[tuple[int, list[int], float]] = []
    for i, row in enumerate(rows):
        for words in what_is_missing(stories[row]):
            ids = [tokenizer.ids[c] for c in words if c in tokenizer.ids]
            if len(ids) == len(words) and first[i, ids[0]] >= FLOOR:
                asked.append((row, ids, float(first[i, ids[0]])))
    if not asked:
        return found
    T = max(len(ids) for _, ids, _ in asked) - 1
    padded = [ids[:-1] + [0] * (T + 1 - len(ids)) for _, ids, _ in asked]
    logits = slots.glance([row for row, _, _ in asked], padded)  # [R, T, V]
    log_p = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    for i, (row, ids, p) in enumerate(asked):
        found[row] += p * float(np.exp(sum(log_p[i, t, ids[t + 1]] for t in range(len(ids) - 1))))
    return {row: min(1.0, p) for row, p in found.items()}


class _Kept:
    """Causal attention over a text that comes in pieces: keys and values of the earlier ones are kept."""

    def __init__(self):
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    def attend(self, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        if self.keys is not None and self.values is not None:
            k, v = mx.concatenate([self.keys, k], axis=2), mx.concatenate([self.values, v], axis=2)
        self.keys, self.values = k, v
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask="causal")


def log_likelihoods(model: GPT, ids: list[int], n_given: int) -> Iterator[np.ndarray]:
    """Yield log p of ids[n_given:], each given all before it, in nats: float32 arrays of up to PIECE numbers.

    `ids` has up to block_size + 1 of them. A caller with other work does it between the pieces.
    """
    caches = [_Kept() for _ in model.h]
    for begin in range(0, len(ids) - 1, PIECE):
        end = min(begin + PIECE, len(ids) - 1)
        logits = model(mx.array([ids[begin:end]]), caches, mx.arange(begin, end)[None])[0]
        log_p = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        targets = mx.array(ids[begin + 1 : end + 1])[:, None]
        found = np.array(mx.take_along_axis(log_p, targets, axis=-1)[:, 0])
        yield found[max(0, n_given - 1 - begin) :]


def pull(model: GPT, tokenizer: CharTokenizer, topic: str, story: str) -> Iterator[np.ndarray | None]:
    """Yield None while it works, then how much likelier each character of `story` is under level 5 than under 1.

    The last value is a float32 array, one number a character: ln p(character | level 5) - ln p(character | level 1),
    each given the same story before it. Raises TopicError, and UsageError for a story that is empty, too long for the
    context, or not in the model's alphabet.
    """
    sums = []
    for level in (prime.LEVELS[0], prime.LEVELS[-1]):
        given = tokenizer.encode(prime.build(topic, level, alphabet=tokenizer.alphabet))
        ids = given + encode_story(tokenizer, story)
        if not story or len(ids) > model.config.block_size + 1:
            told = f"A story has 1 to {model.config.block_size + 1 - len(given)} characters here, not {len(story)}"
            raise UsageError(told)
        pieces = []
        for piece in log_likelihoods(model, ids, len(given)):
            pieces.append(piece)
            yield None
        sums.append(np.concatenate(pieces))
    yield sums[1] - sums[0]


def encode_story(tokenizer: CharTokenizer, story: str) -> list[int]:
    """Return the ids of `story`; raise UsageError where it holds a document's end or an unknown character."""
    if text.STORY_END in f"\n{story}":
        raise UsageError("A story does not go on past its own end, a blank line and '['")
    if alien := sorted({c for c in story if c not in tokenizer.ids}):
        shown = ", ".join(f"U+{ord(c):04X}" for c in alien[:4])
        raise UsageError(f"The model's alphabet of {len(tokenizer)} characters lacks some of this story's: {shown}")
    return tokenizer.encode(story)
