"""The manifest beside a corpus: who wrote each story, from which seed, where it stands, and its hash.

Two kinds are read: ours, and the seed's (`samples` with sha1). Only ours is written.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gatsby_mlx.corpus.document import Document
from gatsby_mlx.errors import CorpusError

SCHEMA = "gatsby-mlx/corpus/1"
CURE = "Restore the pair, or move the manifest away to do without it"


def find(raw: Path) -> Path | None:
    """Return the manifest of a corpus file, if any: manifest.json beside raw.txt, X.manifest.json beside X.raw.txt."""
    stem = raw.name.removesuffix(".txt").removesuffix("raw")
    path = raw.with_name(f"{stem}manifest.json")
    return path if path.is_file() else None


def read(path: Path) -> dict:
    """Return the manifest at `path`; raise CorpusError if it is not JSON or not a manifest."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise CorpusError(f"The manifest {path} cannot be read: {error}", CURE) from None
    rows = content.get("stories", content.get("samples")) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CorpusError(f"{path} is not a manifest of stories", CURE)
    if "stories" in content and content.get("schema") != SCHEMA:
        raise CorpusError(f"{path} has schema {content.get('schema')!r}, and this version reads {SCHEMA!r}", CURE)
    return content


def dump(content: dict) -> str:
    """Return the text of a manifest: one line for each story, so that two manifests can be compared by eye."""
    lists = {k: v for k, v in content.items() if k in ("stories", "rejected")}
    head = {k: v for k, v in content.items() if k not in lists}
    parts = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    parts += [f"{json.dumps(k)}: [{_lines(v)}]" for k, v in lists.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(rows: list[dict]) -> str:
    return "\n" + ",\n".join(json.dumps(row) for row in rows) + "\n" if rows else ""


def entries(content: dict) -> list[dict]:
    """Return one dictionary a story in file order, the seed's keys renamed to ours."""
    if "stories" in content:
        return content["stories"]
    names = {"model": "writer", "doc_offset": "offset", "doc_length": "length"}
    return [{names.get(k, k): v for k, v in sample.items()} for sample in content["samples"]]


def annotate(documents: Sequence[Document], content: dict, path: Path) -> list[Document]:
    """Return `documents` with writer and hero from the manifest read from `path`, each checked against its entry.

    Raises CorpusError at the first story whose offset, length, hash, level or topic is not the manifest's.
    """
    rows = entries(content)
    if len(rows) != len(documents):
        raise CorpusError(f"{path} tells of {len(rows)} stories, and its corpus holds {len(documents)}", CURE)
    offset, known = 0, []
    for number, (row, document) in enumerate(zip(rows, documents, strict=True), 1):
        kind = "sha256" if "sha256" in row else "sha1"
        digest = hashlib.new(kind, document.story.encode()).hexdigest()
        told = {"offset": offset, "length": len(document.text), kind: digest}
        told |= {"level": document.level, "topic": document.topic}
        wrong = [k for k, v in told.items() if row.get(k) != v]
        if wrong:
            where = f"story {number} ({document.topic}, level {document.level})"
            raise CorpusError(f"{path} and its corpus disagree on {', '.join(wrong)} of {where}", CURE)
        known.append(replace(document, writer=row.get("writer"), name=row.get("name")))
        offset += len(document.text)
    return known


def check(documents: Sequence[Document], content: dict, raw: Path | None) -> None:
    """Check the counts of a manifest whose entries `annotate` has checked; raise CorpusError where there is none."""
    if not content:
        raise CorpusError(f"There is no manifest beside {raw}", "Only a corpus that gatsby wrote can be verified")
    counts = content.get("counts", {})
    told = {"stories": len(documents), "chars": sum(len(d.text) for d in documents)}
    told |= {"topics": len({d.topic for d in documents})} if "schema" in content else {}
    wrong = [key for key, n in told.items() if counts.get(key) != n]
    if wrong:
        raise CorpusError(f"The manifest beside {raw} counts other {', '.join(wrong)} than the corpus has", CURE)
