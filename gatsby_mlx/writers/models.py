"""Where a model's files are: a folder, the hub's cache, what LM Studio has downloaded, else a download."""

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

from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers.specs import ModelSpec

COMMIT = re.compile(r"[0-9a-f]{40}")
# What mlx-lm reads, less the Python files: no code of a repository is fetched, let alone run.
FILES = ["*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jsonl", "*.jinja"]
WITHOUT_NET = "Leave it out of --blend, or let the house writer write: no --blend"


@dataclass(frozen=True)
class Found:
    """A model's folder, how it was found ("folder", "hub", "LM Studio"), and its commit where that is known."""

    folder: Path
    how: str
    commit: str | None = None

    def about(self) -> dict[str, Any]:
        """Return what a manifest says of it, with no path of this machine in it."""
        return {"found": self.how, "commit": self.commit, "digest": digest(self.folder)}


def is_model(folder: Path) -> bool:
    """Tell whether `folder` looks like a whole model in MLX's form: a config, weights, all files of their index."""
    if not (folder / "config.json").is_file() or not list(folder.glob("model*.safetensors")):
        return False
    index = folder / "model.safetensors.index.json"
    try:
        parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values()) if index.is_file() else set()
    except (ValueError, KeyError, OSError, AttributeError):
        return False
    return all((folder / part).is_file() for part in parts)


def size_bytes(folder: Path) -> int:
    """Return the size of the weights in `folder`."""
    return sum(p.stat().st_size for p in folder.glob("model*.safetensors"))


def digest(folder: Path) -> str:
    """Return a sha256 over the config, the tokenizer, and the names and sizes of the weights: which model it was.

    The weights themselves are not read: 15 GB take longer than the first story.
    """
    told = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.jinja")):
        told.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("model*.safetensors")):
        told.update(f"{path.name} {path.stat().st_size}".encode())
    return told.hexdigest()


def locate(spec: ModelSpec) -> Found | None:
    """Return where the model lies on this machine, or None if it has to be downloaded. No network is used.

    Raises WriterError for a folder that is no model.
    """
    if spec.folder is not None:
        if not is_model(spec.folder):
            told = f"{spec.folder} is not a model for mlx-lm: it needs config.json and all of its model*.safetensors"
            raise WriterError(told, "Name a folder that mlx_lm.convert has written, or a repository")
        return Found(spec.folder, "folder")
    return _cached(spec) or _lm_studio(spec)


def _cached(spec: ModelSpec) -> Found | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(spec.repo, revision=spec.revision, local_files_only=True, allow_patterns=FILES))
    except (LocalEntryNotFoundError, HFValidationError, FileNotFoundError):
        return None
    return Found(folder, "hub", folder.name) if is_model(folder) else None


def _lm_studio(spec: ModelSpec) -> Found | None:
    """Look for the same model among LM Studio's downloads: its own copy of the repository, else another's of the name.

    LM Studio keeps OWNER/NAME folders under ~/.lmstudio/models (earlier ~/.cache/lm-studio/models), and no commit.
    """
    for root in _lm_studio_roots():
        folders = [root / spec.repo, *sorted(p for p in root.glob("*/*") if _base(p.name) == _base(spec.repo))]
        for folder in folders:
            if is_model(folder) and _is_quantised(folder):
                return Found(folder, "LM Studio")
    return None


def _lm_studio_roots() -> Iterator[Path]:
    home = Path.home()
    pointer = home / ".lmstudio-home-pointer"
    if pointer.is_file():
        yield Path(pointer.read_text("utf-8").strip()) / "models"
    yield home / ".lmstudio" / "models"
    yield home / ".cache" / "lm-studio" / "models"


def _base(repo: str) -> str:
    """Return a repository's name without owner and form: two names with one base are the same model at 4 bits."""
    return re.sub(r"-(?:mlx|4bit|mlx-4bit|4bit-mlx)(?=-|$)", "", repo.split("/")[-1].lower().replace("_", "-"))


def _is_quantised(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return (config.get("quantization") or {}).get("bits") == 4
    except (ValueError, OSError, AttributeError):
        return False


def download_bytes(spec: ModelSpec) -> int:
    """Return how much has to be downloaded, 0 if nothing; from the hub where the size is not known beforehand.

    Raises WriterError where the hub cannot be asked.
    """
    if locate(spec) is not None:
        return 0
    if spec.size_bytes:
        return spec.size_bytes
    with hub_errors(spec):
        from huggingface_hub import HfApi

        info = HfApi().model_info(spec.repo, revision=spec.revision, files_metadata=True)
        return sum(f.size or 0 for f in info.siblings or () if re.search(r"^model.*\.safetensors$", f.rfilename))


def fetch(spec: ModelSpec) -> Found:
    """Return the model's folder, downloaded first if it is not here, as a whole and at one commit.

    Whole files of a broken download stay. Raises WriterError: no such repository, gated, offline, no space.
    """
    found = locate(spec)
    if found is not None:
        return found
    check_disk(spec, download_bytes(spec))
    with hub_errors(spec):
        from huggingface_hub import HfApi, snapshot_download

        pinned = spec.revision and COMMIT.fullmatch(spec.revision)
        commit = spec.revision if pinned else HfApi().model_info(spec.repo, revision=spec.revision).sha
        folder = Path(snapshot_download(spec.repo, revision=commit, allow_patterns=FILES))
    if not is_model(folder):
        raise WriterError(f"{spec.repo} is not a model for mlx-lm: it lacks config.json or weights", WITHOUT_NET)
    return Found(folder, "hub", commit)


def check_disk(spec: ModelSpec, needed: int) -> None:
    """Raise WriterError if the disk of the hub's cache has no room for the model."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        told = f"{spec.name} needs {needed / 1e9:.1f} GB of disk, and {place} has {free / 1e9:.1f} GB free"
        raise WriterError(told, "Free some space, or set HF_HOME to a folder on another disk")


@contextmanager
def hub_errors(spec: ModelSpec) -> Iterator[None]:
    """Turn the hub's errors inside the block into one line each, with the way out."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        page = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/{spec.repo}"
        raise WriterError(f"{spec.repo} is gated", f"Accept its terms at {page}, then: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise WriterError(f"{spec.repo} has no revision {spec.revision}", "Name another `revision`") from None
    except errors.RepositoryNotFoundError:
        told = f"There is no repository {spec.repo}, or it is private"
        raise WriterError(told, "Check the name; for a private one: hf auth login") from None
    except (
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        errors.HfHubHTTPError,
        ConnectionError,
        TimeoutError,
    ) as e:
        raise WriterError(f"{spec.repo} is not on this machine, and {_why_not(e)}", _WAY_OUT) from e
    except errors.HFValidationError:
        raise WriterError(f"{spec.repo!r} is no name of a repository", "A repository is OWNER/NAME") from None
    except OSError as error:
        told = f"{spec.repo} cannot be downloaded: {error.strerror or error}"
        raise WriterError(told, "Try again: what has come stays") from error
    except Exception as error:  # the hub's client passes its HTTP library's errors on: no name, no route, cut off
        if not type(error).__module__.startswith("httpx"):
            raise
        raise WriterError(f"{spec.repo} is not on this machine, and {_why_not(error)}", _WAY_OUT) from error


_WAY_OUT = f"Try again where there is a network (HF_HUB_OFFLINE unset): what has come stays. {WITHOUT_NET}"


def _why_not(error: Exception) -> str:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return (
        "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be reached ({type(error.__cause__ or error).__name__})"
    )
