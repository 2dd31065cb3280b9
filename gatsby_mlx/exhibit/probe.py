"""Two readings of the model's probabilities: whether the phrase comes next, and what the dial changes."""

import re
from collections.abc import Iterator, Mapping

import mlx.core as mx
import numpy as np

from gatsby_mlx.errors import UsageError
from gatsby_mlx.model.batch import Slots
from gatsby_mlx.model.cache import GrowingCache
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story import prime, text
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.tokenizer import CharTokenizer

FLOOR = 0.01  # if the first letter is less likely than this, the reading is 0: the phrase can only be less likely
CHUNK = 128  # characters of a long text that go through the model at once
# Where a word may begin: after white space, or after an opening quote or bracket that follows white space.
_WORD_BEGINS = re.compile(r"""(?:\A|\s)["'(]?\Z""")


def word_begins(story: str) -> bool:
    """Return whether a word may begin after `story`. The phrase is probed only there.

    >>> word_begins("He saw a "), word_begins("He sa"), word_begins("")
    (True, False, True)
    """
    return bool(_WORD_BEGINS.search(story[-2:]))


def n_ahead(obsession: Obsession) -> int:
    """Return how many positions `phrase_probability` looks ahead."""
    return len(obsession.phrase) - 1


def missing_words(story: str, obsession: Obsession) -> tuple[str, ...]:
    """Return what would complete the phrase next: all of it in two spellings, or the rest of one that has begun.

    >>> missing_words("He saw a ", GREEN_LIGHT), missing_words("A Green ", GREEN_LIGHT)
    (('green light', 'Green light'), ('light',))
    """
    words = obsession.words
    for n in range(len(words) - 1, 0, -1):
        begun = r"\s".join(map(re.escape, words[:n]))
        if re.search(rf"(?:\A|[^A-Za-z']){begun}\s\Z", story[-len(obsession.phrase) - 2 :], re.IGNORECASE):
            return (" ".join(words[n:]),)
    return obsession.spellings


def phrase_probability(
    slots: Slots, tokenizer: CharTokenizer, stories: Mapping[int, str], obsession: Obsession
) -> dict[int, float]:
    """Return, for each slot in `stories`, the probability in [0, 1] that the obsession's phrase comes next.

    `stories` maps a slot to its text so far, or the last few characters of it, where a word may begin. The probability
    is the product over the phrase's characters at temperature 1, summed over both spellings. It is 0 where the first
    letter is less likely than FLOOR, and where the context has fewer positions left than the phrase needs.
    """
    probed = [slot for slot in stories if slots.block_size - 1 - slots.positions[slot] > n_ahead(obsession)]
    total = dict.fromkeys(stories, 0.0)
    if not probed:
        return total
    first = np.array(mx.softmax(slots.logits[mx.array(probed)], axis=-1))  # [B, V]
    candidates: list[tuple[int, list[int], float]] = []  # slot, ids, probability of the first id
    for i, slot in enumerate(probed):
        for words in missing_words(stories[slot], obsession):
            ids = [tokenizer.ids[c] for c in words if c in tokenizer.ids]
            if len(ids) == len(words) and first[i, ids[0]] >= FLOOR:
                candidates.append((slot, ids, float(first[i, ids[0]])))
    if not candidates:
        return total
    T = max(len(ids) for _, ids, _ in candidates) - 1
    padded = [ids[:-1] + [0] * (T + 1 - len(ids)) for _, ids, _ in candidates]
    logits = slots.lookahead([slot for slot, _, _ in candidates], padded)  # [n candidates, T, V]
    log_p = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    for i, (slot, ids, p) in enumerate(candidates):
        total[slot] += p * float(np.exp(sum(log_p[i, t, ids[t + 1]] for t in range(len(ids) - 1))))
    return {slot: min(1.0, p) for slot, p in total.items()}


def log_likelihoods(model: GPT, ids: list[int], n_given: int) -> Iterator[np.ndarray]:
    """Yield ln p of ids[n_given:], each given all ids before it, as float32 arrays of up to CHUNK numbers.

    `ids` may have up to block_size + 1 elements. The caller can do other work between the chunks.
    """
    caches = [GrowingCache() for _ in model.h]
    for begin in range(0, len(ids) - 1, CHUNK):
        end = min(begin + CHUNK, len(ids) - 1)
        logits = model(mx.array([ids[begin:end]]), caches, mx.arange(begin, end)[None])[0]  # [T, V]
        log_p = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        targets = mx.array(ids[begin + 1 : end + 1])[:, None]
        chunk = np.array(mx.take_along_axis(log_p, targets, axis=-1)[:, 0])
        yield chunk[max(0, n_given - 1 - begin) :]


def pull(
    model: GPT, tokenizer: CharTokenizer, topic: str, story: str, obsession: Obsession = GREEN_LIGHT
) -> Iterator[np.ndarray | None]:
    """Yield None after each chunk of work, then how much likelier level 5 makes each character of `story` than level 1.

    The last value is a float32 array with one number per character, in nats: ln p(character | level 5) minus
    ln p(character | level 1), both given the same story before it. Raises TopicError, and UsageError for a story that
    is empty, too long for the context, or not in the model's alphabet.
    """
    log_p = []
    for level in (LEVELS[0], LEVELS[-1]):
        given = tokenizer.encode(prime.build(topic, level, alphabet=tokenizer.alphabet, obsession=obsession))
        ids = given + encode_story(tokenizer, story)
        longest = model.config.block_size + 1 - len(given)
        if not 0 < len(story) <= longest:
            raise UsageError(f"A story has 1 to {longest} characters here, not {len(story)}")
        chunks = []
        for chunk in log_likelihoods(model, ids, len(given)):
            chunks.append(chunk)
            yield None
        log_p.append(np.concatenate(chunks))
    yield log_p[1] - log_p[0]


def encode_story(tokenizer: CharTokenizer, story: str) -> list[int]:
    """Return the ids of `story`. Raise UsageError where it contains a document's end or an unknown character."""
    if text.STORY_END in f"\n{story}":
        raise UsageError("A story cannot continue past its end, a blank line and '['")
    if unknown := sorted({c for c in story if c not in tokenizer.ids}):
        shown = ", ".join(f"U+{ord(c):04X}" for c in unknown[:4])
        raise UsageError(f"The model's alphabet of {len(tokenizer)} characters lacks some of this story's: {shown}")
    return tokenizer.encode(story)
