"""What visitors and the engine exchange: a request, its events, and the errors that turn a visitor away."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gatsby_mlx.story.sampling import TEMP


@dataclass(frozen=True)
class StoryParams:
    """What a visitor asks for: `topic` (folded), and one story for each of `levels`, all drawn with the same `seed`.

    `story` is the text that exists already, written under any level. The new text continues it, with the next draws.
    """

    topic: str
    levels: tuple[int, ...]
    seed: int
    temp: float = TEMP
    story: str = ""


@dataclass(frozen=True)
class End:
    """How a story ended. `finish` is "end" or "context"; `n_chars` and `mentions` include the text it continued."""

    finish: str
    n_chars: int
    mentions: int


@dataclass
class Events:
    """What has happened since the last `take`.

    `position` is the position in the queue: 1 is next, 0 is in the batch, None is no change. The dictionaries are keyed
    by level. Two readings come with the text, as lists of (number of characters before it, probability): `light`, that
    the phrase comes next, and `chance`, that it comes before the next sentence ends.
    """

    position: int | None = None
    text: dict[int, str] = field(default_factory=dict)
    light: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    chance: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    ends: dict[int, End] = field(default_factory=dict)
    closed: bool = False


class BusyError(Exception):
    """The queue is full. `retry_after_s` is an estimate of when it will have room."""

    def __init__(self, retry_after_s: int):
        super().__init__(f"the queue is full for about {retry_after_s} s")
        self.retry_after_s = retry_after_s


class LearningError(Exception):
    """What the model learned from is being written again. Ask again in `retry_after_s`."""

    def __init__(self, retry_after_s: int):
        super().__init__("the stories are being written again")
        self.retry_after_s = retry_after_s


class ShareError(Exception):
    """A visitor has its share of the exhibit already. `retry_after_s` is an estimate of when it will have room."""

    def __init__(self, retry_after_s: int):
        super().__init__("one visitor cannot take the whole line")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Visitor:
    """Who asks, as far as the exhibit knows: the address, and the token of one open page ("" if there is none)."""

    address: str = ""
    token: str = ""


class StoppedError(Exception):
    """The engine is closed or has failed; the message says which."""


class StoryRequest:
    """A visitor's stories, in the queue or in the batch. `take` and `cancel` may be called from any thread."""

    def __init__(self, params: StoryParams, wake: Callable[[], None], visitor: Visitor | None = None):
        self.params, self.wake, self.visitor = params, wake, visitor or Visitor()
        self.cancelled = False
        self.position: int | None = None
        self._lock = threading.Lock()
        self._events = Events()

    def take(self) -> Events:
        """Return the new events and clear them."""
        with self._lock:
            events, self._events = self._events, Events()
        return events

    def cancel(self) -> None:
        """Give up the slots or the position in the queue. The engine frees them after its current step."""
        self.cancelled = True

    @contextlib.contextmanager
    def update(self) -> Iterator[Events]:
        """Let the engine add to the events, then wake the visitor."""
        with self._lock:
            yield self._events
        self.wake()

    def move_to(self, position: int) -> None:
        """Set the position in the queue, and report it if it has changed."""
        if position != self.position:
            self.position = position
            with self.update() as events:
                events.position = position
