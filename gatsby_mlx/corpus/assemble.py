"""From a journal to a corpus: the places of its plan, what was written for them, and what the manifest tells."""

from pathlib import Path
from typing import Any

from gatsby_mlx.corpus import compose
from gatsby_mlx.corpus.journal import Journal
from gatsby_mlx.corpus.ledger import Ledger, Place
from gatsby_mlx.corpus.plan import Plan, plan, shuffled, story_seed
from gatsby_mlx.errors import OutputError
from gatsby_mlx.writers.base import StoryJob


def enter(ledger: Ledger, made: Plan, filled: list | None, seed: int) -> None:
    """Enter the places of a plan, and those of a fill if there was one."""
    owner = dict(made.topics)
    ledger.extend(Place(job, owner[job.topic]) for job in plan(list(owner), made.names, seed))
    enter_fill(ledger, made, filled or [], seed)


def enter_fill(ledger: Ledger, made: Plan, filled: list, seed: int) -> None:
    """Enter the places of a fill, rows of topic, writer and levels: its heroes go on where the plan's end."""
    triples = shuffled([(topic, name, level) for topic, name, levels in filled for level in levels], seed)
    for i, (topic, name, level) in enumerate(triples, len(ledger.places)):
        job = StoryJob(topic, made.names[i % len(made.names)], level, story_seed(seed, topic, level))
        ledger.extend([Place(job, name)])


def telling(journal: Journal, request: dict[str, Any], made: Plan, ledger: Ledger) -> compose.Telling:
    """Return what a journal tells of the corpus that `ledger` holds, for `compose`."""
    sources = {name: found for name in request["writers"] if (found := journal.fact(f"source/{name}"))}
    return compose.Telling(request, made, ledger, sources, journal.fact("seconds") or {})


def assemble(out: Path) -> int:
    """Compose a corpus from what the journal in `out` has, at any time; return how many stories it holds.

    Raises OutputError where there is no journal, or no story that passes the gates yet.
    """
    with Journal(out, write=False) as journal:
        request, content = journal.fact("request"), journal.fact("plan")
        if content is None:
            raise OutputError(f"Nothing is written in {out} yet", f"Go on with: {journal.fact('command')}")
        filled, attempts = journal.fact("fill"), journal.attempts()
        with journal.sound():
            made, seed = Plan.from_json(content), request["plan"]["seed"]
            ledger = Ledger((), seed, compose.bands_of(request))
            enter(ledger, made, filled, seed)
            ledger.enter(attempts)
        return compose.compose(out, telling(journal, request, made, ledger), finished=False)
