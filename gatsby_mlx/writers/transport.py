"""HTTP to an OpenAI-style server: one request and its JSON answer, or one line with the server's own words."""

import base64
import contextlib
import email.utils
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from gatsby_mlx.errors import WriterError, foreign_words
from gatsby_mlx.writers.specs import ServerSpec

MAX_BYTES = 4_000_000  # of an answer
MAX_ERROR_BYTES = 100_000
IS_IT_ONE = "Is it an OpenAI-style server?"
RESUME = "then run the same command to resume"
LOADING = re.compile(r"\bloading\b|still load|warming up|not ready", re.IGNORECASE)
# The server is on this machine or in this network, so the environment's proxies do not apply.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ServerError(WriterError):
    """An answer that is an error: `status` is its HTTP status, `words` are the server's own, whole.

    `wait_s` is how many seconds the server asks to wait, or None; `loading` says whether it is loading its model.
    """

    def __init__(self, message: str, hint: str, status: int = 0, words: str = "", wait_s: float | None = None):
        super().__init__(message, hint)
        self.status, self.words, self.wait_s = status, words, wait_s
        self.loading = status == 503 and bool(LOADING.search(words))


class BadAnswerError(WriterError):
    """An answer that is not a JSON object or, for the list of models, a JSON list."""


class Connection:
    """The way to a server: its address, its key or password, and how long a request may take, in seconds.

    The key is read from the environment when it is needed, sent to this server only, and shown nowhere.
    """

    def __init__(self, spec: ServerSpec, timeout_s: float):
        self.spec, self.url, self.timeout_s = spec, spec.url, timeout_s

    def send(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Return the JSON object that the server answers with; a list of models as {"data": list}.

        Raises ServerError for an error of the server's, BadAnswerError for anything that is not JSON, and WriterError
        if the server cannot be reached or the key is missing.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
            if secret := self._authorization():
                request.add_unredirected_header("Authorization", secret)  # not to where a redirection leads
            with contextlib.closing(_open(request, timeout=self.timeout_s)) as response:
                content = response.read(MAX_BYTES + 1)
                missing = getattr(response, "length", None)  # None where the server does not say
                if missing and len(content) <= MAX_BYTES:
                    raise http.client.IncompleteRead(content, missing)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise self._broken(error) from None
        answer = _parsed(content[:MAX_BYTES])
        if isinstance(answer, list) and body is None:
            answer = {"data": answer}
        if not isinstance(answer, dict):
            raise BadAnswerError(f"The server at {self.url} returned {_kind(content)}no JSON object", IS_IT_ONE)
        if answer.get("error") and not answer.get("choices"):
            raise self._error(200, self._hidden(_words(answer)), None)
        return answer

    def _authorization(self) -> str:
        """Return the header that opens the server, or "". Raises WriterError for a key that is missing or unusable."""
        if self.spec.userinfo:
            return "Basic " + base64.b64encode(unquote(self.spec.userinfo).encode()).decode()
        if not self.spec.api_key_env:
            return ""
        key, name = os.environ.get(self.spec.api_key_env, "").strip(), _shown(self.spec.api_key_env)
        if not key:
            raise WriterError(f"There is no API key in {name}", f"Put it there: export {name}=..., {RESUME}")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise WriterError(f"What {name} holds cannot be an API key", "A key is one word of ASCII characters")
        return f"Bearer {key}"

    def _hidden(self, text: str) -> str:
        """Return `text` without the key and the password, should the server repeat them."""
        key = os.environ.get(self.spec.api_key_env, "").strip() if self.spec.api_key_env else ""
        secrets = [key, self.spec.userinfo, *self.spec.userinfo.split(":")[1:]]
        for secret in [s for raw in secrets for s in (raw, unquote(raw)) if len(s) > 3]:
            text = text.replace(secret, "***")
        return text

    def _refusal(self, error: urllib.error.HTTPError) -> WriterError:
        """Return the error for an HTTP status, with the words of its body."""
        content = b""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError), contextlib.closing(error):
            content = error.read(MAX_ERROR_BYTES)
        answer = _parsed(content)
        words = _words(answer) if isinstance(answer, dict) else ""
        if answer is None and not _kind(content):
            words = content.decode("utf-8", "replace")
        return self._error(error.code, self._hidden(words), _retry_after(error.headers), str(error.reason))

    def _error(self, status: int, words: str, wait_s: float | None, reason: str = "") -> ServerError:
        said = foreign_words(words or reason)
        message = f"The server at {self.url} answers {status if status != 200 else 'with an error'}"
        hint = f"See the server's log, {RESUME}"
        if status in (401, 403):
            hint = "Put its key into a variable, and name that: gatsby write --api-key-env NAME"
            if self.spec.api_key_env:
                hint = f"Check the key in {_shown(self.spec.api_key_env)}"
            if self.spec.userinfo:
                hint = "Check the name and the password in its address"
        elif status == 404:
            hint = "Load the model in the server, or name another: server:URL#MODEL"
        elif status in (400, 422):
            hint = f"Check the model's name and its context in the server, {RESUME}"
        elif wait_s:
            hint = f"Wait {wait_s:.0f} s, {RESUME}"
        return ServerError(f"{message} ({said})" if said else message, hint, status, words, wait_s)

    def _broken(self, error: BaseException) -> WriterError:
        """Return the error for a server that is not there, is too slow, or hangs up."""
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            message = f"The server at {self.url} did not answer in {self.timeout_s:.0f} s"
            return WriterError(message, f"Check that it has loaded its model, {RESUME}")
        if isinstance(reason, http.client.IncompleteRead):
            message = f"The server at {self.url} hung up in the middle of its answer"
            return WriterError(message, f"See whether it has crashed, {RESUME}")
        if isinstance(reason, ConnectionResetError | BrokenPipeError):  # RemoteDisconnected is one
            return WriterError(f"The server at {self.url} hung up without an answer", f"See its log, {RESUME}")
        said = self._hidden(foreign_words(reason) or type(reason).__name__)
        message = f"There is no server at {self.url}, or the connection broke ({said})"
        return WriterError(message, f"Start it (mlx_lm.server, LM Studio), {RESUME}")


