"""The hub as the rest of this room sees it: repositories by name, and its errors as one line with the way out.

Everything goes through huggingface_hub, which alone knows the token: it is never read, passed or shown here.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gatsby_mlx.errors import GatsbyError, HubError, UsageError
from gatsby_mlx.files import output_errors

LOGIN = "Log in with: hf auth login"
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
    """Return the repository that `[datasets/]OWNER/NAME[@REVISION]` means; raise UsageError for what means none.

    >>> parse("datasets/someone/stories@v1")
    Repo(id='someone/stories', kind='dataset', revision='v1')
    """
    name, at, revision = text.partition("@")
    kind = "dataset" if name.startswith("datasets/") else "model"
    parts = name.removeprefix("datasets/").split("/")
    sound = len(parts) == 2 and all(_NAME.fullmatch(p) and "--" not in p and ".." not in p for p in parts)
    if not sound or (at and not re.fullmatch(r"[\w][\w./-]{0,199}", revision)):
        cure = "Give OWNER/NAME, datasets/OWNER/NAME or OWNER/NAME@REVISION, such as sup-computer/gatsby-nanogpt-2"
        raise UsageError(f"{text!r:.80} is no repository on the hub", cure)
    return Repo("/".join(parts), kind, revision or None)


def offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def quiet(progress: bool) -> Iterator[None]:
    """Keep huggingface_hub's warnings to itself, and its progress bars too unless `progress`."""
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
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except GatsbyError:
        raise
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise explain(error, repo) from None
    except errors.LocalTokenNotFoundError:
        raise HubError(f"{repo} needs a token, and there is none on this machine", LOGIN) from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _unreachable(error) from None
    except OSError as error:
        if error.errno is None:  # huggingface_hub's own, of a download that ended too soon
            raise HubError(f"The download of {repo} broke off", "Try again: files that are whole are kept") from None
        with output_errors(os.fsdecode(error.filename) if error.filename else "the hub's cache"):
            raise


def explain(error: BaseException, repo: Repo) -> HubError:
    """Return what is wrong with `repo`, from one of huggingface_hub's errors."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{repo} is gated: its owner opens it to those who ask",
            f"Ask on its page, then {LOGIN[0].lower()}{LOGIN[1:]}",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"There is no {repo} on the hub, or it is private and closed to you", f"Check the name. {LOGIN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        told = f"{repo} has no revision {repo.revision or 'main'!r}"
        return HubError(told, f"Name a branch, a tag or a commit of it, or: gatsby pull {repo}")
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error.response.status_code, repo)
    if isinstance(error, errors.OfflineModeIsEnabled) or offline():
        told = f"{repo} is not whole in the cache, and HF_HUB_OFFLINE forbids to fetch it"
        return HubError(told, "Unset HF_HUB_OFFLINE, and pull it once")
    cause = error.__cause__
    if isinstance(cause, errors.HfHubHTTPError):
        return explain(cause, repo)
    return _unreachable(cause or error)


def _answered(status: int, repo: Repo) -> HubError:
    if status in (401, 403):
        return HubError(f"The hub does not let you do that with {repo} ({status})", f"{LOGIN} (with a token that may)")
    if status == 429:
        return HubError("The hub asks to slow down (429)", "Wait some minutes, then try again")
    return HubError(f"The hub answered {status} for {repo}", "Try again later")


def _unreachable(error: BaseException) -> HubError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    cure = "Check the network. What was pulled before opens with HF_HUB_OFFLINE=1"
    return HubError(f"The hub cannot be reached ({reason or type(error).__name__})", cure)
