"""The web application: the page's files, and the JSON and server-sent events that the page and scripts use.

`page/api.html` documents every route; the tests run its examples.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gatsby_mlx import __version__
from gatsby_mlx.errors import GatsbyError
from gatsby_mlx.evaluation.topics import default_topics
from gatsby_mlx.exhibit.engine import Engine
from gatsby_mlx.exhibit.guard import (
    Guard,
    RequestError,
    allowed_names,
    error_response,
    is_loopback,
    json_response,
    number_field,
    read_json,
    text_field,
)
from gatsby_mlx.exhibit.request import BusyError, StoppedError, StoryParams
from gatsby_mlx.exhibit.sources import Sources
from gatsby_mlx.exhibit.stream import EventResponse, StoryStream, rounded, server_sent
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.sampling import TEMP

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
MAX_TYPED = 400  # characters of a topic before it is folded
MAX_TEMP = 2.0
MAX_SEED = 2**32 - 1
N_SUGGESTED = 24
CLOSING = "The exhibit is closing"


@dataclass(frozen=True)
class PageSettings:
    """How the page is shown. `kiosk` hides what a passer-by does not need and resets the page after `idle_s` seconds.

    `topics` are the suggestions.
    """

    host: str = "127.0.0.1"
    kiosk: bool = False
    idle_s: int = 60
    topics: tuple[str, ...] = field(default_factory=lambda: default_topics(N_SUGGESTED))


def page_files() -> dict[str, tuple[bytes, str]]:
    """Return the page's files as (content, media type) by URL path.

    They are read once, so the path of a request never becomes a path on the disk. Symbolic links are left out.
    """
    files = {}
    for file in resources.files("gatsby_mlx.exhibit").joinpath("page").iterdir():
        media_type = MEDIA_TYPES.get(Path(file.name).suffix)
        if media_type and file.is_file() and not (isinstance(file, Path) and file.is_symlink()):
            files[f"/{file.name}"] = (file.read_bytes(), media_type)
    tokens = resources.files("gatsby_mlx.evaluation").joinpath("tokens.css")  # shared with the report page
    files["/tokens.css"] = (tokens.read_bytes(), MEDIA_TYPES[".css"])
    files["/"] = files.pop("/index.html")
    files["/api"] = files.pop("/api.html")
    return files


def checkpoint_identity(folder: Path) -> tuple[int, int] | None:
    """Return a value that changes when the checkpoint in `folder` is replaced; None when it is gone."""
    try:
        status = (folder / "config.json").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class Exhibit:
    """The request handlers and what they share. `application` makes an ASGI application of it."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint, sources: Sources, settings: PageSettings):
        self.engine, self.sources, self.settings = engine, sources, settings
        self.tokenizer, self.folder = checkpoint.tokenizer, checkpoint.path
        self.obsession = checkpoint.obsession
        self.loaded = checkpoint_identity(self.folder)
        self.life = secrets.token_hex(4)  # changes with every restart; an open page then reloads or resumes
        self.max_body = 4096 + 6 * engine.block_size  # bytes; a character takes up to 6 bytes in JSON
        config, info = checkpoint.model.config, checkpoint.info
        self.model = {
            "name": self.folder.name if self.folder.parent.name == "checkpoints" else str(info.get("preset", "model")),
            "parameters": checkpoint.model.n_params(positions=False),
            "layers": config.n_layer,
            "width": config.n_embd,
            "context": config.block_size,
            "step": info.get("step"),
        }

    async def state(self, request: Request) -> Response:
        """Return what the exhibit serves and how busy it is."""
        engine = self.engine
        return json_response(
            {
                "life": self.life,
                "version": __version__,
                "ready": engine.ready and not engine.failure,
                "failed": bool(engine.failure),
                "model": {**self.model, "replaced": checkpoint_identity(self.folder) != self.loaded},
                "batch": engine.n_slots,
                "telling": engine.n_live,
                "waiting": engine.n_queued,
                "obsession": {"phrase": self.obsession.phrase, "title": self.obsession.title},
                "levels": dict(zip(map(str, LEVELS), self.obsession.levels, strict=True)),
                "topic_max": prime.TOPIC_MAX,
                "temp_max": MAX_TEMP,
                "sources": self.sources.exists,
                "kiosk": self.settings.kiosk,
                "idle_s": self.settings.idle_s,
                "topics": self.settings.topics,
            }
        )

    async def tell(self, request: Request) -> Response:
        """Tell a story at each requested level: as server-sent events, or as one document with "stream": false."""
        content = await read_json(request, self.max_body)
        check_fields(content, "topic", "green", "seed", "temp", "story", "stream")
        stream = content.get("stream", True)
        if not isinstance(stream, bool):
            raise RequestError(422, "stream must be true or false")
        params = self._params(content)
        story = StoryStream(params)
        with request_errors():
            story.request = self.engine.submit(params, story.wake)
        if stream:
            return EventResponse(self._events(story), story)
        return json_response(await self._document(request, story))

    def _topic(self, content: dict[str, Any]) -> str:
        with request_errors():
            return prime.fold_topic(text_field(content, "topic", MAX_TYPED), self.tokenizer.alphabet, self.obsession)

    def _params(self, content: dict[str, Any]) -> StoryParams:
        topic = self._topic(content)
        green = content.get("green", 3)
        given = green if isinstance(green, list) else [green]
        if not 1 <= len(given) <= len(LEVELS):
            raise RequestError(422, f"green must be a level, or a list of 1 to {len(LEVELS)} levels")
        levels = [int(number_field({"green": level}, "green", LEVELS[0], LEVELS[-1], 0)) for level in given]
        if len(set(levels)) != len(levels):
            raise RequestError(422, "green must list each level only once")
        seed = int(number_field(content, "seed", 0, MAX_SEED, secrets.randbelow(1_000_000)))
        temp = float(number_field(content, "temp", 0.0, MAX_TEMP, TEMP))
        return StoryParams(topic, tuple(levels), seed, temp, text_field(content, "story", self.engine.block_size, ""))

    async def _events(self, stream: StoryStream) -> AsyncIterator[str]:
        params = stream.params
        start = {"topic": params.topic, "green": params.levels, "seed": params.seed, "temp": params.temp}
        yield server_sent("start", start)
        async for events in stream.events():
            if events.position is not None:
                yield server_sent("place", {"place": events.position, "ready": self.engine.ready})
            if events.text or events.light:
                news: dict[int, dict[str, Any]] = {}
                for level in sorted(events.text.keys() | events.light.keys()):
                    news[level] = {"text": events.text.get(level, "")}
                    if level in events.light:
                        news[level]["light"] = rounded(events.light[level])
                yield server_sent("text", news)
            if events.ends:
                yield server_sent("end", {level: vars(end) for level, end in events.ends.items()})
        if stream.closed:
            yield server_sent("closed", {"message": CLOSING})

    async def _document(self, request: Request, stream: StoryStream) -> dict[str, Any]:
        """Return the stories as one document when all have ended."""
        params = stream.params
        text, ends = dict.fromkeys(params.levels, params.story), {}
        light: dict[int, list[list[float]]] = {level: [] for level in params.levels}
        try:
            async for events in stream.events():
                if await request.is_disconnected():
                    raise ClientDisconnect
                for level, new in events.text.items():
                    text[level] += new
                for level, readings in events.light.items():
                    light[level] += rounded(readings)
                ends |= events.ends
        finally:
            stream.request.cancel()
        if stream.closed:
            raise RequestError(503, CLOSING)
        stories = [
            {"level": level, "story": text[level], **vars(ends[level]), "light": light[level]}
            for level in params.levels
        ]
        return {
            "topic": params.topic,
            "seed": params.seed,
            "temp": params.temp,
            "model": self.model,
            "stories": stories,
        }

    async def pull(self, request: Request) -> Response:
        """Return how much likelier level 5 makes each character of a story than level 1, in nats."""
        content = await read_json(request, self.max_body)
        check_fields(content, "topic", "story")
        topic, story = self._topic(content), text_field(content, "story", self.engine.block_size)
        with request_errors():
            pull = await asyncio.wrap_future(self.engine.pull(topic, story))
        return json_response({"topic": topic, "pull": [round(float(x), 3) for x in pull], "sum": float(pull.sum())})

    async def source(self, request: Request) -> Response:
        """Return a story's longest passage that is in the corpus, and the most similar stories of the corpus."""
        content = await read_json(request, self.max_body)
        check_fields(content, "story")
        story = text_field(content, "story", self.engine.block_size)
        with request_errors():
            return json_response(await asyncio.wrap_future(self.sources.find(story)))