def _shown(name: str) -> str:
    """Return a variable's name, unless it looks like a key that was given in place of a name."""
    return name if re.fullmatch(r"[A-Z][A-Z0-9_]*", name) else "the variable that holds the key"


def _parsed(content: bytes) -> Any:
    """Return what a JSON document holds, or None for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _kind(content: bytes) -> str:
    """Return what an answer without JSON is, in words that fit before "no JSON object"; "" for plain text."""
    start = content[:200].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "a web page and "
    if start.startswith((b"data:", b"event:", b":")):
        return "a stream, which it was asked not to, and "
    return ""


def _words(answer: dict[str, Any]) -> str:
    """Return what a server says about an error: `error` (a text, or its `message` and `param`), `message`, `detail`.

    >>> _words({"error": {"message": "Unsupported value", "param": "seed"}})
    'Unsupported value (seed)'
    """
    error = answer.get("error")
    if isinstance(error, dict):
        param = error.get("param")
        message = next((str(error[key]) for key in ("message", "error", "type", "code") if error.get(key)), "")
        return f"{message} ({param})" if isinstance(param, str) and param not in message else message
    if isinstance(error, str):
        return error
    for key in ("message", "detail", "title"):
        if isinstance(answer.get(key), list):
            return "; ".join(_details(answer[key]))
        if answer.get(key):
            return str(answer[key])
    return str(error) if error else ""


def _details(entries: list[Any]) -> Iterable[str]:
    """Yield a line for each entry of a list of errors as FastAPI writes it: {"loc": ["body", "seed"], "msg": ...}."""
    for entry in entries:
        if isinstance(entry, dict):
            where = entry.get("loc")
            parts = [".".join(map(str, where))] if isinstance(where, list) else []
            yield ": ".join([*parts, str(entry.get("msg", ""))])
        else:
            yield str(entry)


def _retry_after(headers: Any) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date; None without a sound one."""
    given = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", given):
        return float(given)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    return None
