"""The baseline's 2,000 stories through our gates, as if just written: what passes, and the dial before and after.

    python benchmarks/replay_baseline.py PATH/gatsby-2.raw.txt

The baseline is gatsby-nanogpt-2. A story that fails only by its mentions moves to the level of its topic that it fits,
if that is open, as in a run. Nothing can be written again, so an empty slot stays empty. The same follows for the
baseline's broken first blend, drawn from the same stories. The dial is read in three ways: our mentions of the light in
the story; the baseline's count, every `green` in 480 characters that run on into the next document with its control
line; and every `green` up to the end of the story.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from gatsby_mlx.cli.console import table
from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.ledger import Attempt, Ledger, Slot
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import shuffled
from gatsby_mlx.evaluation.stories import BASELINE_CHARS
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.story.prime import LEVELS, Prime, fold_topic
from gatsby_mlx.writers.base import StoryJob

BROKEN = {"granite": 0.40, "gemma": 0.30, "olmo": 0.15, "ministral": 0.15}
ORDER = ("olmo", "ministral", "gemma", "granite")
COUNTS = ("mentions in the story", "green in 480, running on", "green in 480 of the story")


class Reading(NamedTuple):
    """A story at a level: its writer, and each of COUNTS."""

    writer: str
    level: int
    counts: tuple[int, ...]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", help="gatsby-2.raw.txt, with its manifest in the same folder")
    documents = load(arguments.parse_args().corpus).documents
    short = {d.writer: next(name for name in ORDER if name in (d.writer or "")) for d in documents}
    documents = [replace(d, writer=short[d.writer]) for d in documents]
    print("## The blend as published: olmo .30, ministral .30, gemma .20, granite .20\n")
    show(documents)
    print("\n## The broken first blend: granite .40, gemma .30, olmo .15, ministral .15\n")
    show(drawn(documents, BROKEN))


def drawn(documents: list[Document], shares: dict[str, float]) -> list[Document]:
    """Return the stories of as many topics as there are for these shares, in a fixed random order."""
    topics = {name: list(dict.fromkeys(d.topic for d in documents if d.writer == name)) for name in shares}
    n = int(min(len(topics[name]) / share for name, share in shares.items()))
    chosen = {(name, t) for name, share in shares.items() for t in shuffled(topics[name], 1925)[: round(n * share)]}
    return [d for d in documents if (d.writer, d.topic) in chosen]


def show(documents: list[Document]) -> None:
    attempts, ledger = judged(documents)
    accepted = [(level, attempt) for _, level, attempt in ledger.accepted()]
    print(gate_table(attempts, Counter(attempt.writer for _, attempt in accepted)))
    before, after = read([(attempt.level, attempt) for attempt in attempts]), read(accepted)
    print("\nslots after the gates, filled + empty\n")
    slots, full = (Counter((r.writer, r.level) for r in readings) for readings in (before, after))
    print(by_writer(lambda writer, level: filled(slots, full, writer, level)))
    for i, count in enumerate(COUNTS[:2]):
        for readings, when in ((before, "before, by the requested level"), (after, "after, by the level of the slot")):
            print(f"\n{count}: mean {when}\n")
            print(by_writer(lambda writer, level, i=i, readings=readings: mean(readings, i, level, writer)))
    print("\nall writers, each count before and after; `by share`: the writers' means, weighted as in the blend")
    print("(over those that fill the level); and how much of the count's variance the level and the writer explain\n")
    print(summary(before, after))


def judged(documents: list[Document]) -> tuple[list[Attempt], Ledger]:
    """Return every story as an attempt with the gates that it fails, and the ledger of these attempts."""
    heroes = frozenset(d.name for d in documents if d.name)
    ledger, attempts = Ledger((), 0, GREEN_LIGHT.band, max_attempts=1), []
    jobs = [StoryJob(f"{d.writer}/{d.topic}", d.name or "", d.level, i) for i, d in enumerate(documents)]
    ledger.extend(Slot(job, d.writer or "") for d, job in zip(documents, jobs, strict=True))
    for d, job in zip(documents, jobs, strict=True):
        prime = replace(d.prime, topic=fold_topic(d.topic))
        document, failed = gates.judge(prime, d.story, writer=d.writer, name=d.name, heroes=heroes)
        about = {"topic": job.topic, "level": d.level, "attempt": 0, "name": job.name, "seed": job.seed}
        texts = {"draft": d.story, "story": document.story, "mentions": document.mentions}
        attempts.append(Attempt(writer=d.writer or "", **about, **texts, finish="", failed=tuple(failed)))
    ledger.restore(attempts)
    return attempts, ledger


def gate_table(attempts: list[Attempt], kept: Counter[str]) -> str:
    failed = Counter((attempt.writer, gate) for attempt in attempts for gate in attempt.failed)
    names = [name for name in gates.NAMES if any(failed[writer, name] for writer in ORDER)]
    rows = []
    for writer in ORDER:
        stories = [attempt for attempt in attempts if attempt.writer == writer]
        n_passed = sum(not attempt.failed for attempt in stories)
        cells = [len(stories), *(failed[writer, g] for g in names), n_passed, kept[writer]]
        rows.append([writer, *map(str, cells), f"{100 * kept[writer] / len(stories):.0f}%"])
    return table(["writer", "stories", *names, "passed", "with moves", "kept"], rows)


def read(attempts: list[tuple[int, Attempt]]) -> list[Reading]:
    """Count in each (level, story). A story that runs on continues with the next one in the order of the plan."""
    texts = [Document(Prime(attempt.topic.split("/", 1)[1], level), attempt.story) for level, attempt in attempts]
    readings = []
    for i, (level, attempt) in enumerate(attempts):
        running_on = (attempt.story + "\n\n" + "".join(d.text for d in texts[i + 1 : i + 4]))[:BASELINE_CHARS]
        greens = [part.lower().count("green") for part in (running_on, attempt.story[:BASELINE_CHARS])]
        readings.append(Reading(attempt.writer, level, (attempt.mentions, *greens)))
    return readings


def by_writer(cell: Callable[[str, int], str]) -> str:
    rows = [[writer, *(cell(writer, level) for level in LEVELS)] for writer in (*ORDER, "all")]
    return table(["writer", *(f"level {k}" for k in LEVELS)], rows)


def filled(slots: Counter, full: Counter, writer: str, level: int) -> str:
    names = ORDER if writer == "all" else (writer,)
    n_full = sum(full[name, level] for name in names)
    return f"{n_full} + {sum(slots[name, level] for name in names) - n_full}"


def mean(readings: list[Reading], i: int, level: int, writer: str = "all") -> str:
    counts = [r.counts[i] for r in readings if r.level == level and writer in (r.writer, "all")]
    return f"{sum(counts) / len(counts):.2f} ({len(counts)})" if counts else "- (0)"


def summary(before: list[Reading], after: list[Reading]) -> str:
    shares, rows = Counter(r.writer for r in before), []
    for i, count in enumerate(COUNTS):
        for when, readings in (("before", before), ("after", after)):
            means = [mean(readings, i, level).split()[0] for level in LEVELS]
            parts = [f"{100 * explained(readings, i, key):.0f}%" for key in (lambda r: r.level, lambda r: r.writer)]
            rows.append([count, when, *means, *parts])
            if readings is after:  # before, they are the same
                cells = [f"{weighted(readings, i, level, shares):.2f}" for level in LEVELS]
                rows.append(["", "by share", *cells, "", ""])
    return table(["count", "when", *(f"level {k}" for k in LEVELS), "by level", "by writer"], rows)


def weighted(readings: list[Reading], i: int, level: int, shares: Counter[str]) -> float:
    counts = defaultdict(list)
    for r in readings:
        if r.level == level:
            counts[r.writer].append(r.counts[i])
    return sum(shares[w] * sum(c) / len(c) for w, c in counts.items()) / sum(shares[w] for w in counts)


def explained(readings: list[Reading], i: int, key: Callable[[Reading], object]) -> float:
    """Return the share of a count's variance that is between the groups of `key` (eta squared)."""
    groups = defaultdict(list)
    for r in readings:
        groups[key(r)].append(r.counts[i])
    counts = [n for group in groups.values() for n in group]
    mean = sum(counts) / len(counts)
    between = sum(len(group) * (sum(group) / len(group) - mean) ** 2 for group in groups.values())
    return between / sum((n - mean) ** 2 for n in counts)


if __name__ == "__main__":
    main()
