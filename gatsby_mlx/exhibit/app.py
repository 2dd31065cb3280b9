"""The web application: the page's files, and the JSON and server-sent events that the page and scripts use.

`page/api.html` documents every route; the tests run its examples.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

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
from gatsby_mlx.exhibit.records import AccessLog, Counts, code_svg
from gatsby_mlx.exhibit.request import BusyError, Events, LearningError, ShareError, StoppedError, StoryParams, Visitor
from gatsby_mlx.exhibit.sources import Sources
from gatsby_mlx.exhibit.stream import EventResponse, StoryStream, rounded, server_sent
from gatsby_mlx.exhibit.topic import visitor_topic
from gatsby_mlx.model.checkpoint import NAMES, Checkpoint
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.sampling import TEMP

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
MAX_TOKEN = 64  # characters of a page's token
MAX_TYPED = 400  # characters of a topic before it is folded
MAX_TEMP = 2.0
MAX_SEED = 2**32 - 1
N_SUGGESTED = 24
CLOSING = "The exhibit is closing"


@dataclass(frozen=True)
class PageSettings:
    """How the page is shown, and to whom.

    `kiosk` hides what a passer-by does not need and starts the page over after `idle_s` seconds without a visitor.
    `topics` are the suggestions. `night` shows the dark scheme to everybody. `code_url` is shown as a QR code.
    `allowed` are more names that the page may be requested by, `refused` the stems that no topic may have.
    `access_log` gets a line for each request.
    """

    host: str = "127.0.0.1"
    kiosk: bool = False
    idle_s: int = 60
    topics: tuple[str, ...] = field(default_factory=lambda: default_topics(N_SUGGESTED))
    night: bool = False
    code_url: str | None = None
    allowed: tuple[str, ...] = ()
    refused: frozenset[str] = frozenset()
    access_log: TextIO | None = None


def page_files(night: bool = False) -> dict[str, tuple[bytes, str]]:
    """Return the page's files as (content, media type) by URL path; with `night`, in the dark scheme only.

    They are read once, so the path of a request never becomes a path on the disk. Symbolic links are left out.
    """
    files = {}
    for file in resources.files("gatsby_mlx.exhibit").joinpath("page").iterdir():
        media_type = MEDIA_TYPES.get(Path(file.name).suffix)
        if media_type and file.is_file() and not (isinstance(file, Path) and file.is_symlink()):
            files[f"/{file.name}"] = (file.read_bytes(), media_type)
    tokens = resources.files("gatsby_mlx.evaluation").joinpath("tokens.css")  # shared with the report page
    files["/tokens.css"] = (tokens.read_bytes(), MEDIA_TYPES[".css"])
    if night:
        files = {path: (_dark(content), media_type) for path, (content, media_type) in files.items()}
    files["/"] = files["/visit"] = files.pop("/index.html")
    files["/api"] = files.pop("/api.html")
    return files


def _dark(content: bytes) -> bytes:
    """Return a page's file with the dark scheme for everybody."""
    content = content.replace(b"(prefers-color-scheme: dark)", b"all").replace(
        b"(prefers-color-scheme: light)", b"not all"
    )
    return content.replace(b'content="light dark"', b'content="dark"').replace(
        b"color-scheme: light dark", b"color-scheme: dark"
    )


def checkpoint_identity(folder: Path) -> tuple[int, int] | None:
    """Return a value that changes when the checkpoint in `folder` is replaced; None when it is gone."""
    try:
        status = (folder / "config.json").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class Teller:
    """A model that the exhibit offers: its checkpoint, the engine that tells with it, and what it learned from."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint, sources: Sources):
        self.engine, self.checkpoint, self.sources = engine, checkpoint, sources
        self.obsession = checkpoint.obsession
        self._loaded = checkpoint_identity(checkpoint.path)

    @cached_property
    def name(self) -> str:
        """The name of the folder; of a checkpoint in a run folder, the run's."""
        folder = self.checkpoint.path
        if folder.name in NAMES and folder.parent.name:
            folder = folder.parent
        return folder.name if (folder / "config.json").is_file() or folder.is_dir() else str(self.preset)

    @property
    def preset(self) -> str:
        return str(self.checkpoint.info.get("preset", "model"))

    def about(self) -> dict[str, Any]:
        """Return what /api/state says of the model."""
        model = self.checkpoint.model
        return {
            "name": self.name,
            "parameters": model.n_params(positions=False),
            "layers": model.config.n_layer,
            "width": model.config.n_embd,
            "context": model.config.block_size,
            "step": self.checkpoint.info.get("step"),
        }

    @property
    def replaced(self) -> bool:
        """Whether the checkpoint on the disk is another one by now."""
        return checkpoint_identity(self.checkpoint.path) != self._loaded


