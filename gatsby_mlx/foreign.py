"""The errors of the system and of libraries, as the project's own: the one place that translates them.

    explain(error)                  what the command line shows for an error that nobody expected
    with device_errors(hint): ...   around long work: what a GPU or a memory does when it gives out

The hub's are in `hub_errors`, because they need the repository's name, and those of writing in `files.output_errors`,
which needs the file's. Both are used here for what comes without one.
"""

import contextlib
import http.client
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from json import JSONDecodeError

from gatsby_mlx import files, hub_errors
from gatsby_mlx.errors import DeviceError, GatsbyError, HubError, OutputError, UsageError, foreign_words

REPORT = "Try again; --debug shows the traceback"
# What MLX raises as a RuntimeError when a device gives out (its backend/metal and backend/cuda, and its allocators),
# and what that means.
DEVICE = (
    (
        r"insufficient memory|out ?of ?memory|unable to allocate|maximum allowed buffer size|cannot allocate",
        "There is not enough memory",
    ),
    (r"gpu timeout|callbackerrortimeout", "The GPU took too long over one piece of work, and the system stopped it"),
    (r"impacting ?interactivity", "The system stopped the work, because it kept the GPU from drawing the screen"),
    (r"resource limit", "The GPU has no room for more arrays, too many are in use at the same time"),
    (r"no metal device|no metal back-end|no (?:cuda|gpu) device|no cuda-capable", "There is no GPU that MLX can use"),
    (r"command buffer execution failed|\bcuda\w* (?:error|failure)|cudaerror", "The GPU failed"),
)
HIDDEN = "That a GPU is there says nothing of a session without a screen: log in on the machine itself, or use a CPU"


def device_error(error: BaseException, hint: str = "") -> DeviceError | None:
    """Return what MLX raises when a GPU or the memory gives out as a DeviceError, or None for any other error.

    >>> print(device_error(RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIO)")))
    There is not enough memory (Command buffer execution failed: Insufficient Memory)
    """
    if isinstance(error, MemoryError):
        return DeviceError("There is not enough memory", hint)
    if not isinstance(error, RuntimeError):
        return None
    for pattern, meaning in DEVICE:
        if re.search(pattern, str(error), re.IGNORECASE):
            words = re.sub(r"^\[[\w:]+\]\s*|\s*\(0000.*", "", foreign_words(error, 120))
            return DeviceError(f"{meaning} ({words})", HIDDEN if "no GPU" in meaning else hint)
    return None


@contextlib.contextmanager
def device_errors(hint: str) -> Iterator[None]:
    """Raise a DeviceError with `hint`, the way out, for a GPU or a memory that gives out inside the block.

    The outermost block knows best what the user wanted to do, so its hint replaces that of a block inside it.
    """
    try:
        yield
    except DeviceError as error:
        raise DeviceError(str(error), hint) from error
    except (RuntimeError, MemoryError) as error:
        known = device_error(error, hint)
        if known is None:
            raise
        raise known from error


def explain(error: BaseException) -> GatsbyError | None:
    """Return an error of the system or of a library as one of the project's, or None for one that is a bug.

    >>> explain(OSError(28, "No space left on device", "runs/story")).line()
    'runs/story: No space left on device. Free some space on that disk, or choose another folder'
    """
    if isinstance(error, GatsbyError):
        return error
    if known := device_error(error, "Close other programs, or give a smaller --batch where there is one"):
        return known
    if isinstance(error, UnicodeEncodeError) and re.search("[\ud800-\udfff]", error.object):
        return UsageError("A path in use here is not UTF-8, and MLX needs that", "Rename the file or its folder")
    if _is_hubs(error):
        message, hint = hub_errors.explain(error, "the repository") or ("", "")
        if message:
            return HubError(message, hint)
    if isinstance(error, OSError):
        return _of_system(error)
    words = foreign_words(error, 160) or type(error).__name__
    if isinstance(error, sqlite3.Error):
        return OutputError(f"The journal cannot be used ({words})", "Check the disk; the same command resumes")
    if isinstance(error, http.client.HTTPException):
        return GatsbyError(f"A server's answer cannot be read ({words})", "Try again")
    if isinstance(error, JSONDecodeError | UnicodeDecodeError):
        return GatsbyError(f"A file is damaged, or is not of the kind that it should be ({words})", REPORT)
    if _module(error) in ("matplotlib", "PIL"):
        return GatsbyError(f"The plot cannot be drawn ({words})", "Leave out the plot, or install matplotlib again")
    if isinstance(error, RecursionError):
        return GatsbyError("A file is nested too deeply to be read", REPORT)
    return None


def _is_hubs(error: BaseException) -> bool:
    return "huggingface_hub" in sys.modules and _module(error) in ("huggingface_hub", "httpx", "httpcore", "hf_xet")


def _module(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _of_system(error: OSError) -> GatsbyError:
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the output"
    hint = files.HINTS.get(error.errno or 0, "Check the file and the disk")
    return OutputError(f"{what}: {error.strerror or error}", hint)
