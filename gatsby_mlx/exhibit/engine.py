"""One batch for all visitors: a thread that tells their stories row by row, and hands each its news.

A visitor asks (`Engine.ask`) and holds a `Ticket`. It waits in a line of bounded length, takes as many rows of the
batch as it asked levels for, all at once, and leaves them when its stories end or it is cancelled. The thread never
waits for a reader: what nobody has taken yet is kept, and a story cannot be longer than the context.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import mlx.core as mx
import numpy as np

from gatsby_mlx import device, prime
from gatsby_mlx.errors import GatsbyError, UsageError
from gatsby_mlx.exhibit import light
from gatsby_mlx.exhibit.ticket import Ask, BusyError, End, StoppedError, Ticket
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.decode import Sampling, draw, uniforms
from gatsby_mlx.model.slots import Slots
from gatsby_mlx.text import count_mentions

BATCH = 16
WAITING = 32  # tickets that may wait in line
PULLS = 8  # pull readings that may wait
STORY_SECONDS = 15.0  # how long a story takes, before the first has been timed


class _Row:
    """One story in the batch, under one level."""

    def __init__(self, ticket: Ticket, level: int, draws: np.ndarray):
        self.ticket, self.level, self.draws = ticket, level, draws
        self.story = ticket.ask.story
        self.waiting = ""  # line ends that may turn out to be the blank line before the end
        self.n_drawn = 0
        self.begun = time.monotonic()

    @property
    def written(self) -> str:
        return self.story + self.waiting


class Engine:
    """The batch and its thread. A context manager: it starts on entry, and on exit all tickets are closed."""

    def __init__(self, checkpoint: Checkpoint, batch: int = BATCH, waiting: int = WAITING):
        if batch < len(prime.LEVELS):
            raise UsageError(f"Five at once need a batch of {len(prime.LEVELS)} or more, not {batch}", "Try --batch 16")
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.batch, self.n_waiting = batch, waiting
        self.block_size = checkpoint.model.config.block_size
        self.end, self.newline = self.tokenizer.end_id, self.tokenizer.ids.get("\n")
        self.slots: Slots
        self.rows: list[_Row | None] = [None] * batch
        self.ready = False
        self.failed: BaseException | None = None
        self._line: deque[Ticket] = deque()
        self._pulls: deque[tuple[Future, Iterator[np.ndarray | None]]] = deque()
        self._story_seconds = STORY_SECONDS
        self._closing = False
        self._work = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __enter__(self) -> "Engine":
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.close()
        self._thread.join()

    def close(self) -> None:
        """Let the thread end after the step that is under way; every ticket is told."""
        with self._work:
            self._closing = True
            self._work.notify()

    @property
    def n_live(self) -> int:
        """Rows of the batch that are telling."""
        return sum(row is not None for row in self.rows)

    @property
    def n_line(self) -> int:
        """Tickets that wait in line."""
        return len(self._line)

    def prime_ids(self, ask: Ask, level: int) -> list[int]:
        """Return the ids of prime and story so far; raise UsageError where they leave no room in the context."""
        given = prime.build(ask.topic, level, alphabet=self.tokenizer.alphabet)
        ids = self.tokenizer.encode(given) + light.encode_story(self.tokenizer, ask.story)
        if len(ids) >= self.block_size:
            told = f"The model sees {self.block_size} characters at a time, and {len(ids)} are written already"
            raise UsageError(told, "Begin a new story" if ask.story else "Choose a shorter topic")
        return ids

    def ask(self, ask: Ask, wake: Callable[[], None]) -> Ticket:
        """Put a visitor in line; `wake` is called, in the engine's thread, whenever there is news.

        Raises GatsbyError for what cannot be told, BusyError when the line is full, and StoppedError when nothing is
        told any more.
        """
        for level in ask.levels:
            self.prime_ids(ask, level)
        Sampling(ask.temp)
        ticket = Ticket(ask, wake)
        with self._work:
            self._check_open()
            if len(self._line) >= self.n_waiting:
                raise BusyError(self._retry_after_s())
            self._line.append(ticket)
            ticket.move_to(len(self._line))
            self._work.notify()
        return ticket

    def pull(self, topic: str, story: str) -> Future:
        """Return a future of `light.pull`'s numbers for a story, read between the steps of the batch."""
        future: Future = Future()
        with self._work:
            self._check_open()
            if len(self._pulls) >= PULLS:
                raise BusyError(PULLS)
            self._pulls.append((future, light.pull(self.model, self.tokenizer, topic, story)))
            self._work.notify()
        return future

    def _check_open(self) -> None:
        if self._closing or self.failed:
            raise StoppedError(f"The model has stopped: {self.failed!r}" if self.failed else "The exhibit is closing")

    def _retry_after_s(self) -> int:
        """Return how long the first in line is likely to wait: a story's seconds, shared by the rows it asks for."""
        n_rows = sum(len(t.ask.levels) for t in self._line) / max(1, len(self._line))
        return max(1, min(60, math.ceil(self._story_seconds * n_rows / self.batch)))

    # From here on, everything runs in the engine's thread.

    def _run(self) -> None:
        try:
            stream = mx.new_thread_local_stream(mx.default_device())  # pyright: ignore[reportArgumentType]
            # One BLAS thread: two that wait for each other stand still when a browser wants one of two cores
            # (benchmarks/RESULTS.md, Exhibit).
            with device.blas_threads(1), mx.stream(stream):
                self.slots = Slots(self.model, self.batch)
                self._warm_up()
                self.ready = True
                while self._wait():
                    self._sweep()
                    self._admit()
                    if self.n_live:
                        self._step()
                    self._read_on()
        except BaseException as error:
            self.failed = error
            logging.getLogger(__name__).exception("the engine has failed")
        finally:
            self._close_all()
            mx.clear_streams()  # one that is left over when its thread has ended aborts the process

    def _warm_up(self) -> None:
        """Go once through all that a first visitor needs, so that nobody waits for what is slow only once."""
        ids = self.prime_ids(Ask("a lost kitten", (1,), 0), 1)
        self.slots.prefill(0, ids)
        self.slots.step(draw(self.slots.logits, mx.zeros(self.batch), Sampling()))
        mx.eval(self.slots.logits, self.slots.glance([0], [ids[: light.T_MOST]]))
        self.slots.places[:] = -1

    def _wait(self) -> bool:
        """Sleep until there is work; return False when it is time to go."""
        with self._work:
            self._work.wait_for(lambda: self._closing or self._line or self._pulls or self.n_live)
            return not self._closing

    def _close_all(self) -> None:
        with self._work:
            self._closing = True
            tickets = {row.ticket for row in self.rows if row} | set(self._line)
            pulls = list(self._pulls)
            self._line.clear()
            self._pulls.clear()
        self.rows = [None] * self.batch
        for ticket in tickets:
            with ticket.tell() as news:
                news.closed = True
        for future, _ in pulls:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(StoppedError("The exhibit is closing"))

    def _sweep(self) -> None:
        """Free the rows and the places in line of those who have left."""
        for i, row in enumerate(self.rows):
            if row and row.ticket.cancelled:
                self._free(i)
        with self._work:
            if any(t.cancelled for t in self._line):
                self._line = deque(t for t in self._line if not t.cancelled)
                self._renumber()

    def _renumber(self) -> None:
        for place, ticket in enumerate(self._line, 1):
            ticket.move_to(place)

    def _free(self, i: int) -> None:
        self.rows[i] = None
        self.slots.release(i)

    def _admit(self) -> None:
        """Take those in line, in order, whose rows are free all at once."""
        while True:
            free = [i for i, row in enumerate(self.rows) if row is None]
            with self._work:
                if not self._line or len(self._line[0].ask.levels) > len(free):
                    return
                ticket = self._line.popleft()
                ticket.move_to(0)
                self._renumber()
            ask = ticket.ask
            for i, level in zip(free, ask.levels, strict=False):
                ids = self.prime_ids(ask, level)
                self.slots.prefill(i, ids)
                room = self.block_size - len(ids) + 1
                n = len(ask.story)
                self.rows[i] = _Row(ticket, level, uniforms(ask.seed, n + room)[n:])
            self._read_light([i for i in free if self.rows[i]])

    def _step(self) -> None:
        """Draw one character for every row, hand it over, and read the light where a word may begin."""
        live = [(i, row) for i, row in enumerate(self.rows) if row]
        u = np.zeros(self.batch, np.float32)
        temps = np.zeros(self.batch, np.float32)
        for i, row in live:
            u[i], temps[i] = row.draws[row.n_drawn], row.ticket.ask.temp
        drawn, uniform = None, mx.array(u)
        for temp in {row.ticket.ask.temp for _, row in live}:
            ids = draw(self.slots.logits, uniform, Sampling(temp))
            drawn = ids if drawn is None else mx.where(mx.array(temps == np.float32(temp)), ids, drawn)
        assert drawn is not None
        self.slots.step(drawn)
        mx.async_eval(self.slots.logits)
        for (i, row), new in zip(live, np.array(drawn)[[i for i, _ in live]].tolist(), strict=True):
            self._take(i, row, new)
        self._read_light([i for i, row in live if self.rows[i] and light.word_begins(row.written)])

    def _take(self, i: int, row: _Row, drawn: int) -> None:
        """Add one character to a row, and close it where its story is done."""
        row.n_drawn += 1
        character = self.tokenizer.alphabet[drawn]
        ended = drawn == self.end and row.waiting.endswith("\n\n")
        new = ""
        if character == "\n":
            row.waiting += character
        elif not ended:
            new, row.waiting = row.waiting + character, ""
            row.story += new
        if not ended and row.n_drawn < len(row.draws):
            if new:
                with row.ticket.tell() as news:
                    news.text[row.level] = news.text.get(row.level, "") + new
            return
        self._free(i)
        with row.ticket.tell() as news:
            if new:
                news.text[row.level] = news.text.get(row.level, "") + new
            finish = "end" if ended else "context"
            news.ends[row.level] = End(finish, len(row.story), count_mentions(row.story))
        self._story_seconds += 0.1 * (time.monotonic() - row.begun - self._story_seconds)

    def _read_light(self, rows: list[int]) -> None:
        there = {i: row for i in rows if (row := self.rows[i])}
        for i, p in light.nearness(self.slots, self.tokenizer, {i: row.written for i, row in there.items()}).items():
            row = there[i]
            with row.ticket.tell() as news:
                news.light.setdefault(row.level, []).append((len(row.written), p))

    def _read_on(self) -> None:
        """Do one piece of the pull reading that has waited longest."""
        if not self._pulls:
            return
        future, work = self._pulls[0]
        try:
            if future.running() or future.set_running_or_notify_cancel():
                result = next(work)
                if result is None:
                    return
                future.set_result(result)
        except GatsbyError as error:
            future.set_exception(error)
        with self._work:
            self._pulls.popleft()
