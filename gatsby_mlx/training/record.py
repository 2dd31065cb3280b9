"""The events of a run, its progress, and metrics.jsonl in its folder."""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from gatsby_mlx import files
from gatsby_mlx.errors import CheckpointError, OutputError


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Losses are in nats per character. `seconds_left` is estimated from the mean speed since the start.
    """

    step: int
    chars: int
    loss: float
    story_loss: float
    lr: float
    grad_norm: float
    chars_per_s: float
    seconds_left: float
    event: str = "train"


@dataclass(frozen=True)
class Validation:
    """An evaluation on the validation side, without dropout.

    `loss` is over the preset's kind of sequences, the other losses over whole stories; all are in nats per character,
    and `story_bpc` in bits. `dial` is the mean mentions at the five levels and `dial_error` their relative distance
    from `dial_corpus` (see `small_dial`); all three are None when no dial is read. `best` and `best_dial` say whether
    the checkpoint was saved for its loss or for its dial.
    """

    step: int
    chars: int
    loss: float
    story_loss: float
    header_loss: float
    story_bpc: float
    best: bool
    dial: tuple[float, ...] | None = None
    dial_error: float | None = None
    dial_corpus: tuple[float, ...] | None = None
    best_dial: bool = False
    event: str = "eval"


@dataclass
class Progress:
    """The progress of a run, as saved in `state.json`: counts so far, the best evaluations, and seconds of training."""

    step: int = 0
    chars: int = 0
    micro: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    best_dial: float = math.inf
    best_dial_loss: float = math.inf
    best_dial_step: int = 0
    seconds: float = 0.0


def check_out(out: Path, resume: bool) -> None:
    """Check a run folder before a run, so that two runs never mix.

    Raises OutputError if it is not empty and `resume` is off, CheckpointError if there is nothing to resume.
    """
    if resume:
        recover_last(out)
        if not (out / "last").exists():
            raise CheckpointError(f"{out} holds no run to resume", "Leave out --resume to start one")
    else:
        files.check_free(out, "Choose another --out, or --resume the run in it")


def begun_micro_chars(out: Path) -> int | None:
    """Return the `micro_chars` that the run in `out` began with; None where its state does not say."""
    try:
        return json.loads((out / "last" / "state.json").read_text("utf-8"))["run"]["micro_chars"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # what is damaged is said when the run is loaded


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Lock the run folder `out`, creating it if needed; raise OutputError while another process trains into it.

    It is a kernel lock on the folder itself, so it ends with the process and leaves no file behind.
    """
    with files.output_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"Another gatsby is training into {out}"
            raise OutputError(message, "Wait for it, or choose another --out") from None
        yield
    finally:
        os.close(folder)


def recover_last(out: Path) -> None:
    """Repair what a crash left around `last/`; raise OutputError while another process trains into `out`."""
    if out.is_dir():
        with only_writer(out):
            files.recover_folder(out / "last")


def open_metrics(path: Path, step: int) -> TextIO:
    """Open metrics.jsonl to append after `step`; drop the lines that a killed run wrote after its last checkpoint."""

    def is_past(line: str) -> bool:
        try:
            return json.loads(line)["step"] <= step
        except (ValueError, KeyError, TypeError):
            return False

    if path.exists():
        lines = path.read_text("utf-8-sig", errors="replace").splitlines(keepends=True)
        files.write_atomic(path, "".join(filter(is_past, lines)))
    return path.open("a", encoding="utf-8", buffering=1)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the events in a metrics.jsonl, without lines that are not complete or are damaged."""
    events = []
    for line in path.read_text("utf-8-sig", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
