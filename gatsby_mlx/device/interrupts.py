"""Ctrl-C, SIGTERM and SIGHUP as requests to stop: long work finishes its step, saves, and stops.

SIGTERM is what `kill`, a service manager and a shutdown send; SIGHUP comes when the terminal is closed. A process that
is to outlive its terminal is started with `nohup`, which ignores SIGHUP, and that is left as it is.
"""

import contextlib
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def interrupts(on_first: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Yield a list that is empty until the first of the three signals, for a loop to check.

    The second one raises KeyboardInterrupt. `on_first` is called inside the signal handler. Outside the main thread no
    handler can be set, and the list stays empty.
    """
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        leave_terminal(number)
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        on_first()

    with handled(handle, (signal.SIGINT, *ENDINGS)):
        yield seen


@contextlib.contextmanager
def endings_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt inside the block, as Ctrl-C does."""

    def handle(number: int, frame: FrameType | None) -> None:
        leave_terminal(number)
        raise KeyboardInterrupt

    with handled(handle, ENDINGS):
        yield


@contextlib.contextmanager
def handled(handle: Handler | signal.Handlers, numbers: tuple[int, ...]) -> Iterator[None]:
    """Call `handle` for these signals inside the block, but leave SIGTERM and SIGHUP ignored if they are.

    Does nothing outside the main thread.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        ignored = {n for n in numbers if n in ENDINGS and signal.getsignal(n) is signal.SIG_IGN}
        before = {n: signal.signal(n, handle) for n in numbers if n not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set by Python


def leave_terminal(number: int) -> None:
    """After SIGHUP, send to nowhere what still goes to the terminal: it is gone, and writing to it would fail."""
    if number != signal.SIGHUP:
        return
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
        os.close(nowhere)
