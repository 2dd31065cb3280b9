"""Writing a corpus: plan, write, judge, compose; every step of it journalled, so that a stopped run goes on.

run = Run(writers, shares, names, WriteConfig(n=2000, seed=1925), out)
for event in run:          # writes; the same run again, after whatever stopped it, goes on
    ...
run.failed                 # writers that could not go on, with their errors: their share is left for another run
"""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatsby_mlx import text
from gatsby_mlx.corpus import assemble, compose, gates
from gatsby_mlx.corpus.document import Document
from gatsby_mlx.corpus.duplicates import Duplicates
from gatsby_mlx.corpus.gates import DUPLICATE
from gatsby_mlx.corpus.journal import Journal
from gatsby_mlx.corpus.ledger import Attempt, Ledger
from gatsby_mlx.corpus.plan import Plan, WriteConfig, fill
from gatsby_mlx.corpus.topics import brainstorm
from gatsby_mlx.device.ranks import Alone, Ranks
from gatsby_mlx.errors import OutputError, WriterError
from gatsby_mlx.prime import Prime
from gatsby_mlx.writers.base import Draft, StoryJob, Writer

HOPELESS = 200  # stories by one writer of which none was ever accepted: it is stopped
PASSES = 4  # over all writers: near-duplicates found late are written again in the next


@dataclass(frozen=True)
class Thinking:
    """The topics are being thought of."""


@dataclass(frozen=True)
class Loading:
    """A writer is about to be loaded, for `n` stories."""

    writer: str
    n: int


@dataclass(frozen=True)
class Written:
    """One judged attempt; if it failed no gate, it is in the corpus, unless something like it is."""

    attempt: Attempt


@dataclass(frozen=True)
class Stopped:
    """A writer could not go on."""

    writer: str
    error: Exception


@dataclass(frozen=True)
class Filling:
    """`n` places stayed empty and are given to new topics by writers that reach their levels."""

    n: int


Event = Thinking | Loading | Written | Stopped | Filling


