"""Write a corpus: plan, write, judge, compose. Every step goes into a journal, so a stopped run can be resumed.

>>> from gatsby_mlx import house
>>> from gatsby_mlx.house import writer
>>> writers, names, config = [writer.HouseWriter()], house.NAMES, WriteConfig(n=5, seed=1925)
>>> run = WriteRun(writers, {"house": 1.0}, names, config, Path("stories"), bank=house.compose_topics)
>>> events = list(run)  # writes; the same run again resumes after whatever stopped it
>>> len(run.ledger.filled), run.failed  # writers that stopped, with their errors
(5, {})
"""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatsby_mlx import device
from gatsby_mlx.corpus import compose, gates
from gatsby_mlx.corpus.compose import Composition, Fill, fill_key, fill_rounds
from gatsby_mlx.corpus.duplicates import Duplicates
from gatsby_mlx.corpus.gates import DUPLICATE
from gatsby_mlx.corpus.journal import Journal
from gatsby_mlx.corpus.ledger import Attempt, Ledger
from gatsby_mlx.corpus.plan import Plan, WriteConfig, plan_fill
from gatsby_mlx.corpus.topics import brainstorm
from gatsby_mlx.device.ranks import Ranks
from gatsby_mlx.errors import OutputError, WriterError
from gatsby_mlx.foreign import device_error
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.writers.base import Draft, StoryJob, Writer
from gatsby_mlx.writers.prompted import PromptedWriter

GIVE_UP_AFTER = 200  # stories by one writer, none of them accepted
CHECK_EVERY = 20  # stories between two such checks
FEWER = "Close other programs, or let it write fewer stories at once: batch = 4 in its table of a blend file"
GIVE_UP_THINKING = 10  # drafts by one writer, all of them reasoning
MAX_PASSES = 4  # over all writers: near-duplicates that are noticed late are written again in the next pass


@dataclass(frozen=True)
class Thinking:
    """The writers are about to brainstorm topics."""


@dataclass(frozen=True)
class Loading:
    """A writer is about to be loaded, for `n` stories."""

    writer: str
    n: int


@dataclass(frozen=True)
class Written:
    """One judged attempt. If it failed no gate, it is in the corpus unless it turns out to be a near-duplicate."""

    attempt: Attempt


@dataclass(frozen=True)
class Stopped:
    """A writer stopped with an error."""

    writer: str
    error: Exception


@dataclass(frozen=True)
class Noted:
    """A writer said something while it worked: that it waits for a server, or that a field of requests is left out.

    It comes in the middle of a story, so the iterator cannot yield it: `WriteRun.listen` takes it.
    """

    writer: str
    text: str


@dataclass(frozen=True)
class Filling:
    """`n` new topics fill slots that stayed empty, with writers that reach their levels."""

    n: int


Event = Thinking | Loading | Written | Stopped | Noted | Filling


