"""The checkpoints on this machine: list them, describe one, verify it, remove it."""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from safetensors import SafetensorError, safe_open

from gatsby_mlx import files, shipped
from gatsby_mlx.corpus.journal import belongs
from gatsby_mlx.errors import CheckpointError, GatsbyError, UsageError
from gatsby_mlx.hub.card import is_shipped
from gatsby_mlx.hub.pull import source
from gatsby_mlx.model import checkpoint

ROOTS = (Path("runs"), Path("models"), Path("demo"))
# What gatsby writes into checkpoints and run folders. A folder with anything else is not removed.
FILES = {
    *("config.json", "model.safetensors", "tokenizer.json", "optimizer.safetensors", "state.json", "README.md"),
    *("evaluation.json", "source.json", "metrics.jsonl", "loss.svg", "dial.svg"),
}
# What gatsby writes into its other output folders: corpora, forms for other libraries, reports, the demo.
OUTPUTS = {
    *("raw.txt", "manifest.json", "stories.jsonl", "train.jsonl", "validation.jsonl"),
    *("model.gguf", "model.onnx", "vocab.json", "tokenizer_config.json", "generation_config.json"),
    *("index.html", "dial.json", "topics.txt"),
}
FOLDERS = {"gpt2", *checkpoint.NAMES}
LEFTOVERS = (".new", ".old", ".dead")  # of a write that was killed (see `files`)


@dataclass(frozen=True)
class File:
    """A file of a checkpoint folder; `name` is its path relative to the folder."""

    name: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Facts:
    """What a checkpoint's config.json says; the weights are not read."""

    path: Path
    architecture: dict[str, Any]
    weights: dict[str, Any]
    info: dict[str, Any]
    n_bytes: int
    written: float  # seconds since the epoch

    @property
    def loss(self) -> float | None:
        """The validation loss in nats per character, if it is known."""
        value = (self.info.get("evaluation") or {}).get("loss")
        return value if isinstance(value, float) and math.isfinite(value) else None


def facts(folder: Path) -> Facts:
    """Return the facts of a checkpoint folder (not of a run). Raises CheckpointError for one that is not native."""
    content = checkpoint.read_json(folder / "config.json")
    architecture = content.get("architecture")
    if not str(content.get("format")).startswith("gatsby-mlx/") or not isinstance(architecture, dict):
        raise CheckpointError(
            f"{folder} is not a checkpoint of gatsby's", "Convert it with: gatsby import, or gatsby pull REPO"
        )
    info = {k: v for k, v in content.items() if k not in checkpoint.FORMAT_KEYS}
    weights = content.get("weights")
    stats = [p.stat() for p in folder.iterdir() if p.is_file()]
    written = (folder / "config.json").stat().st_mtime
    weights = weights if isinstance(weights, dict) else {}
    return Facts(folder, architecture, weights, info, sum(s.st_size for s in stats), written)


def find(folders: Sequence[Path] = ()) -> Iterator[Facts]:
    """Yield the checkpoints in `folders` and up to two levels below.

    Without folders, look in runs/, models/, demo/ and among the shipped checkpoints.
    """
    for folder in folders or (*ROOTS, shipped.folder("checkpoints")):
        for pattern in ("config.json", "*/config.json", "*/*/config.json"):
            for path in sorted(folder.glob(pattern)):
                if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                    try:
                        yield facts(path.parent)
                    except GatsbyError:
                        continue  # another kind of model, such as a GPT-2


