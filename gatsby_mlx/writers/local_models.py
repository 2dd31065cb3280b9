"""Find a model's files: in a folder, in the hub's cache or among LM Studio's downloads; otherwise download them."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatsby_mlx import hub_errors as hub
from gatsby_mlx.errors import OutputError, WriterError
from gatsby_mlx.writers.specs import ModelSpec

# What mlx-lm reads, except Python files: no code of a repository is downloaded.
FILES = ["*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jsonl", "*.jinja"]
LEAVE_OUT = "Leave it out of --blend, or use the house writer: no --blend"
ANSWER_S = 20  # for the hub's first answer


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine: its folder, its `origin` ("folder", "hub" or "LM Studio"), and its commit if known."""

    folder: Path
    origin: str
    commit: str | None = None

    def about(self) -> dict[str, Any]:
        """Return its description for a manifest, which contains no path of this machine."""
        return {"found": self.origin, "commit": self.commit, "digest": digest(self.folder)}


def is_model(folder: Path) -> bool:
    """Return whether `folder` has a config and weights in MLX's format, with all files that their index lists."""
    if not (folder / "config.json").is_file() or not list(folder.glob("model*.safetensors")):
        return False
    index = folder / "model.safetensors.index.json"
    try:
        parts = set(json.loads(index.read_text("utf-8-sig"))["weight_map"].values()) if index.is_file() else set()
        return all((folder / part).is_file() for part in parts)
    except (ValueError, KeyError, OSError, AttributeError, TypeError, RecursionError):
        return False


def size_bytes(folder: Path) -> int:
    """Return the size of the weights in `folder` in bytes."""
    return sum(p.stat().st_size for p in folder.glob("model*.safetensors"))


def active_share(spec: ModelSpec) -> float:
    """Return the share of a model's weights that one token reads: 1, or less for a mixture of experts.

    It follows from the configuration of a model that is here; otherwise it is what the spec says.
    """
    local = locate(spec)
    if local is None:
        return spec.active
    try:
        config = json.loads((local.folder / "config.json").read_text("utf-8"))
        return share_of_experts(config.get("text_config") or config)
    except (OSError, ValueError, TypeError, AttributeError):
        return spec.active


def share_of_experts(config: dict[str, Any]) -> float:
    """Return the share of the weights of a model's configuration that one token reads.

    The parts are those of a transformer with gated experts: attention, experts of three matrices, embedding.

    >>> round(share_of_experts({"hidden_size": 2816, "num_hidden_layers": 30, "num_experts": 128,
    ...     "top_k_experts": 8, "moe_intermediate_size": 704, "intermediate_size": 2112, "vocab_size": 262144}), 2)
    0.15
    """
    counts = (config.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    experts = next((n for n in counts if n), 0)
    used = next((config[n] for n in ("top_k_experts", "num_experts_per_tok", "moe_top_k") if config.get(n)), 0)
    if not (experts and used and used < experts):
        return 1.0
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    inner = config.get("intermediate_size") or 0
    expert = 3 * width * (config.get("moe_intermediate_size") or inner)
    shared = 4 * width * width + 3 * width * inner * bool(config.get("moe_intermediate_size"))
    others = layers * shared + config.get("vocab_size", 0) * width
    return (others + layers * used * expert) / (others + layers * experts * expert)


def digest(folder: Path) -> str:
    """Return a sha256 that identifies the model: of its config, its tokenizer, and the names and sizes of its weights.

    The weights themselves are not read, because 15 GB take longer than the first story.
    """
    sha256 = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.jinja")):
        sha256.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("model*.safetensors")):
        sha256.update(f"{path.name} {path.stat().st_size}".encode())
    return sha256.hexdigest()


def locate(spec: ModelSpec) -> LocalModel | None:
    """Return the model on this machine, or None if it must be downloaded. Uses no network.

    Raises WriterError for a folder that holds no model.
    """
    if spec.folder is not None:
        if not is_model(spec.folder):
            message = f"{spec.folder} is not a model for mlx-lm: it needs config.json and all of its model*.safetensors"
            raise WriterError(message, "Name a folder that mlx_lm.convert has written, or a repository")
        return LocalModel(spec.folder, "folder")
    return _cached(spec) or _lm_studio(spec)


