"""Read a corpus: the raw file, its documents, and the manifest beside it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.corpus import manifest
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story.document import HINT, Document, parse
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.story.prime import ALPHABET


@dataclass(frozen=True)
class Corpus:
    """Documents in file order, their alphabet (the characters in use, sorted), and the sha256 of the file's bytes.

    `manifest` is the content of the manifest beside the file, {} if there is none.
    """

    documents: tuple[Document, ...]
    alphabet: str
    sha256: str
    path: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def obsession(self) -> Obsession:
        """What the stories keep mentioning; the default if the manifest names none."""
        return self.documents[0].prime.obsession

    def __repr__(self) -> str:
        return f"<corpus {self.path or 'in memory'}: {len(self.documents):,} stories, {self.n_chars:,} characters>"

    @property
    def n_chars(self) -> int:
        return sum(len(d.text) for d in self.documents)


def locate(path: Path) -> Path:
    """Return the raw file of a corpus that is given as a file or as a folder with raw.txt."""
    return path / "raw.txt" if path.is_dir() else path


def load(path: Path | str) -> Corpus:
    """Read a corpus file, or a folder with raw.txt, and the manifest beside it if there is one.

    With a manifest of gatsby's the alphabet is `prime.ALPHABET`, otherwise the characters that the text uses. A byte
    order mark is dropped, and line ends of Windows and of old Macs become plain ones, as nanoGPT reads them.
    Raises CorpusError for a file that is missing, empty, binary or damaged, and for one that disagrees with its
    manifest.
    """
    raw = locate(Path(path))
    try:
        data = raw.read_bytes()
    except FileNotFoundError:
        raise CorpusError(f"There is no corpus at {path}", HINT) from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}", HINT) from None
    if not data:
        raise CorpusError(f"{raw} is empty", HINT)
    files.refuse_pointer(raw, CorpusError)
    try:
        text = files.as_text(data)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{raw} is not text (byte {error.start} is not UTF-8)", HINT) from None
    if "\0" in text:
        raise CorpusError(f"{raw} is not text (it holds a NUL character at {text.index(chr(0))})", HINT)
    beside = manifest.find(raw)
    content = manifest.read(beside) if beside else {}
    documents = parse(text, str(raw), manifest.obsession_of(content))
    if beside:
        documents = manifest.annotate(documents, content, beside)
    ours = "stories" in content and set(text) <= set(ALPHABET)
    alphabet = ALPHABET if ours else "".join(sorted(set(text)))
    return Corpus(tuple(documents), alphabet, hashlib.sha256(data).hexdigest(), raw, content)