class Run:
    """A run that writes the corpus of `config` to the folder `out`; iterate over it to make it go.

    `writers` in the order of the blend, `shares` by their names, summing to 1; `names` are the heroes'. Two runs with
    the same arguments agree byte for byte, the manifest's `timings` aside, however often they were stopped, as far as
    the writers give the same draft for the same job. `bank` and `kept_out` as `topics.brainstorm` takes them.
    `command` is what a person can type to go on. With several `ranks` each writes its part of the topics, and rank 0
    composes.
    """

    def __init__(
        self,
        writers: Sequence[Writer],
        shares: Mapping[str, float],
        names: Sequence[str],
        config: WriteConfig,
        out: Path,
        *,
        bank: Callable[[int, int], list[str]],
        kept_out: Collection[str] = (),
        command: str = "the command it began with",
        ranks: Ranks | None = None,
    ):
        self.writers, self.shares, self.names, self.config, self.out = list(writers), dict(shares), names, config, out
        self.bank, self.kept_out, self.command, self.ranks = bank, kept_out, command, ranks or Alone()
        self.failed: dict[str, Exception] = {}
        self.ledger = Ledger((), config.seed, config.levels)
        self.fills: list = []
        self._written: Counter[str] = Counter()
        self._signatures: dict[str, Any] = {}

    @property
    def request(self) -> dict[str, Any]:
        """What decides the corpus: a journal or a manifest of another request is another corpus."""
        return compose.request(self.writers, self.shares, self.config)

    def is_finished(self) -> bool:
        """Tell whether `out` holds this very corpus already, whole.

        False where there is nothing, or what a stopped run of the same plan left. Raises OutputError if `out` holds
        anything else (hidden files aside), and CorpusError if it is this corpus, damaged.
        """
        return compose.is_finished(self.out, self.request)

    def __iter__(self) -> Iterator[Event]:
        if self.is_finished():
            return
        with Journal(self.out, self.ranks.rank) as journal:
            self._check_request(journal)
            yield from self._open_plan(journal)
            self._exchange(journal)
            yield from self._passes(journal)
            if any(self.ledger.open_by_level().values()) and not self.failed and not self.fills:
                self._open_fill(journal)
                if self.fills:
                    yield Filling(len(self.fills))
                    yield from self._passes(journal)
            if not self.failed:
                self._finish(journal)

    def _check_request(self, journal: Journal) -> None:
        known = journal.fact("request")
        if known is None:
            journal.tell("request", self.request)
            journal.tell("command", self.command)
        elif known != self.request:
            cure = f"Repeat what it began with ({journal.fact('command')}), or choose another --out"
            raise OutputError(f"{self.out} holds the journal of another corpus", cure)

    def _open_plan(self, journal: Journal) -> Iterator[Event]:
        """Read the plan from the journal, or make it and keep it there; then enter what was written before."""
        content, filled = self._first(journal.fact("plan")), self._first(journal.fact("fill"))
        if content is None:
            yield Thinking()
            try:
                content = self._first(self._brainstorm().to_json() if self.ranks.rank == 0 else None)
            except BaseException:
                journal.delete()  # it holds nothing yet
                raise
        if journal.fact("plan") is None:
            journal.tell("plan", content)
        yield from (Stopped(name, error) for name, error in self.failed.items())
        self.failed.clear()
        attempts = journal.attempts()
        with journal.sound():
            self.plan, self.fills = Plan.from_json(content), list(filled or ())
            assemble.enter(self.ledger, self.plan, filled, self.config.seed)
            self.ledger.enter(attempts)
        self._written.update(attempt.writer for attempt in attempts)

    def _first(self, value: Any) -> Any:
        """Return the value of the first rank that has one."""
        return next((found for found in self.ranks.gather(value) if found is not None), None)

    def _brainstorm(self) -> Plan:
        def failed(writer: Writer, error: Exception) -> None:
            self.failed[writer.name] = error

        return brainstorm(self.writers, self.shares, self.config, self.names, self.bank, self.kept_out, failed)

    def _passes(self, journal: Journal) -> Iterator[Event]:
        """Let every writer write what is due, until nothing is: two ranks may have written the same story twice."""
        for _ in range(PASSES):
            for writer in self.writers:
                if writer.name not in self.failed:
                    yield from self._write_all(writer, journal)
            if self.ranks.size == 1:
                return
            self._exchange(journal)
            if not self._refuse_duplicates(journal, self.writers) or self.failed:
                return

    def _own_topics(self, writer: Writer) -> list[str]:
        return self.ledger.topics_of(writer.name)[self.ranks.rank :: self.ranks.size]

    def _write_all(self, writer: Writer, journal: Journal) -> Iterator[Event]:
        """Write what is due of one writer, near-duplicates anew; load it only if there is something to write."""
        topics = self._own_topics(writer)
        try:
            jobs = self._due_after_duplicates(writer, topics, journal)
            if not jobs:
                return
            yield Loading(writer.name, len(jobs))
            with writer as ready, self._timed(writer, journal):
                journal.tell(f"source/{writer.name}", ready.source)
                while jobs:
                    yield from self._write(ready, deque(jobs), journal)
                    jobs = self._due_after_duplicates(writer, topics, journal)
        except OutputError:
            raise
        except Exception as error:  # of a model's loader, template or kernels, or a server: the others go on
            self.failed[writer.name] = error
            yield Stopped(writer.name, error)

    @contextlib.contextmanager
    def _timed(self, writer: Writer, journal: Journal) -> Iterator[None]:
        """Add the seconds of the block to those that the writer took before, also when it is left by an error."""
        begun = time.monotonic()
        try:
            yield
        finally:
            told = journal.fact("seconds") or {}
            journal.tell("seconds", told | {writer.name: told.get(writer.name, 0) + time.monotonic() - begun})

    def _due_after_duplicates(self, writer: Writer, topics: list[str], journal: Journal) -> list[StoryJob]:
        jobs = self.ledger.due(topics)
        if not jobs and self._refuse_duplicates(journal, [writer]):
            jobs = self.ledger.due(topics)
        return jobs

    def _write(self, writer: Writer, queue: deque[StoryJob], journal: Journal) -> Iterator[Event]:
        """Write the queue, retries included, and keep each draft; in groups where the writer costs nothing."""
        kept: list[Attempt] = []
        try:
            for draft in writer.write(queue):
                attempt = self._judge(writer, draft)
                kept.append(attempt)
                if len(kept) >= writer.group:
                    journal.add(kept)
                    kept = []
                queue.extend(self.ledger.add(attempt))
                yield Written(attempt)
                self._check_hope(writer)
        finally:
            if kept:
                journal.add(kept)

    def _judge(self, writer: Writer, draft: Draft) -> Attempt:
        job, cleaned = draft.job, text.clean(draft.text)
        told = Document(Prime(job.topic, job.level), cleaned.story, writer.name, job.name)
        failed = gates.failures(told, cleaned.lost, draft.finish, self.config.levels, frozenset(self.plan.names))
        return Attempt(
            writer=writer.name,
            topic=job.topic,
            level=job.level,
            attempt=self.ledger.attempt_of(job),
            name=job.name,
            seed=job.seed,
            draft=draft.text,
            story=cleaned.story,
            mentions=text.count_mentions(cleaned.story),
            finish=draft.finish,
            failed=tuple(failed),
            reasoning=draft.reasoning,
            tokens_in=draft.tokens_in,
            tokens_out=draft.tokens_out,
            seconds=None if draft.seconds is None else round(draft.seconds, 3),
        )

    def _check_hope(self, writer: Writer) -> None:
        self._written[writer.name] += 1
        n = self._written[writer.name]
        if n < HOPELESS or n % 20 or any(row.writer == writer.name for row in self.ledger.filled.values()):
            return
        why = self.ledger.failings(writer.name)
        told = f"{writer.name} wrote {n} stories, and none passes the gates ({why})"
        raise WriterError(told, "Leave it out of --blend, or give it another temp in a blend file")

    def _refuse_duplicates(self, journal: Journal, writers: Sequence[Writer]) -> bool:
        """Refuse the stories of `writers` that are near-duplicates of others, or of their own earlier ones."""
        names = {w.name for w in writers}
        rows = [(p.writer in names, attempt) for p, _, attempt in self.ledger.accepted()]
        seen, verdicts = Duplicates(self._signatures), []
        for mine, attempt in sorted(
            rows, key=lambda row: row[0]
        ):  # stable: the others' first, then in the plan's order
            if seen.add(attempt.key, attempt.story) is not None and mine:
                verdicts.append(attempt.key)
        for key in verdicts:
            self.ledger.refuse(key, DUPLICATE)
        if verdicts:
            journal.refuse((key, self.ledger.rows[key].failed) for key in verdicts)
        return bool(verdicts)

    def _exchange(self, journal: Journal) -> None:
        """Make every rank's journal and ledger whole, and share which writers failed."""
        if self.ranks.size == 1:
            return
        own = [compose.to_row(row) for row in self.ledger.rows.values()]
        everything = self.ranks.gather([own, {name: str(error) for name, error in self.failed.items()}])
        rows = [compose.from_row(row) for rows, _ in everything for row in rows]
        new = [row for row in rows if row.key not in self.ledger.rows]
        journal.add(new)
        self.ledger.enter(new)
        for _, failed in everything:
            for name, why in failed.items():
                self.failed.setdefault(name, WriterError(f"{name} failed on another rank: {why}"))

    def _open_fill(self, journal: Journal) -> None:
        """Give the places that stayed empty to spare topics, by writers that reach their levels; keep it as a plan."""
        asked = fill(self.ledger.open_by_level(), self.ledger.reach(), self.shares)
        self.fills = [
            [topic, name, list(levels)] for topic, (name, levels) in zip(self.plan.spare, asked, strict=False)
        ]
        journal.tell("fill", self.fills)
        assemble.enter_fill(self.ledger, self.plan, self.fills, self.config.seed)

    def _finish(self, journal: Journal) -> None:
        if self.ranks.rank == 0:
            compose.compose(self.out, assemble.telling(journal, self.request, self.plan, self.ledger), finished=True)
        if not self.ledger.rejected():  # then it has nothing to tell that the corpus does not
            journal.delete()
