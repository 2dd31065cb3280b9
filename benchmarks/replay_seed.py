"""The seed's 2,000 stories through our gates, as if just written: what passes, and the dial before and after.

    python benchmarks/replay_seed.py PATH/gatsby-2.raw.txt

A story that fails by its mentions alone moves to the level of its topic that it fits, if that is open, as in a run;
nothing can be written again, so what is empty stays empty. Then the same for the seed's broken first blend, drawn from
the same stories.
"""

import sys
from collections import Counter
from dataclasses import replace

from gatsby_mlx import text
from gatsby_mlx.cli.console import table
from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.corpus.ledger import Attempt, Ledger, Place
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import shuffled
from gatsby_mlx.prime import LEVELS, fold_topic
from gatsby_mlx.writers.base import StoryJob

BROKEN = {"granite": 0.40, "gemma": 0.30, "olmo": 0.15, "ministral": 0.15}
ORDER = ("olmo", "ministral", "gemma", "granite")


def main() -> None:
    documents = load(sys.argv[1]).documents
    short = {d.writer: next(name for name in ORDER if name in (d.writer or "")) for d in documents}
    documents = [replace(d, writer=short[d.writer]) for d in documents]
    print("## The blend as published\n")
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
    heroes = frozenset(d.name for d in documents if d.name)
    ledger, failed, passed = Ledger((), 0, attempts=1), {}, Counter()
    jobs = [(d, StoryJob(f"{d.writer}/{d.topic}", d.name or "", d.level, i)) for i, d in enumerate(documents)]
    ledger.extend(Place(job, d.writer or "") for d, job in jobs)
    attempts = []
    for d, job in jobs:
        cleaned = text.clean(d.story)
        told = replace(d, prime=replace(d.prime, topic=fold_topic(d.topic)), story=cleaned.story)
        own = gates.failures(told, cleaned.lost, heroes=heroes)
        failed.setdefault(d.writer, Counter()).update(own)
        passed[d.writer] += not own
        mentions = text.count_mentions(cleaned.story)
        row = Attempt(
            d.writer or "", job.topic, d.level, 0, job.name, job.seed, d.story, cleaned.story, mentions, "", tuple(own)
        )
        attempts.append(row)
    ledger.enter(attempts)
    accepted = [(level, row) for _, level, row in ledger.accepted()]
    names = [name for name in gates.NAMES if any(name in own for own in failed.values())]
    rows = []
    for writer in ORDER:
        n = sum(row.writer == writer for row in attempts)
        kept = sum(row.writer == writer for _, row in accepted)
        rows.append(
            [
                writer,
                str(n),
                *(str(failed[writer][g]) for g in names),
                str(passed[writer]),
                str(kept),
                f"{100 * kept / n:.0f}%",
            ]
        )
    print(table(["writer", "stories", *names, "passed", "with moves", "kept"], rows))
    before = [(row.level, row) for row in attempts]
    print("\nmean mentions before, by the level that was asked for (stories)\n")
    print(dial(before))
    print("\nand after, by the level of the place (stories; 0: the place stays empty)\n")
    print(dial(accepted))


def dial(placed: list[tuple[int, Attempt]]) -> str:
    rows = []
    for writer in (*ORDER, "all"):
        cells = []
        for level in LEVELS:
            own = [row.mentions for k, row in placed if k == level and writer in (row.writer, "all")]
            cells.append(f"{sum(own) / len(own):.2f} ({len(own)})" if own else "- (0)")
        rows.append([writer, *cells])
    return table(["writer", *(f"level {k}" for k in LEVELS)], rows)


if __name__ == "__main__":
    main()