def _cached(spec: ModelSpec) -> LocalModel | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(spec.repo, revision=spec.revision, local_files_only=True, allow_patterns=FILES))
    except (LocalEntryNotFoundError, HFValidationError, FileNotFoundError):
        return None
    return LocalModel(folder, "hub", folder.name) if is_model(folder) else None


def _lm_studio(spec: ModelSpec) -> LocalModel | None:
    """Look for the model among LM Studio's downloads: the same repository, or another owner's copy of the same model.

    LM Studio keeps OWNER/NAME folders under ~/.lmstudio/models (formerly ~/.cache/lm-studio/models), without commits.
    """
    for root in _lm_studio_roots():
        folders = [root / spec.repo, *sorted(p for p in root.glob("*/*") if _base(p.name) == _base(spec.repo))]
        for folder in folders:
            if is_model(folder) and _is_4bit(folder):
                return LocalModel(folder, "LM Studio")
    return None


def _lm_studio_roots() -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))  # Path.home raises for a user without one
    pointer = home / ".lmstudio-home-pointer"
    if pointer.is_file():
        yield Path(pointer.read_text("utf-8").strip()) / "models"
    yield home / ".lmstudio" / "models"
    yield home / ".cache" / "lm-studio" / "models"


def _base(repo: str) -> str:
    """Return a repository's name without owner and format: names with the same base are the same model at 4 bits."""
    return re.sub(r"-(?:mlx|4bit|mlx-4bit|4bit-mlx)(?=-|$)", "", repo.split("/")[-1].lower().replace("_", "-"))


def _is_4bit(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8-sig"))
        return (config.get("quantization") or {}).get("bits") == 4
    except (ValueError, OSError, AttributeError, RecursionError):
        return False


def download_bytes(spec: ModelSpec) -> int:
    """Return how many bytes must be downloaded, 0 for a model that is here. Asks the hub if the spec has no size.

    Raises WriterError if the hub cannot be reached.
    """
    if locate(spec) is not None:
        return 0
    if spec.size_bytes:
        return spec.size_bytes
    with hub_errors(spec):
        from huggingface_hub import HfApi

        info = HfApi().model_info(spec.repo, revision=spec.revision, files_metadata=True, timeout=ANSWER_S)
        return sum(f.size or 0 for f in info.siblings or () if re.search(r"^model.*\.safetensors$", f.rfilename))


def fetch(spec: ModelSpec) -> LocalModel:
    """Return the model; download it first, at one commit, if it is not on this machine.

    Complete files of an interrupted download are kept. Raises WriterError if the repository does not exist or is
    gated, if the hub cannot be reached, or if the disk is full.
    """
    local = locate(spec)
    if local is not None:
        return local
    check_disk(spec, download_bytes(spec))
    with hub_errors(spec):
        from huggingface_hub import HfApi, snapshot_download

        # Asked for a commit too: without an answer huggingface_hub would try for half a minute to list its files.
        commit = HfApi().model_info(spec.repo, revision=spec.revision, timeout=ANSWER_S).sha
        folder = Path(snapshot_download(spec.repo, revision=commit, allow_patterns=FILES))
    if not is_model(folder):
        raise WriterError(f"{spec.repo} is not a model for mlx-lm: it lacks config.json or weights", LEAVE_OUT)
    return LocalModel(folder, "hub", commit)


def check_disk(spec: ModelSpec, needed: int) -> None:
    """Raise WriterError if the disk of the hub's cache has less than `needed` bytes free."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = f"{spec.name} needs {needed / 1e9:.1f} GB of disk, and {folder} has {free / 1e9:.1f} GB free"
        raise WriterError(message, "Free some space, or set HF_HOME to a folder on another disk")


@contextmanager
def hub_errors(spec: ModelSpec) -> Iterator[None]:
    """Turn the errors of the hub's client inside the block into WriterErrors: the other writers of a blend continue."""
    try:
        with hub.hub_errors(spec.repo, spec.revision, WriterError, LEAVE_OUT):
            yield
    except OutputError as error:
        raise WriterError(f"{spec.repo} cannot be downloaded: {error}", error.hint) from error
