"""Composing a corpus from its ledger: raw.txt, and the manifest that tells where every story comes from."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.corpus import document, gates, manifest
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.corpus.gates import Bands
from gatsby_mlx.corpus.journal import belongs
from gatsby_mlx.corpus.ledger import Attempt, Ledger
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import Plan, WriteConfig
from gatsby_mlx.errors import OutputError
from gatsby_mlx.prime import Prime
from gatsby_mlx.writers.base import Writer


@dataclass(frozen=True)
class Telling:
    """What a manifest tells: the request, the plan, the ledger, what was found of each writer here, its seconds."""

    request: dict[str, Any]
    plan: Plan
    ledger: Ledger
    sources: dict[str, Any]
    seconds: dict[str, float]


def request(writers: Sequence[Writer], shares: Mapping[str, float], config: WriteConfig) -> dict[str, Any]:
    """Return what decides a corpus, as a manifest gives it back."""
    own = None if config.topics is None else hashlib.sha256("\n".join(config.topics).encode()).hexdigest()
    told = {
        "writers": {w.name: w.about for w in writers},
        "plan": {"n": config.n, "seed": config.seed, "topics_sha256": own},
        "blend": {name: round(share, 6) for name, share in shares.items()},
        "bands": {str(level): list(band) for level, band in config.levels.items()},
    }
    return json.loads(json.dumps(told))


def bands_of(request: Mapping[str, Any]) -> Bands:
    return {int(level): (low, high) for level, (low, high) in request["bands"].items()}


def is_finished(out: Path, wanted: Mapping[str, Any]) -> bool:
    """Tell whether `out` holds the corpus of the request `wanted`, whole; as `Run.is_finished`."""
    path = out / "manifest.json"
    if path.is_file():
        content = manifest.read(path)
        told = {key: content.get(key) for key in wanted}
        if told["plan"] and wanted["plan"]["topics_sha256"] is None and not content.get("topics_given"):
            told["plan"] = {**told["plan"], "topics_sha256": None}  # whatever the topics are, they were not given
        if told != wanted:
            raise OutputError(f"{out} holds another corpus", "Choose another --out")
        return content.get("finished", True) and (out / "raw.txt").exists() and bool(load(out))
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} exists and is no folder", "Choose another --out")
    if out.exists():
        names = [p.name for p in out.iterdir()]
        if any(not n.startswith(".") and not belongs(n) for n in names):
            raise OutputError(f"{out} exists and is not empty", "Choose another --out")
    return False


def compose(out: Path, told: Telling, finished: bool) -> int:
    """Write manifest.json, then raw.txt, each in one step; return how many stories there are.

    raw.txt comes last and an older one goes first: a folder that has it has both, and they agree. Raises OutputError,
    also where there is no story.
    """
    stories = told.ledger.accepted()
    if not stories:
        n, why = len(told.ledger.rows), told.ledger.failings()
        none = f"None of {n} stories in {out} passes the gates ({why})" if n else f"There is no story in {out} yet"
        raise OutputError(none, "Try another --blend, with another --out")
    documents = [Document(Prime(a.topic, level), a.story, a.writer, a.name) for _, level, a in stories]
    content = _manifest(told, documents, finished)
    with files.output_errors(str(out)):
        (out / "raw.txt").unlink(missing_ok=True)
    files.write_atomic(out / "manifest.json", manifest.dump(content))
    files.write_atomic(out / "raw.txt", document.render(documents))
    return len(documents)


def _manifest(told: Telling, documents: Sequence[Document], finished: bool) -> dict[str, Any]:
    ledger, stories, rows, offset = told.ledger, told.ledger.accepted(), [], 0
    for (_, level, attempt), d in zip(stories, documents, strict=True):
        row = _row(attempt, level) | {"offset": offset, "length": len(d.text)}
        rows.append(row)
        offset += len(d.text)
    rejected = ledger.rejected()
    given = told.request["plan"]["topics_sha256"] is not None
    content = {"schema": manifest.SCHEMA, "writers": told.request["writers"]}
    content |= {"plan": {**told.request["plan"], "topics_sha256": told.plan.topics_sha256}, "topics_given": given}
    content |= {"blend": told.request["blend"], "gates": list(gates.NAMES), "bands": told.request["bands"]}
    if told.sources:
        content["sources"] = told.sources
    return content | {
        "finished": finished,
        "counts": {
            "stories": len(rows),
            "topics": len({a.topic for _, _, a in stories}),
            "chars": offset,
            "rejected": len(rejected),
            "moved": sum(level != a.level for _, level, a in stories),
            "empty": {str(level): n for level, n in ledger.open_by_level().items()},
            "by_writer": {name: sum(a.writer == name for _, _, a in stories) for name in told.request["writers"]},
        },
        "attempts": attempts_by_writer(ledger.rows.values()),
        "timings": _timings(told, stories),
        "stories": rows,
        "rejected": [_row(a, a.level) | {"failed": list(failed)} for a, failed in rejected],
    }


def attempts_by_writer(rows) -> dict[str, dict[str, Any]]:
    """Return, by writer, how many attempts there were, how many each gate refused, and what they took in tokens."""
    told: dict[str, dict[str, Any]] = {}
    for row in rows:
        own = told.setdefault(row.writer, {"written": 0, "passed": 0, "failed": Counter(), "tokens_out": 0})
        own["written"] += 1
        own["passed"] += not row.failed
        own["failed"].update(row.failed)
        own["tokens_out"] += row.tokens_out or 0
        own["reasoned"] = own.get("reasoned", 0) + bool(row.reasoning)
    order = {gate: i for i, gate in enumerate(gates.NAMES)}
    for own in told.values():
        own["failed"] = dict(sorted(own["failed"].items(), key=lambda item: order.get(item[0], 99)))
    return dict(sorted(told.items()))


def _timings(told: Telling, stories) -> dict[str, Any]:
    own = {name: round(seconds, 3) for name, seconds in told.seconds.items()}
    timings: dict[str, Any] = {"seconds": round(sum(own.values()), 3), "by_writer": own}
    if any(a.seconds is not None for _, _, a in stories):
        timings["stories"] = [a.seconds for _, _, a in stories]
    return timings


def _row(attempt: Attempt, level: int) -> dict[str, Any]:
    row = {"writer": attempt.writer, "topic": attempt.topic, "name": attempt.name, "level": level}
    if level != attempt.level:
        row["asked"] = attempt.level
    row |= {"seed": attempt.seed, "finish": attempt.finish}
    if attempt.tokens_out is not None:
        row |= {"tokens_in": attempt.tokens_in, "tokens_out": attempt.tokens_out}
    if attempt.reasoning:
        row["reasoning"] = attempt.reasoning
    return row | {"mentions": attempt.mentions, "sha256": hashlib.sha256(attempt.story.encode()).hexdigest()}


def to_row(attempt: Attempt) -> dict[str, Any]:
    return asdict(attempt)


def from_row(row: dict[str, Any]) -> Attempt:
    return Attempt(**{**row, "failed": tuple(row["failed"])})