def check_fields(content: dict[str, Any], *names: str) -> None:
    """Raise RequestError 422 if `content` has a field that is not in `names`."""
    if unknown := [name for name in content if name not in names]:
        raise RequestError(422, f"There is no field {unknown[0][:40]!a}", f"The fields are {', '.join(names)}")


@contextmanager
def request_errors() -> Iterator[None]:
    """Turn errors of the engine and the library into a RequestError with the right status."""
    try:
        yield
    except BusyError as error:
        message = f"Everyone wants to see the light just now; try again in about {error.retry_after_s} s"
        raise RequestError(503, message, "Wait a moment", retry_after=str(error.retry_after_s)) from None
    except StoppedError as error:
        raise RequestError(503, str(error), "Start it again with: gatsby serve", retry_after="5") from None
    except GatsbyError as error:
        raise RequestError(422, str(error), error.hint) from None


def application(exhibit: Exhibit) -> Starlette:
    """Return the exhibit as an ASGI application."""
    routes = [Route(path, _static(*file), methods=["GET"]) for path, file in page_files().items()]
    routes += [
        Route("/api/state", exhibit.state, methods=["GET"]),
        Route("/api/tell", exhibit.tell, methods=["POST"]),
        Route("/api/pull", exhibit.pull, methods=["POST"]),
        Route("/api/source", exhibit.source, methods=["POST"]),
    ]
    host = exhibit.settings.host
    guard = Middleware(Guard, allowed_names(host), not is_loopback(host))
    handlers: dict[Any, Callable[..., Any]] = {
        RequestError: _on_request_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_disconnect,
    }
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _static(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return serve


async def _on_request_error(request: Request, error: RequestError) -> Response:
    return error_response(error)


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    messages = {404: "There is nothing at this address", 405: "This address does not allow that method"}
    headers = {name.replace("-", "_"): value for name, value in (error.headers or {}).items()}
    message = messages.get(error.status_code, str(error.detail))
    return error_response(RequestError(error.status_code, message, "See /api", **headers))


async def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it