class Exhibit:
    """The request handlers and what they share. `application` makes an ASGI application of it.

    The first of `tellers` is the one that tells when a request names none.
    """

    def __init__(self, tellers: Sequence[Teller], settings: PageSettings, counts: Counts | None = None):
        self.settings, self.counts = settings, counts or Counts()
        self.tellers: dict[str, Teller] = {}
        for teller in tellers:  # two folders of one name: "story", "story 2"
            n = sum(other.name == teller.name for other in self.tellers.values())
            self.tellers[f"{teller.name} {n + 1}" if n else teller.name] = teller
        self.first = tellers[0]
        self.life = secrets.token_hex(4)  # changes with every restart; an open page then reloads or resumes
        longest = max(teller.engine.block_size for teller in tellers)
        self.max_body = 4096 + 6 * longest  # bytes; a character takes up to 6 bytes in JSON

    async def state(self, request: Request) -> Response:
        """Return what the exhibit serves and how busy it is."""
        engines = [teller.engine for teller in self.tellers.values()]
        models = [self._about(name, teller) for name, teller in self.tellers.items()]
        return json_response(
            {
                "life": self.life,
                "version": __version__,
                "ready": all(engine.ready and not engine.failure for engine in engines),
                "failed": any(bool(engine.failure) for engine in engines),
                "model": {**self.first.about(), "replaced": models[0]["replaced"]},
                "models": models,
                "batch": self.first.engine.n_slots,
                "telling": sum(engine.n_live for engine in engines),
                "waiting": sum(engine.n_queued for engine in engines),
                "obsession": models[0]["obsession"],
                "levels": models[0]["levels"],
                "topic_max": prime.TOPIC_MAX,
                "temp_max": MAX_TEMP,
                "sources": self.first.sources.exists,
                "kiosk": self.settings.kiosk,
                "idle_s": self.settings.idle_s,
                "code": bool(self.settings.code_url),
                "topics": self.settings.topics,
            }
        )

    def _about(self, name: str, teller: Teller) -> dict[str, Any]:
        obsession = teller.obsession
        return {
            **teller.about(),
            "name": name,
            "replaced": teller.replaced,
            "obsession": {"phrase": obsession.phrase, "title": obsession.title},
            "levels": dict(zip(map(str, LEVELS), obsession.levels, strict=True)),
            "sources": teller.sources.exists,
        }

    async def page(self, path: str, content: bytes, media_type: str) -> Response:
        """Return the page, and count it as a visit; a kiosk's own page counts when a visitor wakes it."""
        if path == "/visit" or not self.settings.kiosk:
            self.counts.add("visits")
        return Response(content, media_type=media_type)

    async def visit(self, request: Request) -> Response:
        """Count a visitor who has woken a kiosk."""
        await read_json(request, 64)
        self.counts.add("visits")
        return json_response({})

    async def code(self, request: Request) -> Response:
        """Return the code to scan."""
        if not self.settings.code_url:
            raise HTTPException(404)
        return Response(code_svg(self.settings.code_url), media_type=MEDIA_TYPES[".svg"])

    async def tell(self, request: Request) -> Response:
        """Tell a story at each requested level: as server-sent events, or as one document with "stream": false."""
        content = await read_json(request, self.max_body)
        check_fields(content, "topic", "green", "seed", "temp", "story", "stream", "model", "unattended")
        stream, unattended = flag_field(content, "stream", True), flag_field(content, "unattended", False)
        teller = self._teller(content)
        params = self._params(content, teller)
        story = StoryStream(params)
        with request_errors():
            story.request = teller.engine.submit(params, story.wake, visitor(request))
        if not unattended and not params.story:
            self.counts.add("stories", len(params.levels))
        if stream:
            return EventResponse(self._events(story, teller), story)
        return json_response(await self._document(request, story, teller))

    def _teller(self, content: dict[str, Any]) -> Teller:
        """Return the model that a request names, by default the first."""
        if "model" not in content:
            return self.first
        if teller := self.tellers.get(text_field(content, "model", MAX_TYPED)):
            return teller
        raise RequestError(422, "There is no model of that name here", f"The models are {', '.join(self.tellers)}")

    def _topic(self, content: dict[str, Any], teller: Teller) -> str:
        typed, alphabet = text_field(content, "topic", MAX_TYPED), teller.checkpoint.tokenizer.alphabet
        with request_errors():
            return visitor_topic(typed, alphabet, teller.obsession, self.settings.refused)

    def _params(self, content: dict[str, Any], teller: Teller) -> StoryParams:
        topic = self._topic(content, teller)
        green = content.get("green", 3)
        given = green if isinstance(green, list) else [green]
        if not 1 <= len(given) <= len(LEVELS):
            raise RequestError(422, f"green must be a level, or a list of 1 to {len(LEVELS)} levels")
        levels = [int(number_field({"green": level}, "green", LEVELS[0], LEVELS[-1], 0)) for level in given]
        if len(set(levels)) != len(levels):
            raise RequestError(422, "green must list each level only once")
        seed = int(number_field(content, "seed", 0, MAX_SEED, secrets.randbelow(1_000_000)))
        temp = float(number_field(content, "temp", 0.0, MAX_TEMP, TEMP))
        return StoryParams(topic, tuple(levels), seed, temp, text_field(content, "story", teller.engine.block_size, ""))

    async def _events(self, stream: StoryStream, teller: Teller) -> AsyncIterator[str]:
        params = stream.params
        start = {"topic": params.topic, "green": params.levels, "seed": params.seed, "temp": params.temp}
        yield server_sent("start", start)
        async for events in stream.events():
            if events.position is not None:
                yield server_sent("place", {"place": events.position, "ready": teller.engine.ready})
            if events.text or events.light:
                yield server_sent("text", _news(events))
            if events.ends:
                yield server_sent("end", {level: vars(end) for level, end in events.ends.items()})
        if stream.closed:
            yield server_sent("closed", {"message": CLOSING})

    async def _document(self, request: Request, stream: StoryStream, teller: Teller) -> dict[str, Any]:
        """Return the stories as one document when all have ended."""
        params = stream.params
        text, ends = dict.fromkeys(params.levels, params.story), {}
        light: dict[int, list[list[float]]] = {level: [] for level in params.levels}
        chance: dict[int, list[list[float]]] = {level: [] for level in params.levels}
        try:
            async for events in stream.events():
                if await request.is_disconnected():
                    raise ClientDisconnect
                for level, new in events.text.items():
                    text[level] += new
                for level, readings in events.light.items():
                    light[level] += rounded(readings)
                for level, readings in events.chance.items():
                    chance[level] += rounded(readings)
                ends |= events.ends
        finally:
            stream.request.cancel()
        if stream.closed:
            raise RequestError(503, CLOSING)
        stories = [
            {
                "level": level,
                "story": text[level],
                **vars(ends[level]),
                "light": light[level],
                "chance": chance[level],
            }
            for level in params.levels
        ]
        return {
            "topic": params.topic,
            "seed": params.seed,
            "temp": params.temp,
            "model": teller.about(),
            "stories": stories,
        }

    async def pull(self, request: Request) -> Response:
        """Return how much likelier level 5 makes each character of a story than level 1, in nats."""
        content = await read_json(request, self.max_body)
        check_fields(content, "topic", "story", "model")
        teller = self._teller(content)
        topic, story = self._topic(content, teller), text_field(content, "story", teller.engine.block_size)
        with request_errors():
            pull = await asyncio.wrap_future(teller.engine.pull(topic, story))
        return json_response({"topic": topic, "pull": [round(float(x), 3) for x in pull], "sum": float(pull.sum())})

    async def source(self, request: Request) -> Response:
        """Return a story's longest passage that is in the corpus, and the most similar stories of the corpus."""
        content = await read_json(request, self.max_body)
        check_fields(content, "story", "model")
        teller = self._teller(content)
        story = text_field(content, "story", teller.engine.block_size)
        with request_errors():
            return json_response(await asyncio.wrap_future(teller.sources.find(story)))


