"""The characters of a model without a vocabulary: from the text it was trained on, or from a file that lists them.

nanoGPT's character data numbers the sorted characters of its text, and stores them in a meta.pkl. A model that was
built for browsers has them in a vocab.json.
"""

import json
from pathlib import Path
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.errors import CheckpointError, CorpusError
from gatsby_mlx.hub import torch_pickle

HINT = "Give the text it was trained on: --corpus raw.txt, or a list of its characters: --vocab vocab.json"
MAX_BYTES = 1 << 20


def from_corpus(path: Path) -> str:
    """Return the characters of a text file, or of a folder's raw.txt, sorted, as nanoGPT numbers them.

    Line ends of Windows and of old Macs become plain ones, as nanoGPT reads them, and a byte order mark is dropped.
    Raises CorpusError.
    """
    raw = path / "raw.txt" if path.is_dir() else path
    files.refuse_pointer(raw, CorpusError)
    try:
        text = files.as_text(raw.read_bytes())
    except FileNotFoundError:
        raise CorpusError(f"There is no corpus at {path}", HINT) from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{raw} is not text (byte {error.start} is not UTF-8)", HINT) from None
    except OSError as error:
        raise CorpusError(f"{raw} cannot be read: {error.strerror}", HINT) from None
    return "".join(sorted(set(text)))


def from_file(path: Path) -> str:
    """Return the characters that a vocab.json or a meta.pkl lists, in the order of their ids.

    The file has a list of characters, a table of characters to ids or of ids to characters, or an object with one of
    these as `itos`, `stoi`, `vocab`, `chars` or `characters`. A .pkl is read by `torch_pickle`. Raises CheckpointError.
    """
    files.refuse_pointer(path, CheckpointError)
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except FileNotFoundError:
        raise CheckpointError(f"There is no vocabulary at {path}", HINT) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", HINT) from None
    try:
        content = torch_pickle.loads(data, str(path)) if path.suffix == ".pkl" else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a vocabulary: {str(error)[:80]}", HINT) from None
    characters = _characters(content)
    if characters is None:
        raise CheckpointError(f"{path} is not a vocabulary: it does not number single characters from 0", HINT)
    return characters


def _characters(content: Any) -> str | None:
    if isinstance(content, list | str):
        single = content and all(isinstance(c, str) and len(c) == 1 for c in content)
        return "".join(content) if single else None
    if not isinstance(content, dict):
        return None
    nested = (content[key] for key in ("itos", "stoi", "vocab", "chars", "characters") if key in content)
    return _from_table(content) or next((text for inner in nested if (text := _characters(inner))), None)


def _from_table(table: dict[Any, Any]) -> str | None:
    """Return the characters of a table of characters to ids or of ids to characters (in JSON, ids that are text)."""
    if all(isinstance(k, str) and len(k) == 1 and isinstance(v, int) for k, v in table.items()):
        pairs = {v: k for k, v in table.items()}
    elif all(str(k).isdecimal() and isinstance(v, str) and len(v) == 1 for k, v in table.items()):
        pairs = {int(k): v for k, v in table.items()}
    else:
        return None
    numbered = sorted(pairs) == list(range(len(table))) and len(pairs) == len(table)
    return "".join(pairs[i] for i in sorted(pairs)) if table and numbered else None
