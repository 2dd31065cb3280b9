"""The checkpoints on this machine: what there is, what is in each, whether it is sound, and taking one away."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from safetensors import SafetensorError, safe_open

from gatsby_mlx import files, prime, shipped
from gatsby_mlx.errors import CheckpointError, GatsbyError, UsageError
from gatsby_mlx.hub.card import is_shipped
from gatsby_mlx.hub.pull import source
from gatsby_mlx.model import checkpoint

PLACES = (Path("runs"), Path("models"), Path("demo"))
# What we write into checkpoints and run folders; anything else is someone's own, and is not removed.
FILES = {
    *("config.json", "model.safetensors", "tokenizer.json", "optimizer.safetensors", "state.json", "README.md"),
    *("evaluation.json", "source.json", "metrics.jsonl", "loss.svg", "dial.svg"),
}
FOLDERS = {"gpt2", *checkpoint.NAMES}
TRACES = (".new", ".old", ".dead")  # of a write that was killed (see `files`)


@dataclass(frozen=True)
class File:
    name: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Facts:
    """What a checkpoint's config.json tells, without reading its weights."""

    path: Path
    architecture: dict[str, Any]
    weights: dict[str, Any]
    info: dict[str, Any]
    n_bytes: int
    written: float  # seconds since the epoch

    @property
    def loss(self) -> float | None:
        value = (self.info.get("evaluation") or {}).get("loss")
        return value if isinstance(value, float) and math.isfinite(value) else None


def facts(folder: Path) -> Facts:
    """Return the facts of one checkpoint folder (not of a run). Raises CheckpointError for one that is not ours."""
    content = checkpoint.read_json(folder / "config.json")
    architecture = content.get("architecture")
    if not str(content.get("format")).startswith("gatsby-mlx/") or not isinstance(architecture, dict):
        raise CheckpointError(f"{folder} is not one of ours", "Bring it over with: gatsby import, or gatsby pull REPO")
    info = {k: v for k, v in content.items() if k not in checkpoint.OWN_KEYS}
    weights = content.get("weights")
    stats = [p.stat() for p in folder.iterdir() if p.is_file()]
    written = (folder / "config.json").stat().st_mtime
    known = weights if isinstance(weights, dict) else {}
    return Facts(folder, architecture, known, info, sum(s.st_size for s in stats), written)


def find(places: Iterable[Path] = ()) -> Iterator[Facts]:
    """Yield the checkpoints at or under `places` (runs/, models/, demo/ and those that ship), two levels deep."""
    for place in places or (*PLACES, shipped.folder("checkpoints")):
        for pattern in ("config.json", "*/config.json", "*/*/config.json"):
            for path in sorted(place.glob(pattern)):
                if not any(part.startswith(".") for part in path.relative_to(place).parts):
                    try:
                        yield facts(path.parent)
                    except GatsbyError:
                        continue  # another kind of model, such as a gpt2 form


def contents(folder: Path) -> list[File]:
    """Return the files of a checkpoint folder with their sizes and hashes. Raises OSError."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return [File(p.relative_to(folder).as_posix(), p.stat().st_size, files.sha256(p)) for p in paths]


def verify(folder: Path) -> list[str]:
    """Read everything in a checkpoint folder and return what was found sound, a line each.

    The weights' sha256 is compared with the one in config.json, every weight has to be finite, a prime has to give
    finite logits; optimizer.safetensors and state.json have to be whole where they are. Raises CheckpointError.
    """
    cure = f"Remove it with: gatsby checkpoint rm {folder}"
    known, told = facts(folder), []
    ready = checkpoint.load(folder)
    told.append(f"{ready.model.n_params():,} weights fit the architecture, {len(ready.tokenizer)} characters")
    if wanted := known.weights.get("sha256"):
        if files.sha256(folder / checkpoint.WEIGHTS) != wanted:
            raise CheckpointError(f"{folder}: the weights are not those that were written (their sha256 differs)", cure)
        told.append(f"weights have the sha256 {wanted[:16]} that config.json tells")
    else:
        told.append("config.json tells no sha256, so the weights are compared with nothing")
    for name, array in ready.model.named().items():
        if not bool(mx.isfinite(array).all()):
            raise CheckpointError(f"{folder}: {name} has a weight that is not a finite number", cure)
    line = prime.build("a lost kitten", 3, alphabet=ready.tokenizer.alphabet)
    logits = ready.model(mx.array([ready.tokenizer.encode(line)[: ready.model.config.block_size]]))
    if not bool(mx.isfinite(logits).all()):
        raise CheckpointError(f"{folder}: a prime gives logits that are not finite", cure)
    told.append("a prime gives finite logits")
    if (folder / "state.json").exists() or (folder / "optimizer.safetensors").exists():
        checkpoint.read_json(folder / "state.json")
        try:
            with safe_open(folder / "optimizer.safetensors", framework="numpy") as file:
                told.append(f"{len(file.keys())} arrays of optimiser state are whole: it can be resumed")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder}/optimizer.safetensors is damaged: {error}", cure) from None
    return told


def removable(folder: Path) -> int:
    """Return how many bytes lie in a checkpoint or run folder that may be removed.

    Raises UsageError for a link, for what ships with the package, and for a folder that holds anything we do not write;
    CheckpointError for one that holds no checkpoint.
    """
    if folder.is_symlink():
        raise UsageError(f"{folder} is a link", f"Name the folder itself: gatsby checkpoint rm {folder.resolve()}")
    checkpoint.resolve(folder)
    if is_shipped(folder):
        raise UsageError(f"{folder} ships with this package", "Choose one of: gatsby checkpoint list runs models")
    total = 0
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        folders = inside.parts if path.is_dir() and not path.is_symlink() else inside.parts[:-1]
        sound = all(part in FOLDERS or part.endswith(TRACES) for part in folders)
        ours = path.is_dir() or inside.name in FILES or inside.parts[0] == "gpt2" or inside.name.endswith(".tmp")
        if path.is_symlink() or not sound or not ours:
            raise UsageError(f"{folder} holds {inside}, which is not ours", "Move it away first, or use rm")
        total += 0 if path.is_dir() else path.stat().st_size
    return total


def remove(folder: Path) -> None:
    """Remove what `removable` allowed: renamed in one step, so that no half of it is met under its name."""
    dead = folder.with_name(f".{folder.name}.dead")
    with files.output_errors(str(folder)):
        if dead.exists():
            shutil.rmtree(dead)
        folder.rename(dead)
        shutil.rmtree(dead)


def to_json(one: Facts) -> dict[str, Any]:
    """Return the facts as a value that `json` writes."""
    told = {"path": str(one.path), "architecture": one.architecture, "weights": one.weights, **one.info}
    return json.loads(json.dumps({**told, "bytes": one.n_bytes, "pulled": source(one.path)}))