def contents(folder: Path) -> list[File]:
    """Return the files of a checkpoint folder with their sizes and hashes. Raises OSError."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return [File(p.relative_to(folder).as_posix(), p.stat().st_size, files.sha256(p)) for p in paths]


def verify(folder: Path) -> list[str]:
    """Check everything in a checkpoint folder; return one line for each thing that is right.

    The weights' sha256 must be that of config.json, every weight must be finite, a prime must give finite logits, and
    optimizer.safetensors and state.json must be readable if they are there. Raises CheckpointError.
    """
    hint = f"Remove it with: gatsby checkpoint rm {folder}"
    known, lines = facts(folder), []
    ready = checkpoint.load(folder)
    lines.append(f"{ready.model.n_params():,} weights fit the architecture, {len(ready.tokenizer)} characters")
    if expected := known.weights.get("sha256"):
        if files.sha256(folder / checkpoint.WEIGHTS) != expected:
            raise CheckpointError(f"{folder}: the weights were changed (their sha256 differs from config.json)", hint)
        lines.append(f"the weights have the sha256 of config.json, {expected[:16]}...")
    else:
        lines.append("config.json has no sha256, so the weights were compared with nothing")
    for name, array in ready.model.named().items():
        if not bool(mx.isfinite(array).all()):
            raise CheckpointError(f"{folder}: {name} has a weight that is not a finite number", hint)
    text = ready.primes(["a lost kitten"])[-1]
    logits = ready.model(mx.array([ready.tokenizer.encode(text)[: ready.model.config.block_size]]))
    if not bool(mx.isfinite(logits).all()):
        raise CheckpointError(f"{folder}: a prime gives logits that are not finite", hint)
    lines.append("a prime gives finite logits")
    if (folder / "state.json").exists() or (folder / "optimizer.safetensors").exists():
        checkpoint.read_json(folder / "state.json")
        try:
            with safe_open(folder / "optimizer.safetensors", framework="numpy") as file:
                lines.append(f"{len(file.keys())} arrays of optimiser state are whole: training can be resumed")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder}/optimizer.safetensors is damaged: {error}", hint) from None
    return lines


def removable(folder: Path) -> int:
    """Return the bytes in a checkpoint or run folder that may be removed.

    Raises UsageError for a link, for what ships with the package, and for a folder with any file that gatsby does not
    write; CheckpointError for one without a checkpoint.
    """
    if folder.is_symlink():
        raise UsageError(f"{folder} is a link", f"Name its target: gatsby checkpoint rm {folder.resolve()}")
    checkpoint.resolve(folder)
    if is_shipped(folder):
        raise UsageError(f"{folder} ships with this package", "Choose one of: gatsby checkpoint list runs models")
    return _bytes_of_known(folder, FILES, FOLDERS)


def replaceable(folder: Path) -> int:
    """Return the bytes in an output folder that may be replaced: one with nothing but files that gatsby writes.

    Raises UsageError for a link, for what ships with the package, and for any other file.
    """
    if folder.is_symlink() or is_shipped(folder) or folder.resolve() in (shipped.corpus(), Path.cwd(), Path.home()):
        raise UsageError(f"{folder} is never replaced", "Choose another --out")
    return _bytes_of_known(folder, FILES | OUTPUTS, FOLDERS | {"evaluation", "corpus", "run"})


def _bytes_of_known(folder: Path, files_: set[str], folders_: set[str]) -> int:
    """Return the bytes in `folder`; raise UsageError if a file in it has a name that gatsby does not write."""
    total = 0
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        folders = inside.parts if path.is_dir() and not path.is_symlink() else inside.parts[:-1]
        known_folders = all(part in folders_ or part.endswith(LEFTOVERS) for part in folders)
        known = path.is_dir() or inside.name in files_ or inside.parts[0] == "gpt2" or inside.name.endswith(".tmp")
        known = known or (files_ != FILES and belongs(inside.name))
        if path.is_symlink() or not known_folders or not known:
            raise UsageError(f"{folder} has {inside}, which gatsby did not write", "Move it away first, or use rm")
        total += 0 if path.is_dir() else path.stat().st_size
    return total


def remove(folder: Path) -> None:
    """Remove a folder that `removable` allowed. It is renamed first, so nobody sees half of it under its name."""
    dead = folder.with_name(f".{folder.name}.dead")
    with files.output_errors(str(folder)):
        if dead.exists():
            shutil.rmtree(dead)
        folder.rename(dead)
        shutil.rmtree(dead)


def to_json(one: Facts) -> dict[str, Any]:
    """Return the facts as a value that `json` writes."""
    content = {"path": str(one.path), "architecture": one.architecture, "weights": one.weights, **one.info}
    return json.loads(json.dumps({**content, "bytes": one.n_bytes, "pulled": source(one.path)}))
