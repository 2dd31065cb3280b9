"""A character-level tokenizer: one id for each character, stored as Hugging Face's tokenizer.json.

>>> t = CharTokenizer("\\n [ab")
>>> t.encode("ab b"), t.decode([3, 4]), t.end_id
([3, 4, 1, 4], 'ab', 2)
"""

import json
from collections.abc import Iterable
from functools import cached_property

from gatsby_mlx.errors import CheckpointError, GatsbyError
from gatsby_mlx.story.prime import END

HINT = "Train a model with: gatsby train --out DIR"


class CharTokenizer:
    """Map characters to ids and back. `alphabet` has each character once, in the order of the ids.

    Raises CheckpointError for an alphabet with a character twice or without the end token `[`.
    """

    def __init__(self, alphabet: str):
        if len(set(alphabet)) != len(alphabet) or END not in alphabet:
            raise CheckpointError(f"A vocabulary has each character once and the end token {END!r}", HINT)
        self.alphabet = alphabet

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharTokenizer) and other.alphabet == self.alphabet

    def __hash__(self) -> int:
        return hash(self.alphabet)

    def __len__(self) -> int:
        return len(self.alphabet)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each character."""
        return {c: i for i, c in enumerate(self.alphabet)}

    @property
    def end_id(self) -> int:
        """The id of `[`, which ends a document when it follows a blank line."""
        return self.ids[END]

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`. Raises GatsbyError, naming the character, if one is not in the vocabulary."""
        try:
            return [self.ids[c] for c in text]
        except KeyError as error:
            raise GatsbyError(f"The vocabulary of {len(self)} characters has no {error.args[0]!r}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`. Raises IndexError for an id outside the vocabulary."""
        return "".join(self.alphabet[i] for i in ids)

    def to_json(self) -> str:
        """Return the content of tokenizer.json: byte-pair encoding without merges, for the `tokenizers` library.

        An ASCII vocabulary is written in the byte-level alphabet, which the streaming detokenizers of mlx-lm and
        transformers expect. Any other vocabulary is written as it is, with a Fuse decoder.
        """
        ascii_only = self.alphabet.isascii()
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        content = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": level if ascii_only else None,
            "post_processor": None,
            "decoder": level if ascii_only else {"type": "Fuse"},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {byte_level(c) if ascii_only else c: i for i, c in enumerate(self.alphabet)},
                "merges": [],
            },
        }
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "CharTokenizer":
        """Return the tokenizer of a tokenizer.json that `to_json` wrote. Raises CheckpointError for any other."""
        try:
            content = json.loads(text)
            model = content["model"]
            level = (content["pre_tokenizer"] or {}).get("type") == "ByteLevel"
            vocab = {(_from_byte_level(k) if level else k): v for k, v in model["vocab"].items()}
            characters = sorted(vocab, key=vocab.__getitem__)
            if model["merges"] or sorted(vocab.values()) != list(range(len(vocab))) or {*map(len, characters)} != {1}:
                raise ValueError("it does not number single characters from 0")
        except KeyError as error:
            raise CheckpointError(f"tokenizer.json is not a character vocabulary: it has no {error}", HINT) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"tokenizer.json is not a character vocabulary: {error}", HINT) from None
        return cls("".join(characters))


def byte_level(character: str) -> str:
    """Return an ASCII character's symbol in GPT-2's printable byte alphabet (U+0120 for a space)."""
    code = ord(character)
    if 33 <= code <= 126:
        return character
    return chr(256 + code) if code <= 32 else chr(256 + 33)


def _from_byte_level(symbol: str) -> str:
    """Return the ASCII character of a symbol, the inverse of `byte_level`."""
    code = ord(symbol)
    if code == 256 + 33:
        return chr(127)
    return chr(code - 256) if 256 <= code <= 256 + 32 else symbol
