"""Keep a Mac awake while it works."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_open: list[bool] = []  # a block each: whether it keeps the display on as well
_helper: list[subprocess.Popen] = []  # the process that holds off sleep, if any block is open


@contextlib.contextmanager
def awake(display: bool = False) -> Iterator[None]:
    """Keep the Mac from idle sleep inside the block, and with `display` its screen on. Do nothing on other systems.

    Blocks inside one another share a helper process, so a command may call what a notebook calls too. `caffeinate -i -w
    PID` ends with this process even if it is killed. Written from its manual page, not tested on a Mac.
    """
    with _lock:
        needed = not _open or (display and not any(_open))
        _open.append(display)
        if needed:
            _restart(display)
    try:
        yield
    finally:
        with _lock:
            _open.remove(display)
            if not _open:
                _stop()


def _restart(display: bool) -> None:
    """Start a helper in the place of the one that runs. Without `caffeinate`, or if it fails, the Mac may sleep."""
    _stop()
    command = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if command is None:
        return
    options = ["-i", *(["-d"] if display else []), "-w", str(os.getpid())]
    null = subprocess.DEVNULL  # it must not hold open a pipe that somebody reads to its end
    with contextlib.suppress(OSError):
        _helper.append(subprocess.Popen([command, *options], stdin=null, stdout=null, stderr=null))


def _stop() -> None:
    while _helper:
        helper = _helper.pop()
        helper.terminate()
        helper.wait()
