"""Compose a corpus from its ledger: raw.txt, and the manifest with the origin of every story."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatsby_mlx import files
from gatsby_mlx.corpus import gates, manifest
from gatsby_mlx.corpus.journal import Journal, belongs
from gatsby_mlx.corpus.ledger import Attempt, Ledger, Slot
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import Plan, WriteConfig, plan, shuffled, story_seed, topics_sha256
from gatsby_mlx.errors import OutputError
from gatsby_mlx.story import document
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.writers.base import StoryJob, Writer

Fill = tuple[str, str, tuple[int, ...]]  # topic, writer, levels


@dataclass(frozen=True)
class Composition:
    """What a corpus is composed from.

    `sources` has what each writer reported of its model on this machine, `seconds` how long each one wrote.
    """

    request: dict[str, Any]
    plan: Plan
    ledger: Ledger
    sources: dict[str, Any]
    seconds: dict[str, float]

    @classmethod
    def of(cls, journal: Journal, request: dict[str, Any], made: Plan, ledger: Ledger) -> "Composition":
        """Return the composition of a ledger, with the sources and seconds that its journal has."""
        sources = {name: source for name in request["writers"] if (source := journal.get(f"source/{name}"))}
        return cls(request, made, ledger, sources, journal.get("seconds") or {})


def request(writers: Sequence[Writer], shares: Mapping[str, float], config: WriteConfig) -> dict[str, Any]:
    """Return what decides a corpus, in the form that journals and manifests have it."""
    content = {
        "writers": {w.name: w.about for w in writers},
        "plan": {
            "n": config.n,
            "seed": config.seed,
            "topics_sha256": None if config.topics is None else topics_sha256(config.topics),
        },
        "blend": {name: round(share, 6) for name, share in shares.items()},
        "bands": {str(level): list(band) for level, band in config.bands.items()},
        "obsession": config.obsession.to_json(),
    }
    return json.loads(json.dumps(content))


def with_obsession(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with its obsession in full; earlier versions wrote none, and meant the green light.

    Raises UsageError for a damaged one.
    """
    return {**request, "obsession": manifest.obsession_of(request).to_json()} if "bands" in request else dict(request)


