"""A writer behind an OpenAI-style server (LM Studio, mlx_lm.server, ...). It requests one story at a time.

Servers differ in what they take. A field is left out when the server names it in a refusal and takes the request
without it, and only then: after an error about something else the next request has all fields again.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

from gatsby_mlx.errors import WriterError, foreign_words
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.writers import prompts
from gatsby_mlx.writers.answers import Answer, chat_models, read
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.prompted import Completion, PromptedWriter
from gatsby_mlx.writers.prompts import Prompt
from gatsby_mlx.writers.specs import ServerSpec
from gatsby_mlx.writers.transport import BadAnswerError, Connection, ServerError

T = TypeVar("T")
TIMEOUT_S = 300.0  # for one story; a slow machine writes two tokens a second
TRIES = 3
PAUSE_S = 2.0
WAIT_S = 300.0  # for a server that asks to wait, or loads its model; the most for one request, all waits together
LONGEST_PAUSE_S = 20.0
ONLY_REASONED = 5  # answers in a row, and the writer stops
FINAL = (401, 403, 404, 405, 410, 413, 501)  # statuses that another try does not change
# Both turn thinking off, each on other servers. OpenAI's own API has neither the first field nor, often, this value.
THINKING_OFF: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"}
# The fields that a request can do without, in the order in which they are given up, and what refusals call them.
OPTIONAL = {
    "chat_template_kwargs": r"chat_template_kwargs|enable_thinking",
    "reasoning_effort": r"reasoning[_ .]effort",
    "seed": "seed",
    "top_p": r"top_p|topP",
    "temperature": "temperature",
}
SYSTEM = re.compile(
    r"system[ _'\"]*(?:role|messages?|prompts?|instructions?)\b|only user and assistant|roles? must alternate"
    r"|\broles?\b.{0,40}\bsystem\b|\bsystem\b.{0,20}\b(?:is|are) not (?:supported|allowed)",
    re.IGNORECASE | re.DOTALL,
)
MERGED, RENAMED = "system", "max_tokens"  # changes of a request that are not a field left out
THINKS = (
    "Turn thinking off in the server (LM Studio: the model's settings), choose a model that does not reason, or give "
    "it more max_tokens in a blend file"
)


class ServerWriter(PromptedWriter):
    """Writes with the model of a server. A request waits at most `timeout_s`; retries pause `pause_s` or longer."""

    def __init__(
        self,
        spec: ServerSpec,
        timeout_s: float = TIMEOUT_S,
        pause_s: float = PAUSE_S,
        *,
        obsession: Obsession = GREEN_LIGHT,
    ):
        super().__init__(spec, obsession)
        self.spec, self.timeout_s, self.pause_s = spec, timeout_s, pause_s
        self.about = {"kind": "server", "model": spec.model, "temp": spec.temp, "top_p": spec.top_p}
        self.about |= {"max_tokens": spec.max_tokens, "prompts": prompts.digest(obsession, counted=True)}
        self.model = spec.model
        self.connection = Connection(spec, timeout_s)
        self.refused: set[str] = set()  # what this server does not take: keys of OPTIONAL, MERGED, RENAMED
        self._reached = False  # whether it has answered yet, be it with an error
        self._only_reasoned = 0  # answers in a row
        self._noted: set[str] = set()

    def __enter__(self) -> Self:
        """Ask the server for its models. Raises WriterError if it is down, or lists none that can chat.

        A spec that names its model needs no list: mlx_lm.server has none on a machine without a hub cache.
        """
        chat: list[str] = []
        other: list[str] = []
        try:
            chat, other = chat_models(self._ask("/v1/models", lambda changes: None, lambda answer: answer))
        except (BadAnswerError, ServerError) as error:
            if not self.spec.model or getattr(error, "status", 0) in (401, 403):
                raise
        self.model = self.spec.model or next(iter(chat), "")
        if not self.model:
            which = f"no model that can chat, only {foreign_words(', '.join(other))}" if other else "no model"
            raise WriterError(f"The server at {self.spec.url} lists {which}", "Name one: server:URL#MODEL")
        self._describe()
        return self

    def _describe(self) -> None:
        """Set `source`: the model, and what was changed because the server refuses it."""
        self.source = {"model": foreign_words(self.model.rstrip("/").split("/")[-1])}
        if left_out := [field for field in OPTIONAL if field in self.refused]:
            self.source["left_out"] = left_out
        if MERGED in self.refused:
            self.source["system"] = "in the user's message"

    def story_prompt(self, job: StoryJob) -> Prompt:
        """Return the prompt for a story. It names the number of mentions, for a server takes no guide."""
        return prompts.story_prompt(job, self.max_tokens, self.obsession, counted=True)

    def complete(self, queue: deque[T], make_prompt: Callable[[T], Prompt]) -> Iterator[tuple[T, Completion]]:
        """Yield (item, completion) in the order of `queue`.

        Raises WriterError if the server fails TRIES times, was never reached, does not get ready in WAIT_S, or only
        reasons.
        """
        while queue:
            item = queue.popleft()
            started = time.monotonic()
            answer = self._request(make_prompt(item))
            self._check_reasoning(answer)
            seconds = time.monotonic() - started
            counts = answer.tokens_in, answer.tokens_out, answer.reasoning
            yield item, Completion(answer.text, answer.finish, *counts, seconds)

    def _request(self, prompt: Prompt) -> Answer:
        """Return the server's answer to a prompt."""
        return self._ask(
            "/v1/chat/completions",
            lambda changes: self._body(prompt, changes),
            lambda answer: read(answer, self.spec.url),
        )

    def _body(self, prompt: Prompt, changes: set[str]) -> dict[str, Any]:
        """Return a request without the fields in `changes`, and with the other changes that are in it."""
        limit = "max_completion_tokens" if RENAMED in changes else "max_tokens"
        body: dict[str, Any] = {"model": self.model, "messages": prompt.messages, limit: prompt.max_tokens}
        if MERGED in changes:
            body["messages"] = [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
        body |= {"stream": False, "temperature": self.spec.temp, "top_p": self.spec.top_p}
        body |= {"seed": prompt.seed % 2**31} | THINKING_OFF
        return {key: value for key, value in body.items() if key not in changes or key not in OPTIONAL}

    def _ask(self, path: str, make_body: Callable[[set[str]], Any], read: Callable[[dict[str, Any]], T]) -> T:
        """Return what `read` makes of the answer; change what the server refuses, and try again what can be.

        `make_body` makes the body from the changes so far. They are kept only if the server takes the request with
        them: otherwise the error was about something else.
        """
        changes, failures, waited_s = set(self.refused), 0, 0.0
        wordless = False  # a refusal without a word: this request goes on without OpenAI's unknown fields
        while True:
            try:
                result = read(self.connection.send(path, make_body(changes | set(THINKING_OFF if wordless else ()))))
                self._reached = True
                self._keep(changes)
                return result
            except ServerError as error:
                self._reached = True
                body = make_body(changes)
                if change := _refused(error, body, changes):
                    changes.add(change)
                    continue
                if error.status in (400, 422) and not error.words and body and not wordless:
                    wordless = True
                    continue
                if error.status in FINAL:
                    raise
                failures += 1
                asks = error.status == 429 or error.wait_s is not None or error.loading
                if asks:
                    waited_s += self._wait(error, waited_s, failures)
                    continue
                if failures >= TRIES:
                    raise
            except WriterError:
                failures += 1
                if failures >= TRIES or not self._reached:
                    raise
            time.sleep(self.pause_s * failures)

    def _wait(self, error: ServerError, waited_s: float, failures: int) -> float:
        """Wait as long as the server asks to, or with growing pauses; return the seconds.

        Raises `error` where that exceeds what is left of WAIT_S.
        """
        growing_s = min(self.pause_s * 2 ** min(failures, 9), LONGEST_PAUSE_S)
        pause_s = max(self.pause_s, growing_s if error.wait_s is None else error.wait_s)
        if waited_s + pause_s > WAIT_S:
            raise error
        why = "is loading its model" if error.loading else f"asks to wait: {error.status}"
        said = foreign_words(error.words, 80)
        about = f" ({said})" if said and not error.loading else ""
        self._note(f"the server {why}{about}. Waiting, {WAIT_S / 60:.0f} minutes at most")
        time.sleep(pause_s)
        return pause_s

    def _keep(self, changes: set[str]) -> None:
        """Keep the changes with which a request has succeeded, and say so once."""
        new = changes - self.refused
        if not new:
            return
        self.refused |= new
        if fields := [field for field in OPTIONAL if field in new]:
            self._note(f"the server does not take {', '.join(fields)}: left out, and noted in the manifest")
        if MERGED in new:
            self._note("the model takes no system message: it is part of the user's, and noted in the manifest")
        self._describe()

    def _check_reasoning(self, answer: Answer) -> None:
        """Say once that a model only reasons. Raises WriterError after ONLY_REASONED such answers in a row."""
        self._only_reasoned = self._only_reasoned + 1 if answer.finish == "reasoning" else 0
        if self._only_reasoned >= ONLY_REASONED:
            message = f"{self.model} reasoned and wrote no story in {self._only_reasoned} answers in a row"
            raise WriterError(foreign_words(message), THINKS)
        if self._only_reasoned:
            self._note(f"an answer was reasoning and no story. {THINKS}")

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self.on_note(text)


def _refused(error: ServerError, body: dict[str, Any] | None, changes: set[str]) -> str | None:
    """Return what in `body` the server's words refuse: a key of OPTIONAL, MERGED or RENAMED; None for anything else."""
    if body is None or error.status in (401, 403, 429) or error.loading:
        return None
    if "max_completion_tokens" in error.words and RENAMED not in changes:
        return RENAMED
    for field, names in OPTIONAL.items():
        if field in body and re.search(rf"(?<![A-Za-z_])(?:{names})(?![A-Za-z_])", error.words):
            return field
    if MERGED not in changes and SYSTEM.search(error.words):
        return MERGED
    return None
