"""Reading a corpus: the raw file, its documents, and the manifest beside it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatsby_mlx.corpus import manifest
from gatsby_mlx.corpus.document import CURE, Document, parse
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.prime import ALPHABET


@dataclass(frozen=True)
class Corpus:
    """Documents in file order, the characters they are written in (sorted), and the sha256 of the file's bytes.

    `manifest` is the content of the manifest beside it, {} where there is none.
    """

    documents: tuple[Document, ...]
    alphabet: str
    sha256: str
    path: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def n_chars(self) -> int:
        return sum(len(d.text) for d in self.documents)


def locate(path: Path) -> Path:
    """Return the raw file of a corpus given as a file or as a folder that holds raw.txt."""
    return path / "raw.txt" if path.is_dir() else path


def load(path: Path | str) -> Corpus:
    """Read a corpus file, or a folder with raw.txt, and the manifest beside it where there is one.

    The alphabet is ours if our manifest lies beside the file, else the text's own characters. Windows line ends are
    read as plain ones. Raises CorpusError for a file that is missing, empty, binary or torn, and for one at odds with
    its manifest.
    """
    raw = locate(Path(path))
    try:
        data = raw.read_bytes()
    except FileNotFoundError:
        raise CorpusError(f"There is no corpus at {path}", CURE) from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}", CURE) from None
    if not data:
        raise CorpusError(f"{raw} is empty", CURE)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{raw} is not text (byte {error.start} is not UTF-8)", CURE) from None
    if "\0" in text:
        raise CorpusError(f"{raw} is not text (it holds a NUL character at {text.index(chr(0))})", CURE)
    text = text.replace("\r\n", "\n")
    documents = parse(text, str(raw))
    beside = manifest.find(raw)
    content = manifest.read(beside) if beside else {}
    if beside:
        documents = manifest.annotate(documents, content, beside)
    ours = "stories" in content and set(text) <= set(ALPHABET)
    alphabet = ALPHABET if ours else "".join(sorted(set(text)))
    return Corpus(tuple(documents), alphabet, hashlib.sha256(data).hexdigest(), raw, content)