class WriteRun:
    """A run that writes the corpus of `config` to the folder `out`. Iterate over it to write.

    `writers` come in the order of the blend; `shares`, by their names, sum to 1; `names` are the heroes'. Two runs with
    the same arguments agree byte for byte (except for the manifest's `timings`), however often they were stopped, if
    the writers give the same draft for the same job. `bank` and `excluded_words` are those of `topics.brainstorm`.
    `command` is what a person can type to resume. With several `ranks` each writes its part of the topics, and the
    first composes the corpus.
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
        excluded_words: Collection[str] = (),
        command: str = "the command that started it",
        ranks: Ranks | None = None,
    ):
        self.writers, self.shares, self.names, self.config, self.out = list(writers), dict(shares), names, config, out
        self.bank, self.excluded_words, self.command, self.ranks = bank, excluded_words, command, ranks or Ranks()
        self.failed: dict[str, Exception] = {}
        self.ledger = Ledger((), config.seed, config.bands)
        self.rounds: list[list[Fill]] = []
        self._written: Counter[str] = Counter()
        self._signatures: dict[str, Any] = {}

    @property
    def request(self) -> dict[str, Any]:
        """What decides the corpus: a journal or a manifest with another request belongs to another corpus."""
        return compose.request(self.writers, self.shares, self.config)

    def listen(self, listener: Callable[[Noted], object]) -> None:
        """Give what the writers note to `listener`, at once."""
        for writer in self.writers:
            if isinstance(writer, PromptedWriter):
                writer.on_note = lambda text, name=writer.name: listener(Noted(name, text))

    def is_finished(self) -> bool:
        """Return whether `out` already has this corpus, complete.

        False if there is nothing yet, or only what a stopped run of the same plan left. Raises OutputError if `out`
        has anything else (hidden files aside), and CorpusError if it has this corpus, damaged.
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
            while not self.failed and (planned := self._plan_fill(journal)):
                yield Filling(planned)
                filled = len(self.ledger.filled)
                yield from self._passes(journal)
                if len(self.ledger.filled) == filled:  # hopeless: a round of new topics has filled nothing
                    break
            if not self.failed:
                self._finish(journal)

    def _check_request(self, journal: Journal) -> None:
        known = journal.get("request")
        if known is None:
            journal.set("request", self.request)
            journal.set("command", self.command)
            return
        with journal.checked():
            known = compose.with_obsession(known)
        if known != self.request:
            hint = f"Repeat the command that started it ({journal.get('command')}), or choose another --out"
            raise OutputError(f"{self.out} holds the journal of another corpus", hint)

    def _open_plan(self, journal: Journal) -> Iterator[Event]:
        """Read the plan from the journal, or make it and store it there; then restore what was written before."""
        content = self._first_known(journal.get("plan"))
        rounds = self._first_known(fill_rounds(journal) or None)
        if content is None:
            yield Thinking()
            try:
                content = self.ranks.broadcast(self._brainstorm().to_json() if self.ranks.first else None)
            except BaseException:
                journal.delete()  # it has nothing yet
                raise
        if journal.get("plan") is None:
            journal.set("plan", content)
        yield from (Stopped(name, error) for name, error in self.failed.items())
        self.failed.clear()
        attempts = journal.attempts()
        with journal.checked():
            self.plan = Plan.from_json(content)
            self.rounds = compose.rounds_of(rounds or ())
            compose.add_slots(self.ledger, self.plan, self.rounds, self.config.seed)
            self.ledger.restore(attempts)
        self._written.update(attempt.writer for attempt in attempts)

    def _first_known(self, value: Any) -> Any:
        """Return the value of the first rank whose value is not None."""
        return next((known for known in self.ranks.gather(value) if known is not None), None)

    def _brainstorm(self) -> Plan:
        def failed(writer: Writer, error: Exception) -> None:
            self.failed[writer.name] = device_error(error, FEWER) or error

        return brainstorm(self.writers, self.shares, self.config, self.names, self.bank, self.excluded_words, failed)

    def _passes(self, journal: Journal) -> Iterator[Event]:
        """Let every writer write what is due, until nothing is. Two ranks may have written near-duplicates."""
        for _ in range(MAX_PASSES):
            for writer in self.writers:
                if writer.name not in self.failed:
                    yield from self._write_all(writer, journal)
            if self.ranks.size == 1:
                return
            self._exchange(journal)
            if not self._reject_duplicates(journal, self.writers) or self.failed:
                return

    def _write_all(self, writer: Writer, journal: Journal) -> Iterator[Event]:
        """Write what is due of one writer, near-duplicates again; load it only if there is something to write."""
        topics = self.ledger.topics_of(writer.name)[self.ranks.rank :: self.ranks.size]
        try:
            jobs = self._due(writer, topics, journal)
            if not jobs:
                return
            yield Loading(writer.name, len(jobs))
            with writer as ready, self._timed(writer, journal), self._share_of_cores():
                journal.set(f"source/{writer.name}", ready.source)
                while jobs:
                    yield from self._write(ready, deque(jobs), journal)
                    jobs = self._due(writer, topics, journal)
        except OutputError:
            raise
        except Exception as error:  # a model's loader, template or kernel, or a server: the other writers continue
            self.failed[writer.name] = error = device_error(error, FEWER) or error
            yield Stopped(writer.name, error)

    @contextlib.contextmanager
    def _timed(self, writer: Writer, journal: Journal) -> Iterator[None]:
        """Add the seconds of the block to the writer's total in the journal, also if the block raises."""
        start = time.monotonic()
        try:
            yield
        finally:
            totals = journal.get("seconds") or {}
            journal.set("seconds", totals | {writer.name: totals.get(writer.name, 0) + time.monotonic() - start})

    @contextlib.contextmanager
    def _share_of_cores(self) -> Iterator[None]:
        """Give each of several processes on this machine its share of the BLAS threads: too many spin and wait."""
        if self.ranks.local == 1:
            yield
            return
        with device.blas_threads(max(1, device.n_workers() // self.ranks.local)):
            yield

    def _due(self, writer: Writer, topics: Sequence[str], journal: Journal) -> list[StoryJob]:
        """Return the jobs of `topics` to write next. If there are none, look for near-duplicates to write again."""
        jobs = self.ledger.due(topics)
        if not jobs and self._reject_duplicates(journal, [writer]):
            jobs = self.ledger.due(topics)
        return jobs

    def _write(self, writer: Writer, queue: deque[StoryJob], journal: Journal) -> Iterator[Event]:
        """Write the queue, retries included, and store the attempts, `writer.group` of them at a time."""
        pending: list[Attempt] = []
        source = writer.source
        try:
            for draft in writer.write(queue):
                attempt = self._judge(writer, draft)
                pending.append(attempt)
                if len(pending) >= writer.group:
                    journal.add(pending)
                    pending = []
                if writer.source != source:  # a server has refused a field
                    source = writer.source
                    journal.set(f"source/{writer.name}", source)
                queue.extend(self.ledger.add(attempt))
                yield Written(attempt)
                self._check_acceptance(writer)
        finally:
            if pending:
                journal.add(pending)

    def _judge(self, writer: Writer, draft: Draft) -> Attempt:
        job = draft.job
        prime = Prime(job.topic, job.level, None, self.config.obsession)
        heroes = frozenset(self.plan.names)
        document, failed = gates.judge(
            prime, draft.text, writer=writer.name, name=job.name, finish=draft.finish, heroes=heroes
        )
        return Attempt(
            writer=writer.name,
            topic=job.topic,
            level=job.level,
            attempt=self.ledger.attempt_of(job),
            name=job.name,
            seed=job.seed,
            draft=draft.text,
            story=document.story,
            mentions=document.mentions,
            finish=draft.finish,
            failed=tuple(failed),
            reasoning=draft.reasoning,
            tokens_in=draft.tokens_in,
            tokens_out=draft.tokens_out,
            seconds=None if draft.seconds is None else round(draft.seconds, 3),
            **(asdict(draft.guided) if draft.guided else {}),
        )

    def _check_acceptance(self, writer: Writer) -> None:
        """Raise WriterError for a writer of whose many stories none was accepted, or whose first ones are reasoning."""
        self._written[writer.name] += 1
        n = self._written[writer.name]
        if n == GIVE_UP_THINKING:
            own = [a for a in self.ledger.attempts.values() if a.writer == writer.name]
            if all(attempt.finish == "reasoning" for attempt in own):
                message = f"{writer.name} reasoned and wrote no story in its first {n} drafts"
                raise WriterError(
                    message, "Choose a model that does not reason, or give it more max_tokens in a blend file"
                )
        if n < GIVE_UP_AFTER or n % CHECK_EVERY or any(a.writer == writer.name for a in self.ledger.filled.values()):
            return
        message = (
            f"{writer.name} wrote {n} stories, and none passes the gates ({self.ledger.top_failures(writer.name)})"
        )
        raise WriterError(message, "Leave it out of --blend, or give it another temp in a blend file")

    def _reject_duplicates(self, journal: Journal, writers: Sequence[Writer]) -> bool:
        """Reject the stories of `writers` that are near-duplicates of others' or of their earlier ones.

        Return whether there were any.
        """
        names = {writer.name for writer in writers}
        stories = [(slot.writer in names, attempt) for slot, _, attempt in self.ledger.accepted()]
        stories.sort(key=lambda story: story[0])  # stable: the others' stories first, then in plan order
        seen = Duplicates(self._signatures)
        duplicates = [a.key for mine, a in stories if seen.add(a.key, a.story) is not None and mine]
        for key in duplicates:
            self.ledger.reject(key, DUPLICATE)
        if duplicates:
            journal.set_failed((key, self.ledger.attempts[key].failed) for key in duplicates)
        return bool(duplicates)

    def _exchange(self, journal: Journal) -> None:
        """Give every rank's journal and ledger the attempts of all ranks, and share which writers failed."""
        if self.ranks.size == 1:
            return
        attempts = [attempt.to_json() for attempt in self.ledger.attempts.values()]
        by_rank = self.ranks.gather([attempts, {name: str(error) for name, error in self.failed.items()}])
        everything = (Attempt.from_json(content) for attempts, _ in by_rank for content in attempts)
        new = [attempt for attempt in everything if attempt.key not in self.ledger.attempts]
        journal.add(new)
        self.ledger.restore(new)
        for _, failed in by_rank:
            for name, reason in failed.items():
                self.failed.setdefault(name, WriterError(f"{name} failed on another rank: {reason}"))

    def _plan_fill(self, journal: Journal) -> int:
        """Assign the stories that are missing to spare topics and to writers that reach their levels; store that.

        Return the number of new topics: 0 if nothing is missing, no topic is left, or no writer reaches what is open.
        """
        used = sum(len(fills) for fills in self.rounds)
        assigned = plan_fill(self.ledger.missing_by_level(self.config.n_topics), self.ledger.pass_rates(), self.shares)
        spare = zip(self.plan.spare[used:], assigned, strict=False)
        fills: list[Fill] = [(topic, name, levels) for topic, (name, levels) in spare]
        if fills:
            journal.set(fill_key(len(self.rounds)), fills)
            self.rounds.append(fills)
            compose.add_fill_slots(self.ledger, self.plan, fills, self.config.seed)
        return len(fills)

    def _finish(self, journal: Journal) -> None:
        if self.ranks.first:
            composition = Composition.of(journal, self.request, self.plan, self.ledger)
            compose.compose(self.out, composition, finished=True)
        if not self.ledger.rejected():  # the corpus has everything that the journal has
            journal.delete()
