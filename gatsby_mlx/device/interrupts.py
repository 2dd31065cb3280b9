"""Ctrl-C as a request to stop: long work finishes its step, saves, and stops."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts(on_first: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Yield a list that is empty until the first Ctrl-C, for a loop to check; the second raises KeyboardInterrupt.

    `on_first` is called inside the signal handler. Outside the main thread no handler can be set, and the list stays
    empty.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        on_first()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
