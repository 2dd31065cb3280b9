"""What passes between a visitor and the engine: a question, the news of it, and the two ways of being turned away."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gatsby_mlx.config import TEMP


@dataclass(frozen=True)
class Ask:
    """What a visitor wants told: `topic` (folded), one story for each of `levels`, all with the draws of `seed`.

    `story` is what has been told already, under whatever level: it goes on from there, with the draws that come next.
    """

    topic: str
    levels: tuple[int, ...]
    seed: int
    temp: float = TEMP
    story: str = ""


@dataclass(frozen=True)
class End:
    """How a story ended: `finish` is "end" or "context"; `n_chars` and `mentions` count what went before it too."""

    finish: str
    n_chars: int
    mentions: int


@dataclass
class News:
    """What has happened since the last look. `place` 0 is in the batch, 1 is next; the others go by level.

    `light` has the readings that came with the text: (how many characters of the story it stands after, probability).
    """

    place: int | None = None
    text: dict[int, str] = field(default_factory=dict)
    light: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    ends: dict[int, End] = field(default_factory=dict)
    closed: bool = False


class BusyError(Exception):
    """The line is full; `retry_after_s` is about when a place in it will be free."""

    def __init__(self, retry_after_s: int):
        super().__init__(f"the line is full for about {retry_after_s} s")
        self.retry_after_s = retry_after_s


class StoppedError(Exception):
    """The engine has been closed, or has failed; `str` says which."""


class Ticket:
    """A visitor's hold on its stories. `take` and `cancel` may be called from any thread."""

    def __init__(self, ask: Ask, wake: Callable[[], None]):
        self.ask, self.wake = ask, wake
        self.cancelled = False
        self.place: int | None = None
        self._lock = threading.Lock()
        self._news = News()

    def take(self) -> News:
        """Return what is new, and forget it here."""
        with self._lock:
            news, self._news = self._news, News()
        return news

    def cancel(self) -> None:
        """Give the rows, or the place in line, to the next one; at the latest after the step that is under way."""
        self.cancelled = True

    @contextlib.contextmanager
    def tell(self) -> Iterator[News]:
        """Let the engine add to the news, then wake the visitor."""
        with self._lock:
            yield self._news
        self.wake()

    def move_to(self, place: int) -> None:
        if place != self.place:
            self.place = place
            with self.tell() as news:
                news.place = place
