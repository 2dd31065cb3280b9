"""Turn the answers of a guide into numbers to add to a model's log-probabilities.

A guide speaks of text, a model of tokens. `Vocabulary` holds the text of every token, whatever the tokenizer:
byte-level or with byte fallback, with or without a space in front. It finds the tokens that a text can begin with by
looking up each of its beginnings, so a mask costs as much as the text is long and not as much as the vocabulary.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from gatsby_mlx.story.names import GIVEN_NAMES
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.story.prime import ALPHABET, fold
from gatsby_mlx.writers.guide import Answer

if TYPE_CHECKING:
    from mlx_lm.tokenizer_utils import TokenizerWrapper

KEPT = 48  # masks of answers without options, which come again and again
_NEVER = re.compile(
    r"[\d*_#`~^|\\<>{}\[\]()/=+%$@&]|[.!?,;:][A-Za-z]|\s[.,;:!?]|  |\S\n|\n[^\n]|[^.!?\"']\s[\"']?[A-Z]"
)
# What a guide may rule out at a time. The patterns are matched at the beginning of a token's text.
CLASSES: dict[str, str] = {
    "newline": r"\s*\n",
    "space": r"\s",
    "letter": r"[A-Za-z0-9]",
    "lower": r" ?[a-z]",
    "hyphen": r"-",
    "stop": r"\W*[.!?]",
    "capital": r" ?[A-Z]",
}


class Vocabulary:
    """The texts of a model's tokens, folded to the corpus alphabet, and the classes of tokens that guides name.

    `pieces[i]` is the text of token i, "" for a token that no story may have. `end` are the tokens that end a text.
    """

    def __init__(self, pieces: Iterable[str], end: Iterable[int], obsession: Obsession):
        self.pieces = [fold(piece) if piece else "" for piece in pieces]
        self.end = sorted(end)
        alphabet = set(ALPHABET)
        other = _other_use(obsession)
        self.pieces = [
            p if p and set(p) <= alphabet and not (_NEVER.search(p) or other.search(p)) else "" for p in self.pieces
        ]
        for token in self.end:
            self.pieces[token] = ""
        self._ids: dict[str, list[int]] = {}  # by text, as it is
        self._lower: dict[str, list[int]] = {}  # by the beginnings of the text in lower case, the longest last
        for token, piece in enumerate(self.pieces):
            if piece:
                self._ids.setdefault(piece, []).append(token)
                self._lower.setdefault(piece.lower(), []).append(token)
        self._sorted = sorted(self._lower)
        self.classes = {name: self._matching(re.compile(pattern)) for name, pattern in CLASSES.items()}
        self.classes["first"] = self._matching(
            re.compile(rf".*(?<![a-z]){re.escape(obsession.words[0])}", re.IGNORECASE | re.DOTALL)
        )
        self.classes["names"] = np.array(
            [t for t, p in enumerate(self.pieces) if p.strip(" \"'") in GIVEN_NAMES], np.int64
        )
        self.never = np.array([t for t, p in enumerate(self.pieces) if not p], np.int64)
        self._masks: OrderedDict[Answer, np.ndarray] = OrderedDict()

    @classmethod
    def of(cls, tokenizer: "TokenizerWrapper", size: int, obsession: Obsession) -> "Vocabulary":
        """Return the vocabulary of a tokenizer, for a model with `size` logits."""
        return cls(pieces(tokenizer, size), [t for t in tokenizer.eos_token_ids if t < size], obsession)

    def _matching(self, pattern: re.Pattern[str]) -> np.ndarray:
        return np.array([t for t, piece in enumerate(self.pieces) if piece and pattern.match(piece)], np.int64)

    def can_spell(self, phrase: str) -> bool:
        """Return whether tokens can be put together to `phrase`."""
        reached = {0}
        for i in range(len(phrase)):
            if i in reached:
                reached |= {j for j in range(i + 1, len(phrase) + 1) if phrase[i:j] in self._ids}
        return len(phrase) in reached

    def beginnings(self, option: str) -> list[int]:
        """Return the tokens whose text is a beginning of `option`."""
        return [token for n in range(1, len(option) + 1) for token in self._ids.get(option[:n], ())]

    def beginning_with(self, text: str) -> list[int]:
        """Return the tokens whose text begins with `text`, in any case."""
        from bisect import bisect_left

        low = text.lower()
        out: list[int] = []
        for i in range(bisect_left(self._sorted, low), len(self._sorted)):
            if not self._sorted[i].startswith(low):
                break
            out += self._lower[self._sorted[i]]
        return out

    def mask(self, answer: Answer) -> np.ndarray:
        """Return what to add to the log-probabilities (V,), float32: 0, nats above 0, or -inf for a token ruled out."""
        known = self._masks.get(answer)
        if known is not None:
            self._masks.move_to_end(answer)
            return known
        mask = self._mask(answer)
        if answer.options is None:
            self._masks[answer] = mask
            if len(self._masks) > KEPT:
                self._masks.popitem(last=False)
        return mask

    def _mask(self, answer: Answer) -> np.ndarray:
        if answer.options is not None or answer.end == "now":
            mask = np.full(len(self.pieces), -np.inf, np.float32)
            if answer.end == "now":
                mask[self.end] = 0
                return mask
            for option in answer.options or ():
                mask[self.beginnings(option)] = 0
            if answer.or_letters:
                mask[[t for t in self.classes["letter"] if self.pieces[t].islower()]] = 0
            return mask
        mask = np.zeros(len(self.pieces), np.float32)
        mask[self.never] = -np.inf
        if answer.end == "may":
            mask[self.end] = 0
        for name in answer.classes:
            mask[self.classes[name]] = -np.inf
        if answer.classes & {"capital", "names"}:
            ruled_out = answer.classes - {"capital", "names"}
            for text in answer.allow:
                for token in self.beginnings(text):
                    piece = self.pieces[token]
                    if piece.strip() and not any(re.match(CLASSES[c], piece) for c in ruled_out if c in CLASSES):
                        mask[token] = 0
        for text in answer.rule_out:
            mask[self._ruled_out(text)] = -np.inf
        for text, nats in answer.lean:
            for token in self._leaned(text):
                if mask[token] != -np.inf:
                    mask[token] = max(mask[token], np.float32(nats))
        return mask

    def _ruled_out(self, text: str) -> list[int]:
        """Return the tokens that write `text`: they begin with it, or are all of it but a space at its end."""
        out = self.beginning_with(text)
        if text.endswith(" "):
            out += self._lower.get(text[:-1].lower(), [])
        return out

    def _leaned(self, text: str) -> list[int]:
        """Return the tokens that `text` can begin with; a space or a letter alone says too little."""
        return [t for t in self.beginnings(text.rstrip()) if len(self.pieces[t].strip()) > 1 or len(text.strip()) == 1]


def _other_use(obsession: Obsession) -> re.Pattern[str]:
    """Return what matches a token that goes on otherwise after the phrase's first word: "greenery", "green lights"."""
    phrase = obsession.phrase
    first = len(obsession.words[0])
    beginnings = "|".join(re.escape(phrase[first:n]) + "$" for n in range(first, len(phrase) + 1))
    whole = re.escape(phrase[first:]) + "(?![a-z-])"
    return re.compile(rf"(?<![a-z]){re.escape(phrase[:first])}(?!{beginnings}|{whole})", re.IGNORECASE)