def _news(events: Events) -> dict[int, dict[str, Any]]:
    """Return what is new at each level, as the event `text` has it."""
    news: dict[int, dict[str, Any]] = {}
    for level in sorted(events.text.keys() | events.light.keys()):
        news[level] = {"text": events.text.get(level, "")}
        if level in events.light:
            news[level]["light"] = rounded(events.light[level])
            news[level]["chance"] = rounded(events.chance[level])
    return news


def visitor(request: Request) -> Visitor:
    """Return who sends a request. The token is the page's own; another one only changes whose share it counts to."""
    return Visitor(request.client.host if request.client else "", request.headers.get("x-visitor", "")[:MAX_TOKEN])


def check_fields(content: dict[str, Any], *names: str) -> None:
    """Raise RequestError 422 if `content` has a field that is not in `names`."""
    if unknown := [name for name in content if name not in names]:
        raise RequestError(422, f"There is no field {unknown[0][:40]!a}", f"The fields are {', '.join(names)}")


def flag_field(content: dict[str, Any], name: str, default: bool) -> bool:
    """Return the field `name`, true or false; raise RequestError 422 for anything else."""
    value = content.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(422, f"{name} must be true or false")
    return value


@contextmanager
def request_errors() -> Iterator[None]:
    """Turn errors of the engine and the library into a RequestError with the right status."""
    try:
        yield
    except BusyError as error:
        message = "Everyone wants a story just now, and the line is full"
        hint = f"Try again in about {error.retry_after_s} s"
        raise RequestError(503, message, hint, retry_after=str(error.retry_after_s)) from None
    except LearningError as error:
        message = "What this model learned from is being written again, which takes some minutes, once"
        hint = f"Ask again in {error.retry_after_s} s"
        raise RequestError(503, message, hint, retry_after=str(error.retry_after_s)) from None
    except ShareError as error:
        message = "You have as many stories in progress as one visitor may have"
        hint = f"Try again in about {error.retry_after_s} s"
        raise RequestError(429, message, hint, retry_after=str(error.retry_after_s)) from None
    except StoppedError as error:
        raise RequestError(503, str(error), "Start it again with: gatsby serve", retry_after="5") from None
    except GatsbyError as error:
        raise RequestError(422, str(error), error.hint) from None


