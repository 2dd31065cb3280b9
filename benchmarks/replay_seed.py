"""The seed's 2,000 stories through our gates, as if just written: what passes, and the dial before and after.

    python benchmarks/replay_seed.py PATH/gatsby-2.raw.txt

A story that fails by its mentions alone moves to the level of its topic that it fits, if that is open, as in a run;
nothing can be written again, so what is empty stays empty. Then the same for the seed's broken first blend, drawn from
the same stories. The dial is read in three ways: our mentions of the light in the whole story; the seed's own, every
`green` in 480 characters that run on into the next document, control line and all; and those up to the story's end.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from gatsby_mlx import text
from gatsby_mlx.cli.console import table
from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.corpus.ledger import Attempt, Ledger, Place
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import shuffled
from gatsby_mlx.evaluation.stories import SEED_CHARS
from gatsby_mlx.prime import LEVELS, Prime, fold_topic
from gatsby_mlx.writers.base import StoryJob

BROKEN = {"granite": 0.40, "gemma": 0.30, "olmo": 0.15, "ministral": 0.15}
ORDER = ("olmo", "ministral", "gemma", "granite")
COUNTS = ("mentions, whole story", "green in 480, running on", "green in 480, own story")


class Reading(NamedTuple):
    """A story at a level: whose it is, and what each of COUNTS finds in it."""

    writer: str
    level: int
    counts: tuple[int, ...]


def main() -> None:
    documents = load(sys.argv[1]).documents
    short = {d.writer: next(name for name in ORDER if name in (d.writer or "")) for d in documents}
    documents = [replace(d, writer=short[d.writer]) for d in documents]
    print("## The blend as published: olmo .30, ministral .30, gemma .20, granite .20\n")
    show(documents)
    print("\n## The broken first blend: granite .40, gemma .30, olmo .15, ministral .15\n")
    show(drawn(documents, BROKEN))


def drawn(documents: list[Document], shares: dict[str, float]) -> list[Document]:
    """Return the most topics that the stories hold in these shares, in an order fixed once for all."""
    topics = {name: list(dict.fromkeys(d.topic for d in documents if d.writer == name)) for name in shares}
    n = int(min(len(topics[name]) / share for name, share in shares.items()))
    kept = {(name, t) for name, share in shares.items() for t in shuffled(topics[name], 1925)[: round(n * share)]}
    return [d for d in documents if (d.writer, d.topic) in kept]


def show(documents: list[Document]) -> None:
    attempts, ledger = judged(documents)
    accepted = [(level, row) for _, level, row in ledger.accepted()]
    print(gate_table(attempts, Counter(row.writer for _, row in accepted)))
    before, after = read([(row.level, row) for row in attempts]), read(accepted)
    print("\nplaces after the gates, filled + empty\n")
    places = Counter((r.writer, r.level) for r in before)
    print(by_writer(lambda writer, level: filled(places, Counter((r.writer, r.level) for r in after), writer, level)))
    for i, count in enumerate(COUNTS[:2]):
        for readings, when in ((before, "before, by the level asked for"), (after, "after, by the level of the place")):
            print(f"\n{count}: mean {when}\n")
            print(by_writer(lambda writer, level, i=i, own=readings: mean(own, i, level, writer)))
    print("\nall writers, each count before and after; `by share`: the writers' means, weighted as the blend has them")
    print("(over those that fill the level); and how much of the count's variance the level and the writer explain\n")
    print(summary(before, after))


def judged(documents: list[Document]) -> tuple[list[Attempt], Ledger]:
    """Return every story as a judged attempt, and the ledger that holds them."""
    heroes = frozenset(d.name for d in documents if d.name)
    ledger, attempts = Ledger((), 0, attempts=1), []
    jobs = [StoryJob(f"{d.writer}/{d.topic}", d.name or "", d.level, i) for i, d in enumerate(documents)]
    ledger.extend(Place(job, d.writer or "") for d, job in zip(documents, jobs, strict=True))
    for d, job in zip(documents, jobs, strict=True):
        cleaned = text.clean(d.story)
        told = replace(d, prime=replace(d.prime, topic=fold_topic(d.topic)), story=cleaned.story)
        failed = tuple(gates.failures(told, cleaned.lost, heroes=heroes))
        about = {"topic": job.topic, "level": d.level, "attempt": 0, "name": job.name, "seed": job.seed}
        texts = {"draft": d.story, "story": cleaned.story, "mentions": text.count_mentions(cleaned.story)}
        attempts.append(Attempt(writer=d.writer or "", **about, **texts, finish="", failed=failed))
    ledger.enter(attempts)
    return attempts, ledger


def gate_table(attempts: list[Attempt], kept: Counter[str]) -> str:
    failed = Counter((row.writer, gate) for row in attempts for gate in row.failed)
    names = [name for name in gates.NAMES if any(failed[writer, name] for writer in ORDER)]
    rows = []
    for writer in ORDER:
        own = [row for row in attempts if row.writer == writer]
        cells = [len(own), *(failed[writer, g] for g in names), sum(not row.failed for row in own), kept[writer]]
        rows.append([writer, *map(str, cells), f"{100 * kept[writer] / len(own):.0f}%"])
    return table(["writer", "stories", *names, "passed", "with moves", "kept"], rows)


def read(placed: list[tuple[int, Attempt]]) -> list[Reading]:
    """Count in each story, those that run on run into the one after it in the plan's order."""
    texts = [Document(Prime(row.topic.split("/", 1)[1], level), row.story) for level, row in placed]
    found = []
    for i, (level, row) in enumerate(placed):
        on = (row.story + "\n\n" + "".join(d.text for d in texts[i + 1 : i + 4]))[:SEED_CHARS]
        greens = [cut.lower().count("green") for cut in (on, row.story[:SEED_CHARS])]
        found.append(Reading(row.writer, level, (row.mentions, *greens)))
    return found


