"""What huggingface_hub raises, as one line with a hint: the same for pull, publish and write.

huggingface_hub alone reads the token. Here it is only known which variable it came from, since the hint depends on it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from gatsby_mlx.errors import GatsbyError, HubError, foreign_words
from gatsby_mlx.files import output_errors

LOGIN = "Log in with: hf auth login"
TRY_AGAIN = "Try again with a network (HF_HUB_OFFLINE unset): complete files are kept"
TOKEN_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # in the order in which huggingface_hub looks for them


@contextmanager
def hub_errors(
    repo: str, revision: str | None = None, kind: type[GatsbyError] = HubError, more: str = ""
) -> Iterator[None]:
    """Turn what huggingface_hub raises inside the block into a `kind`, and a full disk into an OutputError.

    `more` is added to the hints. Errors of the project pass as they are.

    >>> with hub_errors("someone/green"):
    ...     raise ConnectionError("no route to host")
    Traceback (most recent call last):
    gatsby_mlx.errors.HubError: The hub cannot be reached (no route to host)
    """
    try:
        yield
    except GatsbyError:
        raise
    except Exception as error:
        explained = explain(error, repo, revision)
        if explained is None:
            with output_errors(_file_of(error)):
                raise
        message, hint = explained
        raise kind(message, f"{hint}. {more}" if more else hint) from None


def _file_of(error: Exception) -> str:
    name = getattr(error, "filename", None)
    return os.fsdecode(name) if name else "the hub's cache"


def explain(error: BaseException, repo: str, revision: str | None = None) -> tuple[str, str] | None:
    """Return message and hint for one of huggingface_hub's errors, or None for an OSError of a file or a disk."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error, repo, revision)
    if isinstance(error, errors.OfflineModeIsEnabled) or (isinstance(error, errors.EntryNotFoundError) and offline()):
        return f"{repo} is not on this machine, and HF_HUB_OFFLINE is set", TRY_AGAIN
    if isinstance(error, errors.LocalEntryNotFoundError):  # it looked in the cache after the hub had failed
        cause = error.__cause__
        return explain(cause, repo, revision) if cause else _unreachable(error)
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"{repo} needs a token, and there is none on this machine", LOGIN
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r:.80} is not the name of a repository", "A repository is OWNER/NAME"
    if isinstance(error, json.JSONDecodeError | errors.FileMetadataError):
        page = "Open any page in a browser: a Wi-Fi or a proxy may ask for a login first. Then try again"
        return f"{endpoint()} answered with something that is not the hub's, such as a web page", page
    if type(error).__module__.partition(".")[0].startswith("httpx"):  # the hub's client lets its library's through
        return _unreachable(error)
    if isinstance(error, ConnectionError | TimeoutError):
        return _unreachable(error)
    if isinstance(error, OSError):
        if error.errno is not None:
            return None
        return f"The download of {repo} broke off", "Try again: complete files are kept"  # it ended too soon
    words = foreign_words(error) or type(error).__name__
    return f"huggingface_hub cannot do that with {repo} ({words})", "Try again; --debug shows the traceback"


def _answered(error: BaseException, repo: str, revision: str | None) -> tuple[str, str]:
    """Return message and hint for an answer of the hub that is an error."""
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status, headers = getattr(response, "status_code", 0), getattr(response, "headers", {})
    words = foreign_words(headers.get("X-Error-Message") or getattr(error, "server_message", None) or "")
    if isinstance(error, errors.GatedRepoError):
        hint = f"Ask for access at {endpoint()}/{repo}, then: {_with_a_login()}"
        return f"{repo} is gated: its owner gives access on request", hint
    if isinstance(error, errors.RevisionNotFoundError):
        hint = f"Give one of its branches, tags or commits, or leave the revision out: {repo}"
        return f"{repo} has no revision {revision or 'main'!r}", hint
    if isinstance(error, errors.RepositoryNotFoundError):
        missing = f"There is no {repo} on the hub, or it is private and you have no access"
        return missing, f"Check the name. For a private one: {_with_a_login()}"
    if status == 401 and token_name():
        hint = f"Unset {token_name()}, or set it to a token that is valid: it wins over hf auth login"
        return f"The hub refuses the token in {token_name()} (401)", hint
    if status == 401:
        return f"The hub does not know you, and {repo} needs a login (401)", LOGIN
    if status == 403:
        hint = f"Use a token that is allowed to: {_with_a_login()}"
        return f"The hub does not allow that with {repo} (403{_after(words)})", hint
    if status == 407:
        hint = "Put your name and password for it into HTTPS_PROXY, or use a network without a proxy"
        return "A proxy between here and the hub asks for a login (407)", hint
    if status == 429:
        wait = _wait_s(headers)
        return "The hub asks to slow down (429)", f"Wait {f'{wait} s' if wait else 'a few minutes'}, then try again"
    said = words or foreign_words(getattr(response, "reason_phrase", ""))
    return f"The hub answered {status} for {repo}{f' ({said})' if said else ''}", "Try again later"


def _after(words: str) -> str:
    return f": {words}" if words else ""


def _with_a_login() -> str:
    """Return how to log in; a token in the environment must go first."""
    name = token_name()
    return f"unset {name}, which wins over a login, and hf auth login" if name else "hf auth login"


def _wait_s(headers) -> int | None:
    """Return the seconds that a 429 asks for: its Retry-After, or `t` of a RateLimit header such as '"api";r=0;t=3'."""
    given = [headers.get("Retry-After") or "", (headers.get("RateLimit") or "").rpartition("t=")[2]]
    seconds = [int(text) for text in given if text.isascii() and text.isdigit() and len(text) < 7]
    return seconds[0] if seconds else None


def _unreachable(error: BaseException) -> tuple[str, str]:
    reason = foreign_words(str(error).partition("\n")[0], 120) or type(error).__name__
    if type(error).__name__ == "ProxyError":
        return f"The proxy to the hub cannot be used ({reason})", "Check HTTPS_PROXY, and its name and password"
    return f"The hub cannot be reached ({reason})", "Check the network. HF_HUB_OFFLINE=1 uses what was pulled before"


def offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids network access."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """Return the hub's address, without a password."""
    from huggingface_hub import constants

    return foreign_words(constants.ENDPOINT)


def token_name() -> str | None:
    """Return the variable of the environment whose token huggingface_hub uses, or None. The token is not read."""
    return next((name for name in TOKEN_NAMES if os.environ.get(name, "").strip()), None)