def application(exhibit: Exhibit) -> Starlette:
    """Return the exhibit as an ASGI application."""
    settings = exhibit.settings
    files = page_files(settings.night)
    pages = {
        path: _counted(exhibit, *file) if path in ("/", "/visit") else _static(*file) for path, file in files.items()
    }
    routes = [Route(path, page, methods=["GET"]) for path, page in pages.items()]
    routes += [
        Route("/code.svg", exhibit.code, methods=["GET"]),
        Route("/api/state", exhibit.state, methods=["GET"]),
        Route("/api/tell", exhibit.tell, methods=["POST"]),
        Route("/api/pull", exhibit.pull, methods=["POST"]),
        Route("/api/source", exhibit.source, methods=["POST"]),
        Route("/api/visit", exhibit.visit, methods=["POST"]),
    ]
    guard = Middleware(Guard, allowed_names(settings.host, settings.allowed), not is_loopback(settings.host))
    middleware = [guard]
    if settings.access_log:
        known = frozenset(route.path for route in routes)
        middleware = [Middleware(AccessLog, settings.access_log, known), guard]
    handlers: dict[Any, Callable[..., Any]] = {
        RequestError: _on_request_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_disconnect,
    }
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _static(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return serve


def _counted(exhibit: Exhibit, content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return await exhibit.page(request.url.path, content, media_type)

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
