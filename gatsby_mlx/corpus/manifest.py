"""The manifest beside a corpus: who wrote each story, with which seed, its offset and length in the file, and its hash.

Two kinds can be read: gatsby's, and that of gatsby-nanogpt-2 (`samples` with sha1). Only gatsby's is written.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.errors import CorpusError, UsageError
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.english import counted
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

SCHEMA = "gatsby-mlx/corpus/1"
COUNTED = ("written", "passed", "tokens_out")  # of a writer's attempts
HINT = "Restore the pair, or move the manifest away to read the corpus without it"


def find(raw: Path) -> Path | None:
    """Return the manifest of a corpus file, or None: manifest.json for raw.txt, X.manifest.json for X.raw.txt."""
    stem = raw.name.removesuffix(".txt").removesuffix("raw")
    path = raw.with_name(f"{stem}manifest.json")
    return path if path.is_file() else None


def read(path: Path) -> dict[str, Any]:
    """Return the manifest at `path`; raise CorpusError if it is not JSON or not a manifest."""
    files.refuse_pointer(path, CorpusError)
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise CorpusError(f"The manifest {path} cannot be read: {error}", HINT) from None
    stories = content.get("stories", content.get("samples")) if isinstance(content, dict) else None
    if not isinstance(stories, list) or not all(isinstance(story, dict) for story in stories):
        raise CorpusError(f"{path} is not a manifest of stories", HINT)
    if "stories" in content and content.get("schema") != SCHEMA:
        raise CorpusError(f"{path} has schema {content.get('schema')!r}, and this version reads {SCHEMA!r}", HINT)
    if damaged := _damaged(content):
        raise CorpusError(f"The manifest {path} is damaged: {damaged} is not what gatsby writes there", HINT)
    try:
        obsession_of(content)
    except UsageError as error:
        raise CorpusError(f"The manifest {path} is damaged: {error}", HINT) from None
    return content


def _damaged(content: Mapping[str, Any]) -> str:
    """Return the key in the head of a manifest whose value has the wrong form, "" if there is none."""

    def is_object(value: Any, of: type | tuple[type, ...] = object) -> bool:
        return value is None or (isinstance(value, dict) and all(isinstance(x, of) for x in value.values()))

    for key in ("writers", "plan", "blend", "counts", "attempts", "timings", "sources"):
        if not is_object(content.get(key)):
            return key
    if not isinstance(content.get("gates") or [], list):
        return "gates"
    counts, attempts = content.get("counts") or {}, content.get("attempts") or {}
    if not is_object(counts.get("empty"), int) or not isinstance(counts.get("moved") or 0, int):
        return "counts"
    for tried in attempts.values():
        numbers = isinstance(tried, dict) and all(isinstance(tried.get(k), int) for k in COUNTED)
        if not numbers or not is_object(tried.get("failed"), int):
            return "attempts"
    if not is_object((content.get("timings") or {}).get("by_writer"), (int, float)):
        return "timings"
    return ""


def obsession_of(content: Mapping[str, Any]) -> Obsession:
    """Return the obsession of a manifest, or of a request as `compose.request` returns it.

    Where none is named it is the green light, with the bands that are given. Raises UsageError for a damaged one.
    """
    if "obsession" in content or "bands" not in content:
        return Obsession.from_json(content.get("obsession"))
    bands = content["bands"]
    by_level = list(bands.values()) if isinstance(bands, Mapping) else bands
    return Obsession.from_json({**GREEN_LIGHT.to_json(), "bands": by_level})


def dump(content: Mapping[str, Any]) -> str:
    """Return the text of a manifest, with one line for each story, so that two manifests are easy to compare."""
    lists = {k: v for k, v in content.items() if k in ("stories", "rejected")}
    head = {k: v for k, v in content.items() if k not in lists}
    parts = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    parts += [f"{json.dumps(k)}: [{_lines(v)}]" for k, v in lists.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(entries: Sequence[Mapping[str, Any]]) -> str:
    return "\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n" if entries else ""


def entries(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one dictionary for each story, in file order; the keys of gatsby-nanogpt-2 are renamed to ours."""
    if "stories" in content:
        return content["stories"]
    names = {"model": "writer", "doc_offset": "offset", "doc_length": "length"}
    samples: list[dict[str, Any]] = content["samples"]
    return [{names.get(k, k): v for k, v in sample.items()} for sample in samples]


def annotate(documents: Sequence[Document], content: Mapping[str, Any], path: Path) -> list[Document]:
    """Return `documents` with the writers and heroes that the manifest `content`, read from `path`, has for them.

    Raises CorpusError at the first story whose offset, length, hash, level or topic differs from its entry.
    """
    listed = entries(content)
    if len(listed) != len(documents):
        raise CorpusError(f"{path} lists {counted(len(listed), 'story')}, and its corpus has {len(documents)}", HINT)
    offset, known = 0, []
    for number, (entry, document) in enumerate(zip(listed, documents, strict=True), 1):
        kind = "sha256" if "sha256" in entry else "sha1"
        expected = {
            "offset": offset,
            "length": len(document.text),
            kind: hashlib.new(kind, document.story.encode()).hexdigest(),
            "level": document.level,
            "topic": document.topic,
        }
        wrong = [key for key, value in expected.items() if entry.get(key) != value]
        if wrong:
            which = f"story {number} ({document.topic}, level {document.level})"
            raise CorpusError(f"{path} and its corpus disagree on {', '.join(wrong)} of {which}", HINT)
        known.append(replace(document, **{k: entry.get(k) for k in ("writer", "name", "split")}))
        offset += len(document.text)
    return known


def recipe(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the house writer needs to write a corpus again from its manifest, or None for any other corpus.

    The same recipe gives the same text: it is complete, by one house writer of a known version, on its own topics.
    """
    writers = content.get("writers")
    if not isinstance(writers, dict) or len(writers) != 1 or content.get("topics_given", True):
        return None
    about = next(iter(writers.values()))
    if not content.get("finished") or not isinstance(about, dict) or about.get("kind") != "house":
        return None
    plan = content.get("plan") or {}
    return {"writers": writers, "n": plan.get("n"), "seed": plan.get("seed"), "bands": content.get("bands")}


def check(documents: Sequence[Document], content: Mapping[str, Any], raw: Path | None) -> None:
    """Check the counts of a manifest whose entries `annotate` has checked.

    Raises CorpusError for counts that differ, and if there is no manifest.
    """
    if not content:
        raise CorpusError(f"There is no manifest beside {raw}", "Only a corpus that gatsby wrote can be verified")
    counts = content.get("counts") or {}
    expected = {"stories": len(documents), "chars": sum(len(d.text) for d in documents)}
    expected |= {"topics": len({d.topic for d in documents})} if "schema" in content else {}
    wrong = [key for key, n in expected.items() if counts.get(key) != n]
    if wrong:
        raise CorpusError(f"The manifest beside {raw} has a wrong count of {', '.join(wrong)}", HINT)
