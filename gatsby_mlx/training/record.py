"""The events of a run, its progress, and what its folder says of it: state.json and metrics.jsonl."""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from shlex import quote
from typing import Any, TextIO

from gatsby_mlx import files
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.errors import CheckpointError, OutputError, UsageError
from gatsby_mlx.tokenizer import CharTokenizer

# Settings that the state.json of older runs lacks, and the values they had. A run keeps the arithmetic of its
# embedding's gradient.
LATER_SETTINGS = {
    "dtype": "float32",
    "start": None,
    "embedding_gradient": "scatter",
    "extended_at": 0,
    "extended_lr": 0.0,
}


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


@dataclass(frozen=True)
class Extension:
    """A run was extended at this point: it ends after `max_chars` characters, not after `before`.

    The learning rate `lr` is the one from which the rest of the schedule begins.
    """

    step: int
    chars: int
    before: int
    max_chars: int
    lr: float
    event: str = "extend"


@dataclass(frozen=True)
class Record:
    """What the folder of a run says of it: its preset, its settings, and how far it came.

    `corpus` is the sha256 of what it trains on, and `corpus_path` where that was when it was saved (None: unknown).
    `start` is the origin of the checkpoint from which it began, None if it began from nothing.
    """

    preset: str
    model: GPTConfig
    config: TrainConfig
    corpus: str
    corpus_path: str | None
    start: dict[str, Any] | None
    obsession: dict[str, Any] | None
    alphabet: str
    progress: Progress

    def to_json(self) -> dict[str, Any]:
        """Return the fields as values that `json` can write and `from_json` can read."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Record":
        """Return the record that `to_json` wrote."""
        parsed = {"model": GPTConfig, "config": TrainConfig, "progress": Progress}
        return cls(**content | {name: kind(**content[name]) for name, kind in parsed.items()})


def read_record(out: Path) -> Record:
    """Return what the run folder `out` says of its run. Raises CheckpointError if it holds none, or a damaged one."""
    check_out(out, resume=True)
    return files.read_folder(out / "last", _read_record)


def _read_record(last: Path) -> Record:
    try:
        state, info = (json.loads((last / name).read_text("utf-8")) for name in ("state.json", "config.json"))
        settings = {**LATER_SETTINGS, **state["run"]}
        return Record(
            str(info.get("preset", "run")),
            GPTConfig(**{f.name: settings[f.name] for f in fields(GPTConfig) if f.name in settings}),
            TrainConfig(**{f.name: settings[f.name] for f in fields(TrainConfig) if f.name in settings}),
            settings["corpus"],
            state.get("corpus_path"),
            settings["start"],
            info.get("obsession"),
            CharTokenizer.from_json((last / "tokenizer.json").read_text("utf-8")).alphabet,
            Progress(**state["progress"]),
        )
    except FileNotFoundError as error:
        message = f"{last} is incomplete: {Path(error.filename).name} is missing"
        raise CheckpointError(message, DAMAGED_HINT) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise CheckpointError(f"{last}/state.json is damaged: {error!r}", DAMAGED_HINT) from None


DAMAGED_HINT = "Train again, into a new folder: gatsby train --out DIR"


def check_out(out: Path, resume: bool) -> None:
    """Check a run folder before a run, so that two runs never mix.

    Raises OutputError if it is not empty and `resume` is off, CheckpointError if there is nothing to resume.
    """
    if resume:
        recover_last(out)
        if not (out / "last").exists():
            raise CheckpointError(f"{out} holds no run to resume", "Leave out --resume to start one")
    else:
        goes_on = (
            f"Go on with it: gatsby train --resume {quote(str(out))}. Or choose" if (out / "last").exists() else ""
        )
        files.check_free(out, f"{goes_on or 'Choose'} another --out")


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
