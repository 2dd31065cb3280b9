"""Writing a corpus: plan, write, judge, compose. raw.txt comes last, so a folder that has it has it all."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gatsby_mlx import files, text
from gatsby_mlx.corpus import document, gates, manifest
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import plan, story_seed
from gatsby_mlx.errors import OutputError, UsageError
from gatsby_mlx.prime import LEVELS, Prime
from gatsby_mlx.writers.base import Draft, StoryJob, Writer

ATTEMPTS = 5


@dataclass(frozen=True)
class WriteConfig:
    """What decides a corpus, byte for byte, together with its writer and topics: how many stories, and the seed."""

    n: int
    seed: int

    def __post_init__(self):
        if self.n < len(LEVELS) or self.n % len(LEVELS):
            told = f"A corpus has every topic at {len(LEVELS)} levels: its stories are a multiple of that, not {self.n}"
            raise UsageError(told, f"Try --n {max(len(LEVELS), round(self.n / len(LEVELS)) * len(LEVELS))}")


@dataclass(frozen=True)
class Written:
    """One judged attempt: its document, and the gates it failed (none: it is in the corpus)."""

    job: StoryJob
    document: Document
    draft: Draft
    failed: tuple[str, ...]


def write_stories(writer: Writer, jobs: Sequence[StoryJob], seed: int) -> Iterator[Written]:
    """Yield every attempt at `jobs`; a story that a gate refuses is tried again with a new seed, ATTEMPTS times."""
    for attempt in range(1, ATTEMPTS + 1):
        refused = []
        for draft in writer.write(jobs):
            job = draft.job
            cleaned = text.clean(draft.text)
            told = Document(Prime(job.topic, job.level), cleaned.story, writer.name, job.name)
            failed = tuple(gates.failures(told, cleaned.lost))
            if failed:
                refused.append(replace(job, seed=story_seed(seed, job.topic, job.level, attempt)))
            yield Written(job, told, draft, failed)
        jobs = refused
        if not jobs:
            return


def is_finished(out: Path, writer: Writer, config: WriteConfig, topics: Sequence[str] | None = None) -> bool:
    """Tell whether `out` holds this very corpus already, whole (without `topics`: on whatever topics it is).

    False where there is nothing, or what a stopped run of the same plan left. Raises OutputError if `out` holds
    anything else (hidden files aside), and CorpusError if it is this corpus, damaged.
    """
    path = out / "manifest.json"
    if path.is_file():
        content = manifest.read(path)
        told = content.get("plan", {}) | ({"topics_sha256": None} if topics is None else {})
        if told != _plan(config, topics) or content.get("writers") != _writers(writer):
            raise OutputError(f"{out} holds another corpus", "Choose another --out")
        return (out / "raw.txt").exists() and bool(load(out))
    if out.exists() and (not out.is_dir() or any(not p.name.startswith(".") for p in out.iterdir())):
        raise OutputError(f"{out} exists and is not empty", "Choose another --out")
    return False


def _plan(config: WriteConfig, topics: Sequence[str] | None) -> dict[str, Any]:
    digest = hashlib.sha256("\n".join(topics).encode()).hexdigest() if topics is not None else None
    return {**asdict(config), "topics_sha256": digest}


def _writers(writer: Writer) -> dict[str, Any]:
    return {writer.name: json.loads(json.dumps(writer.about))}  # as a manifest gives it back


def write_corpus(
    writer: Writer, topics: Sequence[str], names: Sequence[str], config: WriteConfig, out: Path
) -> Iterator[Written]:
    """Write the corpus of `config` to `out`, yielding each attempt; raw.txt and manifest.json come at the end.

    Two runs with one writer, config and topics agree byte for byte, the manifest's `timings` aside. A corpus that is
    finished already is left alone and yields nothing. Raises OutputError, also where no story passes the gates, and
    UsageError if `topics` are not as many as the config needs.
    """
    if len(set(topics)) != len(topics) or len(topics) * len(LEVELS) != config.n:
        told = f"{config.n} stories need {config.n // len(LEVELS)} distinct topics, not {len(set(topics))}"
        raise UsageError(told, "Give as many topics, or ask for other stories with --n")
    if is_finished(out, writer, config, topics):
        return
    begun = time.monotonic()
    jobs = plan(topics, names, config.seed)
    accepted: dict[tuple[str, int], Written] = {}
    rejected = []
    for written in write_stories(writer, jobs, config.seed):
        if written.failed:
            rejected.append(written)
        else:
            accepted[written.job.topic, written.job.level] = written
        yield written
    stories = [accepted[job.topic, job.level] for job in jobs if (job.topic, job.level) in accepted]
    if not stories:
        raise OutputError(f"The writer {writer.name} wrote no story that passes the gates", "Try another --writer")
    with files.output_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
    content = {"schema": manifest.SCHEMA, "writers": _writers(writer), "plan": _plan(config, topics)}
    content |= _manifest(writer, stories, rejected) | {"timings": {"seconds": round(time.monotonic() - begun, 3)}}
    files.write_atomic(out / "manifest.json", manifest.dump(content))
    files.write_atomic(out / "raw.txt", document.render(w.document for w in stories))


def _manifest(writer: Writer, stories: Sequence[Written], rejected: Sequence[Written]) -> dict[str, Any]:
    rows, offset = [], 0
    for written in stories:
        rows.append(_row(written) | {"offset": offset, "length": len(written.document.text)})
        offset += len(written.document.text)
    return {
        "blend": {writer.name: 1.0},
        "gates": list(gates.GATES),
        "bands": {str(level): list(band) for level, band in gates.BANDS.items()},
        "counts": {
            "stories": len(stories),
            "topics": len({w.job.topic for w in stories}),
            "chars": offset,
            "rejected": len(rejected),
            "by_writer": {writer.name: len(stories)},
        },
        "stories": rows,
        "rejected": [_row(w) | {"failed": list(w.failed)} for w in rejected],
    }


def _row(written: Written) -> dict[str, Any]:
    job, draft = written.job, written.draft
    row = {"writer": written.document.writer, **asdict(job), "finish": draft.finish}
    if draft.tokens_out is not None:
        row |= {"tokens_in": draft.tokens_in, "tokens_out": draft.tokens_out}
    row["mentions"] = text.count_mentions(written.document.story)
    return row | {"sha256": hashlib.sha256(written.document.story.encode()).hexdigest()}
