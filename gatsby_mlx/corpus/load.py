"""Read a corpus: the raw file, its documents, and the manifest beside it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.corpus import manifest, sources
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story.document import HINT, Document, has_control_line, parse
from gatsby_mlx.story.english import counted
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import ALPHABET, END


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
    prose: str = ""

    @property
    def is_prose(self) -> bool:
        """Whether this is plain text (`prose`), without stories and so without topics, levels and a dial."""
        return not self.documents

    @property
    def is_own_text(self) -> bool:
        """Whether a person brought this text: gatsby wrote no manifest for it, or imported it."""
        return "imported" in self.manifest or not {"stories", "samples"} & self.manifest.keys()

    @property
    def obsession(self) -> Obsession:
        """What the stories keep mentioning; the default if the manifest names none."""
        return self.documents[0].prime.obsession if self.documents else GREEN_LIGHT

    def __repr__(self) -> str:
        if self.is_prose:
            return f"<plain text {self.path or 'in memory'}: {self.n_chars:,} characters>"
        stories = counted(len(self.documents), "story")
        return f"<corpus {self.path or 'in memory'}: {stories}, {self.n_chars:,} characters>"

    @property
    def n_chars(self) -> int:
        return len(self.prose) or sum(len(d.text) for d in self.documents)


def locate(path: Path) -> Path:
    """Return the raw file of a corpus that is given as a file or as a folder with raw.txt."""
    return path / "raw.txt" if path.is_dir() else path


def load(path: Path | str, obsession: Obsession | None = None) -> Corpus:
    """Read a corpus file, or a folder with raw.txt, and the manifest beside it if there is one.

    With a manifest of gatsby's the alphabet is `prime.ALPHABET`, otherwise the characters that the text uses. A byte
    order mark is dropped, and line ends of Windows and of old Macs become plain ones, as nanoGPT reads them.
    `obsession` is for a corpus without a manifest, which otherwise means the green light. Raises CorpusError for a file
    that is missing, empty, binary or damaged, and for one that disagrees with its manifest, or whose manifest has
    another obsession than `obsession`.
    """
    raw = locate(Path(path))
    try:
        data = raw.read_bytes()
    except FileNotFoundError:
        raise _missing(Path(path)) from None
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
    known = manifest.obsession_of(content)
    if obsession and beside and (obsession.tag, obsession.phrase) != (known.tag, known.phrase):
        message = f"{path} is about the {known.phrase}, by its manifest, and not about the {obsession.phrase}"
        raise CorpusError(message, "Leave out --obsession, or import the stories again with it: gatsby corpus import")
    documents = parse(text, str(raw), obsession if obsession and not beside else known)
    if beside:
        documents = manifest.annotate(documents, content, beside)
    ours = "stories" in content and set(text) <= set(ALPHABET)
    alphabet = ALPHABET if ours else "".join(sorted(set(text)))
    return Corpus(tuple(documents), alphabet, hashlib.sha256(data).hexdigest(), raw, content)


def _missing(path: Path) -> CorpusError:
    """Return the error for a path without a corpus: a folder with other texts may hold a person's stories."""
    if path.is_dir() and any(p.suffix.lower() in (*sources.TEXTS, *sources.DATA) for p in path.iterdir()):
        hint = f"If these are your stories: gatsby corpus import {quote(str(path))} --out DIR"
        return CorpusError(f"There is no corpus at {path}: the folder has no raw.txt", hint)
    return CorpusError(f"There is no corpus at {path}", HINT)


def load_prose(path: Path | str) -> Corpus:
    """Read plain text, a file or a folder of .txt and .md files, for training without topics, levels and a dial.

    Raises CorpusError for a file that is missing, empty or not text.
    """
    path = Path(path)
    found = [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in sources.TEXTS and not p.name.startswith("."))
    if not found or not path.exists():
        raise CorpusError(f"There is no text at {path}", "Name a .txt file, or a folder of them: --corpus book.txt")
    text = "\n\n".join(map(sources.decode, found))
    if not text.strip():
        raise CorpusError(f"{path} is empty", "Name a text: --corpus book.txt")
    alphabet = "".join(sorted({*text, END}))
    return Corpus((), alphabet, hashlib.sha256(text.encode()).hexdigest(), path, prose=text)


def is_corpus(path: Path | str) -> bool:
    """Return whether there is a corpus at `path`, or something that was meant as one: a text with a control line."""
    raw = locate(Path(path))
    try:
        return has_control_line(raw.read_bytes()[:100_000].decode("utf-8-sig", "ignore"))
    except OSError:
        return False