def is_finished(out: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether `out` has the complete corpus of the request `wanted`; see `WriteRun.is_finished`."""
    path = out / "manifest.json"
    if path.is_file():
        content = manifest.read(path)
        known = with_obsession({key: content[key] for key in wanted if key in content})
        if known.get("plan") and wanted["plan"]["topics_sha256"] is None and not content.get("topics_given"):
            known["plan"] = {**known["plan"], "topics_sha256": None}  # of brainstormed topics, which nobody requests
        if known != wanted:
            raise OutputError(f"{out} holds another corpus", "Choose another --out")
        return content.get("finished", True) and (out / "raw.txt").exists() and bool(load(out))
    if not (out.is_dir() and all(p.name.startswith(".") or belongs(p.name) for p in out.iterdir())):
        files.check_free(out, "Choose another --out")
    return False


def compose(out: Path, composition: Composition, finished: bool) -> int:
    """Write manifest.json, then raw.txt, each atomically; return the number of stories.

    An older raw.txt is deleted first and the new one comes last: a folder with a raw.txt has both files, and they
    agree. Raises OutputError, also if there is no story.
    """
    ledger = composition.ledger
    stories = ledger.accepted()
    if not stories:
        n, failures = len(ledger.attempts), ledger.top_failures()
        message = f"None of {n} stories in {out} passes the gates ({failures})" if n else f"{out} has no story yet"
        raise OutputError(message, "Try another --blend, with another --out")
    obsession = manifest.obsession_of(composition.request)
    documents = [Document(Prime(a.topic, level, None, obsession), a.story, a.writer, a.name) for _, level, a in stories]
    content = _manifest(composition, documents, finished)
    with files.output_errors(str(out)):
        (out / "raw.txt").unlink(missing_ok=True)
    files.write_atomic(out / "manifest.json", manifest.dump(content))
    files.write_atomic(out / "raw.txt", document.render(documents))
    return len(documents)


def _manifest(composition: Composition, documents: Sequence[Document], finished: bool) -> dict[str, Any]:
    request, ledger = composition.request, composition.ledger
    stories, rejected = ledger.accepted(), ledger.rejected()
    entries, offset = [], 0
    for (_, level, attempt), d in zip(stories, documents, strict=True):
        entries.append(_entry(attempt, level) | {"offset": offset, "length": len(d.text)})
        offset += len(d.text)
    return {
        "schema": manifest.SCHEMA,
        "writers": request["writers"],
        "plan": {**request["plan"], "topics_sha256": composition.plan.topics_sha256},
        "topics_given": request["plan"]["topics_sha256"] is not None,
        "blend": request["blend"],
        "gates": list(gates.NAMES),
        "bands": request["bands"],
        "obsession": request["obsession"],
        **({"sources": composition.sources} if composition.sources else {}),
        "finished": finished,
        "counts": {
            "stories": len(entries),
            "topics": len({a.topic for _, _, a in stories}),
            "chars": offset,
            "rejected": len(rejected),
            "moved": sum(level != a.level for _, level, a in stories),
            "empty": {str(level): n for level, n in ledger.open_by_level().items()},
            "by_writer": {name: sum(a.writer == name for _, _, a in stories) for name in request["writers"]},
        },
        "attempts": attempts_by_writer(ledger.attempts.values()),
        "timings": _timings(composition, [a for _, _, a in stories]),
        "stories": entries,
        "rejected": [_entry(a, a.level) | {"failed": list(a.failed)} for a in rejected],
    }


def attempts_by_writer(attempts: Iterable[Attempt]) -> dict[str, dict[str, Any]]:
    """Return, by writer, how many attempts there were and passed, how many each gate refused, and their tokens."""
    totals: dict[str, dict[str, Any]] = {}
    for attempt in attempts:
        total = totals.setdefault(
            attempt.writer, {"written": 0, "passed": 0, "failed": Counter(), "tokens_out": 0, "reasoned": 0}
        )
        total["written"] += 1
        total["passed"] += not attempt.failed
        total["failed"].update(attempt.failed)
        total["tokens_out"] += attempt.tokens_out or 0
        total["reasoned"] += bool(attempt.reasoning)
        if attempt.forced is not None:
            guided = total.setdefault("guided", {"stories": 0, "forced": 0, "leaned": 0, "opened": 0})
            guided["stories"] += 1
            for name in ("forced", "leaned", "opened"):
                guided[name] += getattr(attempt, name) or 0
    order = {gate: i for i, gate in enumerate(gates.NAMES)}
    for total in totals.values():
        total["failed"] = dict(sorted(total["failed"].items(), key=lambda item: order.get(item[0], len(order))))
    return dict(sorted(totals.items()))


def _timings(composition: Composition, stories: Sequence[Attempt]) -> dict[str, Any]:
    by_writer = {name: round(seconds, 3) for name, seconds in composition.seconds.items()}
    timings: dict[str, Any] = {"seconds": round(sum(by_writer.values()), 3), "by_writer": by_writer}
    if any(a.seconds is not None for a in stories):
        timings["stories"] = [a.seconds for a in stories]
    return timings


def _entry(attempt: Attempt, level: int) -> dict[str, Any]:
    """Return the manifest's entry of an attempt that fills a slot of `level`."""
    entry = {"writer": attempt.writer, "topic": attempt.topic, "name": attempt.name, "level": level}
    if level != attempt.level:
        entry["asked"] = attempt.level
    entry |= {"seed": attempt.seed, "finish": attempt.finish}
    if attempt.tokens_out is not None:
        entry |= {"tokens_in": attempt.tokens_in, "tokens_out": attempt.tokens_out}
    if attempt.reasoning:
        entry["reasoning"] = attempt.reasoning
    if attempt.forced is not None:
        entry["guided"] = {"forced": attempt.forced, "leaned": attempt.leaned, "opened": attempt.opened}
    return entry | {"mentions": attempt.mentions, "sha256": hashlib.sha256(attempt.story.encode()).hexdigest()}


def fill_key(number: int) -> str:
    """Return where a journal has round `number` of its fills, from 0."""
    return f"fill/{number}" if number else "fill"


def fill_rounds(journal: Journal) -> list[Any]:
    """Return the rounds of fills that a journal has, as JSON has them."""
    rounds: list[Any] = []
    while (fills := journal.get(fill_key(len(rounds)))) is not None:
        rounds.append(fills)
    return rounds


def rounds_of(content: Iterable[Any]) -> list[list[Fill]]:
    """Return the rounds of fills that JSON has."""
    return [[(topic, writer, tuple(levels)) for topic, writer, levels in fills] for fills in content]


def add_slots(ledger: Ledger, made: Plan, rounds: Iterable[Sequence[Fill]], seed: int) -> None:
    """Add the slots of a plan to an empty ledger, and those of its rounds of fills."""
    writers = dict(made.topics)
    ledger.extend(Slot(job, writers[job.topic]) for job in plan(list(writers), made.names, seed))
    for fills in rounds:
        add_fill_slots(ledger, made, fills, seed)


def add_fill_slots(ledger: Ledger, made: Plan, fills: Iterable[Fill], seed: int) -> None:
    """Add the slots of fills; the heroes' names continue where the plan's slots end."""
    triples = shuffled([(topic, name, level) for topic, name, levels in fills for level in levels], seed)
    for i, (topic, name, level) in enumerate(triples, len(ledger.slots)):
        job = StoryJob(topic, made.names[i % len(made.names)], level, story_seed(seed, topic, level))
        ledger.extend([Slot(job, name)])


def assemble(out: Path) -> int:
    """Compose a corpus from what the journal in `out` has so far; return the number of stories.

    It can be called at any time. Raises OutputError if there is no journal, or no story that passes the gates yet.
    """
    with Journal(out, write=False) as journal:
        content, rounds, attempts = journal.get("plan"), fill_rounds(journal), journal.attempts()
        if content is None:
            raise OutputError(f"Nothing is written in {out} yet", f"Continue with: {journal.get('command')}")
        with journal.checked():
            request = with_obsession(journal.get("request"))
            made, seed = Plan.from_json(content), request["plan"]["seed"]
            ledger = Ledger((), seed, manifest.obsession_of(request).band)
            add_slots(ledger, made, rounds_of(rounds), seed)
            ledger.restore(attempts)
            return compose(out, Composition.of(journal, request, made, ledger), finished=False)