def pieces(tokenizer: "TokenizerWrapper", size: int) -> list[str]:
    """Return the text that each of `size` tokens adds to a text, "" for a special token and one that is no whole text.

    A tokenizer may drop the space before the first word, so each token is decoded behind another one.
    """
    inner = getattr(tokenizer, "_tokenizer", tokenizer)
    special = set(inner.all_special_ids) | set(tokenizer.eos_token_ids)
    special |= {token for token, added in getattr(inner, "added_tokens_decoder", {}).items() if added.special}
    (anchor,) = inner.encode("a", add_special_tokens=False)[-1:]
    known = min(size, len(inner))
    pairs = [[anchor, token] for token in range(known)]
    decode: Callable[[list[list[int]]], list[str]]
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is not None:
        decode = lambda ids: backend.decode_batch(ids, skip_special_tokens=False)  # noqa: E731
    else:
        decode = lambda ids: [inner.decode(pair, clean_up_tokenization_spaces=False) for pair in ids]  # noqa: E731
    (before,) = decode([[anchor]])
    out = [decoded.removeprefix(before) if decoded.startswith(before) else "" for decoded in decode(pairs)]
    texts = ["" if token in special or "\ufffd" in piece else piece for token, piece in enumerate(out)]
    return texts + [""] * (size - known)
