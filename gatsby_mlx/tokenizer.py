"""One character, one id: the vocabulary of a model, stored in Hugging Face's tokenizer.json.

>>> t = CharTokenizer("\\n [ab")
>>> t.encode("ab b"), t.decode([3, 4]), t.end_id
([3, 4, 1, 4], 'ab', 2)
"""

import json
from collections.abc import Iterable
from functools import cached_property

from gatsby_mlx.errors import CheckpointError, GatsbyError
from gatsby_mlx.prime import END

CURE = "Train a model with: gatsby train --out DIR"


class CharTokenizer:
    """Map characters to ids and back. `alphabet` gives the characters in id order, each once."""

    def __init__(self, alphabet: str):
        if len(set(alphabet)) != len(alphabet) or END not in alphabet:
            raise CheckpointError(f"A vocabulary holds each character once and the end token {END!r}", CURE)
        self.alphabet = alphabet

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharTokenizer) and other.alphabet == self.alphabet

    def __hash__(self) -> int:
        return hash(self.alphabet)

    def __len__(self) -> int:
        return len(self.alphabet)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {c: i for i, c in enumerate(self.alphabet)}

    @property
    def end_id(self) -> int:
        """The id of `[`, which after a blank line ends a document."""
        return self.ids[END]

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; raise GatsbyError, naming it, for a character outside the vocabulary."""
        try:
            return [self.ids[c] for c in text]
        except KeyError as error:
            raise GatsbyError(f"The vocabulary of {len(self)} characters has no {error.args[0]!r}") from None

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.alphabet[i] for i in ids)

    def to_json(self) -> str:
        """Return tokenizer.json: byte-pair encoding without merges, which the `tokenizers` library reads unchanged.

        An ASCII vocabulary goes through the byte-level alphabet, as the streaming detokenizers of the ecosystem
        expect; a vocabulary with other characters stands as it is, joined by a Fuse decoder.
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
        """Read a tokenizer.json written by `to_json`; raise CheckpointError for any other."""
        try:
            content = json.loads(text)
            model = content["model"]
            level = (content["pre_tokenizer"] or {}).get("type") == "ByteLevel"
            vocab = {(_from_byte_level(k) if level else k): v for k, v in model["vocab"].items()}
            characters = sorted(vocab, key=vocab.__getitem__)
            if model["merges"] or sorted(vocab.values()) != list(range(len(vocab))) or {*map(len, characters)} != {1}:
                raise ValueError("it holds no characters numbered from 0")
        except KeyError as error:
            raise CheckpointError(f"tokenizer.json is no character vocabulary: it has no {error}", CURE) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"tokenizer.json is no character vocabulary: {error}", CURE) from None
        return cls("".join(characters))


def byte_level(character: str) -> str:
    """Return the stand-in of an ASCII character in GPT-2's printable byte alphabet (space is U+0120)."""
    code = ord(character)
    if 33 <= code <= 126:
        return character
    return chr(256 + code) if code <= 32 else chr(256 + 33)


def _from_byte_level(stand_in: str) -> str:
    code = ord(stand_in)
    if code == 256 + 33:
        return chr(127)
    return chr(code - 256) if 256 <= code <= 256 + 32 else stand_in
