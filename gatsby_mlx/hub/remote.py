"""Repositories of the hub by name, its cache, and its errors (`gatsby_mlx.hub_errors`) as HubErrors.

All access goes through huggingface_hub, which handles the token. It is never read, passed or shown here.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatsby_mlx.errors import UsageError
from gatsby_mlx.hub_errors import hub_errors as gatsby_hub_errors

ANSWER_S = 20  # for the hub's first answer
# The files that a repository must have, by kind.
REQUIRED = {"model": ("config.json", "model.safetensors", "tokenizer.json"), "dataset": ("raw.txt",)}
_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Repo:
    """A repository: `id` is owner/name, `kind` is "model" or "dataset"; `revision` a branch, tag or commit, or None."""

    id: str
    kind: str = "model"
    revision: str | None = None

    @property
    def name(self) -> str:
        return self.id.split("/")[-1]

    def __str__(self) -> str:
        return ("datasets/" if self.kind == "dataset" else "") + self.id


def parse(text: str) -> Repo:
    """Return the repository that `[datasets/]OWNER/NAME[@REVISION]` names; raise UsageError for any other text.

    >>> parse("datasets/someone/stories@v1")
    Repo(id='someone/stories', kind='dataset', revision='v1')
    """
    name, at, revision = text.partition("@")
    kind = "dataset" if name.startswith("datasets/") else "model"
    parts = name.removeprefix("datasets/").split("/")
    sound = len(parts) == 2 and all(_NAME.fullmatch(p) and "--" not in p and ".." not in p for p in parts)
    if not sound or (at and not re.fullmatch(r"[\w][\w./-]{0,199}", revision)):
        hint = "Give OWNER/NAME, datasets/OWNER/NAME or OWNER/NAME@REVISION, such as sup-computer/gatsby-nanogpt-2"
        raise UsageError(f"{text!r:.80} does not name a repository of the hub", hint)
    return Repo("/".join(parts), kind, revision or None)


@contextlib.contextmanager
def quiet(progress: bool) -> Iterator[None]:
    """Suppress huggingface_hub's warnings inside the block, and its progress bars too unless `progress`."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    level, hidden = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    if not progress and not hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not progress and not hidden:
            enable_progress_bars()


@contextlib.contextmanager
def hub_errors(repo: Repo) -> Iterator[None]:
    """Turn what huggingface_hub raises inside the block into a HubError, and a full disk into an OutputError."""
    with gatsby_hub_errors(str(repo), repo.revision):
        yield


def check_pinned(repo: Repo) -> None:
    """Ask the hub for a commit that is not in the cache, once. Raises huggingface_hub's errors.

    For a commit, huggingface_hub goes straight to the list of files, and asks for that again and again for half a
    minute where there is no network.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not re.fullmatch(r"[0-9a-f]{40}", repo.revision or ""):
        return
    try:
        snapshot_download(repo.id, repo_type=repo.kind, revision=repo.revision, local_files_only=True)
    except LocalEntryNotFoundError:
        HfApi().repo_info(repo.id, repo_type=repo.kind, revision=repo.revision, timeout=ANSWER_S)


def cached(repo: Repo) -> Path | None:
    """Return the folder in the hub's cache that has the files of `repo` that gatsby needs, or None.

    Nothing is downloaded. Other files of the repository may be missing.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    names = REQUIRED[repo.kind]
    try:
        folder = Path(
            snapshot_download(
                repo.id,
                repo_type=repo.kind,
                revision=repo.revision,
                allow_patterns=list(names),
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, HFValidationError, FileNotFoundError):
        return None
    return folder if all((folder / name).is_file() for name in names) else None