def by_writer(cell: Callable[[str, int], str]) -> str:
    rows = [[writer, *(cell(writer, level) for level in LEVELS)] for writer in (*ORDER, "all")]
    return table(["writer", *(f"level {k}" for k in LEVELS)], rows)


def filled(places: Counter, there: Counter, writer: str, level: int) -> str:
    names = ORDER if writer == "all" else (writer,)
    full = sum(there[name, level] for name in names)
    return f"{full} + {sum(places[name, level] for name in names) - full}"


def mean(readings: list[Reading], i: int, level: int, writer: str = "all") -> str:
    own = [r.counts[i] for r in readings if r.level == level and writer in (r.writer, "all")]
    return f"{sum(own) / len(own):.2f} ({len(own)})" if own else "- (0)"


def summary(before: list[Reading], after: list[Reading]) -> str:
    shares, rows = Counter(r.writer for r in before), []
    for i, count in enumerate(COUNTS):
        for when, readings in (("before", before), ("after", after)):
            plain = [mean(readings, i, level).split()[0] for level in LEVELS]
            told = [f"{100 * explained(readings, i, key):.0f}%" for key in (lambda r: r.level, lambda r: r.writer)]
            rows.append([count, when, *plain, *told])
            if readings is after:  # before, they are the same
                cells = [f"{weighted(readings, i, level, shares):.2f}" for level in LEVELS]
                rows.append(["", "by share", *cells, "", ""])
    return table(["count", "when", *(f"level {k}" for k in LEVELS), "by level", "by writer"], rows)


def weighted(readings: list[Reading], i: int, level: int, shares: Counter[str]) -> float:
    own = defaultdict(list)
    for r in readings:
        if r.level == level:
            own[r.writer].append(r.counts[i])
    return sum(shares[w] * sum(c) / len(c) for w, c in own.items()) / sum(shares[w] for w in own)


def explained(readings: list[Reading], i: int, key: Callable[[Reading], object]) -> float:
    """Return the share of a count's variance that lies between the groups of `key` (eta squared)."""
    groups = defaultdict(list)
    for r in readings:
        groups[key(r)].append(r.counts[i])
    everything = [n for own in groups.values() for n in own]
    middle = sum(everything) / len(everything)
    between = sum(len(own) * (sum(own) / len(own) - middle) ** 2 for own in groups.values())
    return between / sum((n - middle) ** 2 for n in everything)


if __name__ == "__main__":
    main()
