"""Keep a Mac awake while it works."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keep the Mac from idle sleep inside the block. Do nothing on other systems and without `caffeinate`.

    `caffeinate -i -w PID` ends with this process even if it is killed. Written from its manual page, not tested on a
    Mac.
    """
    command = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if command is None:
        yield
        return
    helper = subprocess.Popen([command, "-i", "-w", str(os.getpid())])
    try:
        yield
    finally:
        helper.terminate()
        helper.wait()
