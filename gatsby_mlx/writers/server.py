"""A writer behind an OpenAI-style server (LM Studio, mlx_lm.server, ...), asked for one story at a time."""

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import prompts
from gatsby_mlx.writers.prompted import Completion, PromptedWriter
from gatsby_mlx.writers.prompts import Prompt
from gatsby_mlx.writers.reasoning import split
from gatsby_mlx.writers.specs import ServerSpec

T = TypeVar("T")
TIMEOUT_S = 300.0  # for one story; a slow machine writes two tokens a second
TRIES = 3
PAUSE_S = 2.0
MAX_BYTES = 4_000_000  # of an answer
# A server on this machine or in this network: proxies of the environment are not for it.
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ServerWriter(PromptedWriter):
    def __init__(self, spec: ServerSpec, timeout_s: float = TIMEOUT_S, pause_s: float = PAUSE_S):
        self.spec, self.name, self.max_tokens = spec, spec.name, spec.max_tokens
        self.timeout_s, self.pause_s = timeout_s, pause_s
        self.about = {"kind": "server", "model": spec.model, "temp": spec.temp, "top_p": spec.top_p}
        self.about |= {"max_tokens": spec.max_tokens, "prompts": prompts.digest()}
        self.source: dict[str, Any] = {}
        self.model = spec.model
        self.extra: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}

    def __enter__(self) -> Self:
        """Ask the server which models it has; raises WriterError where there is no server, or not that model."""
        try:
            rows = self._send("/v1/models", None).get("data")
        except _NonsenseError:
            if not self.spec.model:
                raise
            rows = None  # mlx_lm.server lists nothing where there is no cache of the hub
        rows = rows if isinstance(rows, list) else []
        models = [str(row["id"]) for row in rows if isinstance(row, dict) and row.get("id")]
        self.model = self.spec.model or next(iter(models), "")
        if not self.model:
            raise WriterError(f"The server at {self.spec.url} lists no model", "Name one: server:URL#MODEL")
        self.source = {"model": self.model.rstrip("/").split("/")[-1]}
        return self

    def complete(
        self, queue: deque[T], ask: Callable[[T], Prompt], probes: Sequence[T]
    ) -> Iterator[tuple[T, Completion]]:
        """Yield the server's answers in order. Raises WriterError when it is down, too slow or answers nonsense."""
        while queue:
            item = queue.popleft()
            prompt, begun = ask(item), time.monotonic()
            yield item, self._completion(self._ask(prompt), time.monotonic() - begun)

    def _ask(self, prompt: Prompt) -> dict[str, Any]:
        body = {"model": self.model, "messages": prompt.messages, "max_tokens": prompt.max_tokens, "stream": False}
        body |= {"temperature": self.spec.temp, "top_p": self.spec.top_p, "seed": prompt.seed % 2**31}
        for attempt in range(1, TRIES + 1):
            try:
                answer = self._send("/v1/chat/completions", body | self.extra)
                _message(answer, self.spec.url)
                return answer
            except _RefusedError as refused:
                if not self.extra:  # a server that knows only what OpenAI's does gets only that
                    raise WriterError(str(refused), "Check the model's name") from None
                self.extra = {}
            except WriterError:
                if attempt == TRIES:
                    raise
                time.sleep(self.pause_s * attempt)
        return self._ask(prompt)

    def _completion(self, answer: dict[str, Any], seconds: float) -> Completion:
        message, finish = _message(answer, self.spec.url)
        parts = split(message)
        told = answer.get("usage")
        usage = told if isinstance(told, dict) else {}
        count = [n if isinstance(n := usage.get(k), int) else 0 for k in ("prompt_tokens", "completion_tokens")]
        finish = "reasoning" if parts.inside else finish
        return Completion(parts.answer, finish, count[0], count[1], parts.reasoning, seconds)

    def _send(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Return the JSON object that the server answers; raise WriterError, and _RefusedError for a 4xx status."""
        url = self.spec.url
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
        try:
            with contextlib.closing(_OPEN(request, timeout=self.timeout_s)) as response:
                raw = response.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            error.close()
            told = f"The server at {url} answers {error.code} ({error.reason})"
            if error.code in (400, 422):
                raise _RefusedError(told) from None
            raise WriterError(told, "See the server's own log; the same command goes on") from None
        except TimeoutError:
            told = f"The server at {url} did not answer in {self.timeout_s:.0f} s"
            raise WriterError(told, "See whether it has loaded its model; the same command goes on") from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            if isinstance(why, TimeoutError):
                why = f"no answer in {self.timeout_s:.0f} s"
            told = f"There is no server at {url}, or it went away ({why})"
            raise WriterError(told, "Start it (mlx_lm.server, LM Studio); the same command goes on") from None
        try:
            found = json.loads(raw[:MAX_BYTES])
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise _NonsenseError(f"The server at {url} answers what is no JSON object", "Is it an OpenAI-style server?")
        return found


class _RefusedError(WriterError):
    pass


class _NonsenseError(WriterError):
    pass


def _message(answer: dict[str, Any], url: str) -> tuple[str, str]:
    """Return text and finish reason of a chat completion; raise WriterError if it is none."""
    try:
        choice = answer["choices"][0]
        content = choice["message"].get("content") or ""
        finish = choice.get("finish_reason") or "stop"
        if isinstance(content, str) and isinstance(finish, str):
            return content, finish
    except (KeyError, IndexError, TypeError, AttributeError):
        pass
    raise WriterError(f"The server at {url} answers without a story", "Is it an OpenAI-style server?")
