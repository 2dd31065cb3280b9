"""One batch for all visitors: a thread tells their stories together and passes each visitor its events.

A visitor submits parameters (`Engine.submit`) and gets a `StoryRequest`. The request waits in a queue of limited
length. It takes one slot of the batch for each level, all at the same time, and frees them when its stories end or the
visitor cancels. One address can have a share of the queue, and one page a few requests, so that no visitor takes the
whole line. The thread never waits for a reader: events that nobody has taken stay in the request, and their size
is limited because a story cannot be longer than the context.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from gatsby_mlx import device, files
from gatsby_mlx.errors import GatsbyError, UsageError
from gatsby_mlx.exhibit import probe
from gatsby_mlx.exhibit.lamp import Lamp
from gatsby_mlx.exhibit.request import BusyError, End, ShareError, StoppedError, StoryParams, StoryRequest, Visitor
from gatsby_mlx.foreign import device_error
from gatsby_mlx.model.checkpoint import WEIGHTS, Checkpoint
from gatsby_mlx.model.decode import Telling, TellingBatch, uniforms
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.sampling import Sampling

N_SLOTS = 16
MAX_QUEUED = 32  # requests
ADDRESS_SHARE = 0.75  # of the queue, for one address: a school behind one router is many visitors
PAGE_REQUESTS = 4  # for one page, in the queue and in the batch: a turned dial can have two for a moment
MAX_PULLS = 8  # pull readings that may wait
STORY_SECONDS = 15.0  # how long a story takes, until the first one has been timed


@dataclass
class _LiveStory:
    """A story in the batch: the request it belongs to, its level, and when it started."""

    request: StoryRequest
    level: int
    telling: Telling
    started: float = field(default_factory=time.monotonic)


class Engine:
    """The batch and its thread, as a context manager: it starts on entry, and on exit it closes every request."""

    def __init__(self, checkpoint: Checkpoint, n_slots: int = N_SLOTS, max_queued: int = MAX_QUEUED):
        if n_slots < len(LEVELS):
            raise UsageError(f"Five at once need a batch of {len(LEVELS)} or more, not {n_slots}", "Try --batch 16")
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.obsession = checkpoint.obsession
        weights = checkpoint.path / WEIGHTS
        self.lamp = Lamp(self.obsession, files.sha256(weights) if weights.is_file() else None)
        self.block_size = checkpoint.model.config.block_size
        self.n_slots, self.max_queued = n_slots, max_queued
        self.batch: TellingBatch  # made in the thread that runs it
        self.live: dict[int, _LiveStory] = {}  # by slot
        self.ready = False
        self.failure: BaseException | None = None
        self._queue: deque[StoryRequest] = deque()
        self._starting: StoryRequest | None = None  # has left the queue and is not in the batch yet
        self._pulls: deque[tuple[Future[np.ndarray], Iterator[np.ndarray | None]]] = deque()
        self._story_seconds = STORY_SECONDS
        self._closing = False
        self._work = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __enter__(self) -> "Engine":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._thread.join()

    def close(self) -> None:
        """Stop the thread after its current step, and close every request."""
        with self._work:
            self._closing = True
            self._work.notify()

    @property
    def n_live(self) -> int:
        """The number of stories in the batch."""
        return len(self.live)

    @property
    def n_queued(self) -> int:
        """The number of requests that wait."""
        return len(self._queue)

    def prompt_ids(self, params: StoryParams, level: int) -> list[int]:
        """Return the ids of the prime and the story so far. Raise UsageError if they leave no room in the context."""
        given = prime.build(params.topic, level, alphabet=self.tokenizer.alphabet, obsession=self.obsession)
        ids = self.tokenizer.encode(given) + probe.encode_story(self.tokenizer, params.story)
        if len(ids) >= self.block_size:
            message = f"The model sees {self.block_size} characters at a time, and {len(ids)} are written already"
            raise UsageError(message, "Start a new story" if params.story else "Choose a shorter topic")
        return ids

    def submit(self, params: StoryParams, wake: Callable[[], None], visitor: Visitor | None = None) -> StoryRequest:
        """Queue a request for stories. The engine's thread calls `wake` whenever there are new events.

        Raises GatsbyError for parameters the model cannot use, ShareError when this visitor has its share already,
        BusyError when the queue is full, and StoppedError when the engine has closed or failed.
        """
        for level in params.levels:
            self.prompt_ids(params, level)
        Sampling(params.temp)
        request = StoryRequest(params, wake, visitor)
        with self._work:
            self._check_open()
            self._check_share(request.visitor)
            if len(self._queue) >= self.max_queued:
                raise BusyError(self._retry_after_s())
            self._queue.append(request)
            request.move_to(len(self._queue))
            self._work.notify()
        return request

    def pull(self, topic: str, story: str) -> "Future[np.ndarray]":
        """Return a future of `probe.pull`'s last value for a story, computed between the steps of the batch."""
        future: Future[np.ndarray] = Future()
        with self._work:
            self._check_open()
            if len(self._pulls) >= MAX_PULLS:
                raise BusyError(MAX_PULLS)
            self._pulls.append((future, probe.pull(self.model, self.tokenizer, topic, story, self.obsession)))
            self._work.notify()
        return future

    def _check_open(self) -> None:
        if self.failure:
            why = self.failure if isinstance(self.failure, GatsbyError) else repr(self.failure)
            raise StoppedError(f"The model has stopped: {why}")
        if self._closing:
            raise StoppedError("The exhibit is closing")

    def _check_share(self, visitor: Visitor) -> None:
        """Raise ShareError if this visitor has as many requests as one may have. What has no address has no share."""
        waiting = [request for request in self._queue if not request.cancelled]
        begun = {self._starting, *(story.request for story in list(self.live.values()))}
        telling = [request for request in begun if request and not request.cancelled]
        of_page = sum(request.visitor.token == visitor.token for request in [*waiting, *telling])
        of_address = sum(request.visitor.address == visitor.address for request in waiting)
        if visitor.token and of_page >= PAGE_REQUESTS:
            raise ShareError(self._retry_after_s())
        full = len(self._queue) >= self.max_queued
        if visitor.address and not full and of_address >= math.ceil(ADDRESS_SHARE * self.max_queued):
            raise ShareError(self._retry_after_s())

    def _retry_after_s(self) -> int:
        """Estimate how long the first in the queue waits: the time of a story, times its share of the slots."""
        n_wanted = sum(len(request.params.levels) for request in self._queue) / max(1, len(self._queue))
        return max(1, min(60, math.ceil(self._story_seconds * n_wanted / self.n_slots)))

    # From here on, everything runs in the engine's thread.

    def _run(self) -> None:
        try:
            stream = mx.new_thread_local_stream(mx.default_device())  # pyright: ignore[reportArgumentType]
            # One BLAS thread: two threads that wait for each other stall when a browser takes one of two cores
            # (docs/results.md, the exhibit).
            with device.limited_cache(), device.blas_threads(1), mx.stream(stream):
                self.batch = TellingBatch(self.model, self.n_slots)
                self._warm_up()
                self.ready = True
                while self._wait():
                    self._drop_cancelled()
                    self._admit()
                    if self.live:
                        self._step()
                    self._continue_pull()
        except BaseException as error:
            known = device_error(error, "Serve again with a smaller --batch, or after closing other programs")
            self.failure = known or error
            why = f": {known.line()}" if known else ""
            logging.getLogger(__name__).error("the engine has failed%s", why, exc_info=None if known else error)
        finally:
            self._close_all()
            mx.clear_streams()  # a stream that outlives its thread aborts the process

    def _warm_up(self) -> None:
        """Run once all that the first visitor needs, so that no visitor waits for one-time setup."""
        ids, slots = self.prompt_ids(StoryParams("a lost kitten", (1,), 0), 1), self.batch.slots
        self.batch.begin(0, ids, Telling(self.tokenizer, uniforms(0, 2), Sampling()))
        self.batch.step()
        mx.eval(slots.logits, slots.lookahead([0], [ids[: probe.n_ahead(self.obsession)]]))
        self.batch.release(0)
        slots.positions[:] = -1

    def _wait(self) -> bool:
        """Sleep until there is work; return False when the engine is closing."""
        with self._work:
            self._work.wait_for(lambda: self._closing or self._queue or self._pulls or self.live)
            return not self._closing

    def _close_all(self) -> None:
        with self._work:
            self._closing = True
            requests = {story.request for story in self.live.values()} | set(self._queue)
            pulls = list(self._pulls)
            self._queue.clear()
            self._pulls.clear()
        self.live.clear()
        for request in requests:
            with request.update() as events:
                events.closed = True
        for future, _ in pulls:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(StoppedError("The exhibit is closing"))

    def _drop_cancelled(self) -> None:
        """Free the slots and queue positions of requests that were cancelled."""
        for slot in [slot for slot, story in self.live.items() if story.request.cancelled]:
            self.batch.release(slot)
            del self.live[slot]
        with self._work:
            if any(request.cancelled for request in self._queue):
                self._queue = deque(request for request in self._queue if not request.cancelled)
                self._renumber()

    def _renumber(self) -> None:
        for position, request in enumerate(self._queue, 1):
            request.move_to(position)

    def _admit(self) -> None:
        """Move requests from the queue to the batch, in order, while the first one's slots are free all at once."""
        while True:
            free = [slot for slot in range(self.n_slots) if slot not in self.live]
            with self._work:
                if not self._queue or len(self._queue[0].params.levels) > len(free):
                    return
                request = self._starting = self._queue.popleft()
                request.move_to(0)
                self._renumber()
            taken = free[: len(request.params.levels)]
            for slot, level in zip(taken, request.params.levels, strict=True):
                self._begin(slot, request, level)
            self._starting = None
            self._read_light(taken)

    def _begin(self, slot: int, request: StoryRequest, level: int) -> None:
        params = request.params
        ids, n_written = self.prompt_ids(params, level), len(params.story)
        n_free = self.block_size - len(ids) + 1
        draws = uniforms(params.seed, n_written + n_free)[n_written:]
        telling = Telling(self.tokenizer, draws, Sampling(params.temp), story=params.story)
        self.batch.begin(slot, ids, telling)
        self.live[slot] = _LiveStory(request, level, telling)

    def _step(self) -> None:
        """Draw one character for every story, report it, and read the light where a word may begin."""
        probed = []
        for slot, telling, new in self.batch.step():
            story = self.live[slot]
            if telling.finish:  # the slot is free before anyone reads that the story has ended
                del self.live[slot]
            elif probe.word_begins(telling.written):
                probed.append(slot)
            self._report(story, new)
        self._read_light(probed)

    def _report(self, story: _LiveStory, new: str) -> None:
        """Add a story's new text, and its end, to its request's events."""
        telling = story.telling
        if not new and not telling.finish:
            return
        with story.request.update() as events:
            if new:
                events.text[story.level] = events.text.get(story.level, "") + new
            if telling.finish:
                n_mentions = self.obsession.count(telling.story)
                events.ends[story.level] = End(telling.finish, len(telling.story), n_mentions)
        if telling.finish:  # a moving average
            self._story_seconds += 0.1 * (time.monotonic() - story.started - self._story_seconds)

    def _read_light(self, slots: list[int]) -> None:
        written = {slot: self.live[slot].telling.written for slot in slots}
        for slot, p in probe.phrase_probability(self.batch.slots, self.tokenizer, written, self.obsession).items():
            story = self.live[slot]
            chance = self.lamp.chance(story.level, written[slot])
            with story.request.update() as events:
                events.light.setdefault(story.level, []).append((len(written[slot]), p))
                events.chance.setdefault(story.level, []).append((len(written[slot]), chance))

    def _continue_pull(self) -> None:
        """Do one chunk of the pull reading that has waited longest."""
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
