"""What a run tells of itself and leaves in its folder: events, how far it is, metrics.jsonl."""

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
    """One optimiser step. Losses in nats a character, `seconds_left` from the mean speed since the start."""

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
class Evaluation:
    """The validation side without dropout. `loss` is over the preset's own rows, the others over whole-story rows.

    `dial` is mean mentions at the five levels and `dial_error` how far they are off `dial_corpus` (see `small_dial`);
    None where no dial is read. `best` and `best_dial` tell that the checkpoint was kept for its loss, or its dial.
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
    """Where a run stands: what `state.json` holds."""

    step: int = 0
    chars: int = 0
    micro: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    best_dial: float = math.inf
    best_dial_loss: float = math.inf
    best_dial_step: int = 0
    seconds: float = 0.0


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return `row` with NaN as None, which JSON can hold, also inside its tuples."""

    def value(v: Any) -> Any:
        return [value(x) for x in v] if isinstance(v, tuple) else None if isinstance(v, float) and math.isnan(v) else v

    return {k: value(v) for k, v in row.items()}


def check_out(out: Path, resume: bool) -> None:
    """Refuse a run folder that would mix two runs: raise OutputError if it holds something and `resume` is off."""
    if resume:
        recover_last(out)
        if not (out / "last").exists():
            raise CheckpointError(f"{out} holds no run to resume", "Leave --resume out to begin one")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not empty", "Choose another --out, or --resume the run in it")


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the run folder `out`, which is made if need be; raise OutputError while another process trains into it.

    The lock is the kernel's, on the folder itself: it goes with the process, and leaves no file behind.
    """
    with files.output_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = f"Another gatsby is training into {out}"
            raise OutputError(told, "Wait for it, or choose another --out") from None
        yield
    finally:
        os.close(folder)


def recover_last(out: Path) -> None:
    """Heal what a crash left around `last/`; raise OutputError while another process trains into `out`, and saves."""
    if out.is_dir():
        with only_writer(out):
            files.recover_folder(out / "last")


def open_metrics(path: Path, step: int) -> TextIO:
    """Open metrics.jsonl to go on after `step`, without the lines that a killed run wrote after its last checkpoint."""

    def is_past(line: str) -> bool:
        try:
            return json.loads(line)["step"] <= step
        except (ValueError, KeyError, TypeError):
            return False

    if path.exists():
        files.write_atomic(path, "".join(filter(is_past, path.read_text("utf-8").splitlines(keepends=True))))
    return path.open("a", encoding="utf-8", buffering=1)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the events of a metrics.jsonl, a torn last line left out."""
    rows = []
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
