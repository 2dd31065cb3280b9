"""The web application: the page's own files, and the JSON and server-sent events that page and scripts use.

`page/api.html` documents every route for those who ask; what it says is tested.
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

from gatsby_mlx import __version__, prime
from gatsby_mlx.config import TEMP
from gatsby_mlx.errors import GatsbyError
from gatsby_mlx.evaluation.topics import default_topics
from gatsby_mlx.exhibit.engine import Engine
from gatsby_mlx.exhibit.guard import (
    Guard,
    RefusedError,
    answer,
    is_loopback,
    own_names,
    read_json,
    refusal,
    take_number,
    take_text,
)
from gatsby_mlx.exhibit.sources import Sources
from gatsby_mlx.exhibit.ticket import Ask, BusyError, StoppedError
from gatsby_mlx.exhibit.visit import Stream, Visit, event, rounded
from gatsby_mlx.model.checkpoint import Checkpoint

KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
TYPED_MAX = 400  # characters that a topic may have before it is folded
TEMP_MAX = 2.0
SEED_MAX = 2**32 - 1
N_SUGGESTED = 24


@dataclass(frozen=True)
class Settings:
    """How the page is shown: `kiosk` hides what a passer-by does not need and begins anew after `idle_s` seconds."""

    host: str = "127.0.0.1"
    kiosk: bool = False
    idle_s: int = 60
    topics: tuple[str, ...] = field(default_factory=lambda: default_topics(N_SUGGESTED))


def page_files() -> dict[str, tuple[bytes, str]]:
    """Return the page's files by the path that they are asked for: (content, media type).

    They are read once, so a request never becomes a path on the disk.
    """
    found = {}
    for file in resources.files("gatsby_mlx.exhibit").joinpath("page").iterdir():
        kind = KINDS.get(Path(file.name).suffix)
        if kind and file.is_file() and not (isinstance(file, Path) and file.is_symlink()):
            found[f"/{file.name}"] = (file.read_bytes(), kind)
    found["/"] = found.pop("/index.html")
    found["/api"] = found.pop("/api.html")
    return found


def identity(folder: Path) -> tuple[int, int] | None:
    """Return what changes when the checkpoint in `folder` is replaced; None when it is gone."""
    try:
        found = (folder / "config.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


class Exhibit:
    """The handlers and what they share. `application` returns it as an ASGI application."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint, sources: Sources, settings: Settings):
        self.engine, self.sources, self.settings = engine, sources, settings
        self.tokenizer, self.folder = checkpoint.tokenizer, checkpoint.path
        self.loaded = identity(self.folder)
        self.life = secrets.token_hex(4)  # another one after every restart: the page begins anew when it changes
        self.body_limit = 4096 + 6 * engine.block_size  # a character in JSON takes up to 6 bytes
        c, info = checkpoint.model.config, checkpoint.info
        self.model = {
            "name": self.folder.name if self.folder.parent.name == "checkpoints" else str(info.get("preset", "model")),
            "parameters": checkpoint.model.n_params(positions=False),
            "layers": c.n_layer,
            "width": c.n_embd,
            "context": c.block_size,
            "step": info.get("step"),
        }

    async def state(self, request: Request) -> Response:
        """What the exhibit is and how busy it is."""
        e = self.engine
        return answer(
            {
                "life": self.life,
                "version": __version__,
                "ready": e.ready and not e.failed,
                "failed": bool(e.failed),
                "model": {**self.model, "replaced": identity(self.folder) != self.loaded},
                "batch": e.batch,
                "telling": e.n_live,
                "waiting": e.n_line,
                "levels": dict(zip(map(str, prime.LEVELS), prime.OBSESSIONS, strict=True)),
                "topic_max": prime.TOPIC_MAX,
                "temp_max": TEMP_MAX,
                "sources": self.sources.exists,
                "kiosk": self.settings.kiosk,
                "idle_s": self.settings.idle_s,
                "topics": self.settings.topics,
            }
        )

    async def tell(self, request: Request) -> Response:
        """Tell a story for each level asked for: as server-sent events, or with "stream": false as one document."""
        content = await read_json(request, self.body_limit)
        self._only(content, "topic", "green", "seed", "temp", "story", "stream")
        stream = content.get("stream", True)
        if not isinstance(stream, bool):
            raise RefusedError(422, "stream is true or false")
        ask = self._ask(content)
        visit = Visit(ask)
        with refusing():
            visit.ticket = self.engine.ask(ask, visit.wake)
        if not stream:
            return answer(await self._whole(request, visit))
        return Stream(self._events(visit), visit)

    def _only(self, content: dict[str, Any], *names: str) -> None:
        if unknown := [k for k in content if k not in names]:
            raise RefusedError(422, f"There is no field {unknown[0][:40]!a}", f"There are {', '.join(names)}")

    def _topic(self, content: dict[str, Any]) -> str:
        with refusing():
            return prime.fold_topic(take_text(content, "topic", TYPED_MAX), self.tokenizer.alphabet)

    def _ask(self, content: dict[str, Any]) -> Ask:
        topic = self._topic(content)
        green = content.get("green", 3)
        asked = green if isinstance(green, list) else [green]
        if not 1 <= len(asked) <= len(prime.LEVELS):
            raise RefusedError(422, f"green is a level, or a list of 1 to {len(prime.LEVELS)} of them")
        levels = [int(take_number({"green": one}, "green", prime.LEVELS[0], prime.LEVELS[-1], 0)) for one in asked]
        if len(set(levels)) != len(levels):
            raise RefusedError(422, "green names each level once")
        seed = int(take_number(content, "seed", 0, SEED_MAX, secrets.randbelow(1_000_000)))
        temp = float(take_number(content, "temp", 0.0, TEMP_MAX, TEMP))
        return Ask(topic, tuple(levels), seed, temp, take_text(content, "story", self.engine.block_size, ""))

    async def _events(self, visit: Visit) -> AsyncIterator[str]:
        ask = visit.ask
        yield event("start", {"topic": ask.topic, "green": ask.levels, "seed": ask.seed, "temp": ask.temp})
        async for news in visit.news():
            if news.place is not None:
                yield event("place", {"place": news.place, "ready": self.engine.ready})
            if news.text or news.light:
                told = {k: {"text": news.text.get(k, "")} for k in news.text.keys() | news.light.keys()}
                lit = {k: {"light": rounded(readings)} for k, readings in news.light.items()}
                yield event("text", {k: told[k] | lit.get(k, {}) for k in sorted(told)})
            if news.ends:
                yield event("end", {k: vars(end) for k, end in news.ends.items()})
        if visit.closed:
            yield event("closed", {"message": "The exhibit is closing"})

    async def _whole(self, request: Request, visit: Visit) -> dict[str, Any]:
        ask = visit.ask
        text, readings, ends = dict.fromkeys(ask.levels, ask.story), {k: [] for k in ask.levels}, {}
        try:
            async for news in visit.news():
                if await request.is_disconnected():
                    raise ClientDisconnect
                for level, new in news.text.items():
                    text[level] += new
                for level, new in news.light.items():
                    readings[level] += rounded(new)
                ends |= news.ends
        finally:
            visit.ticket.cancel()
        if visit.closed:
            raise RefusedError(503, "The exhibit is closing")
        stories: list[dict[str, Any]] = [
            {"level": k, "story": text[k], **vars(ends[k]), "light": readings[k]} for k in ask.levels
        ]
        return {"topic": ask.topic, "seed": ask.seed, "temp": ask.temp, "model": self.model, "stories": stories}

    async def pull(self, request: Request) -> Response:
        """Return how much likelier each character of a story is under 5 than under 1, in nats."""
        content = await read_json(request, self.body_limit)
        self._only(content, "topic", "story")
        topic, story = self._topic(content), take_text(content, "story", self.engine.block_size)
        with refusing():
            numbers = await asyncio.wrap_future(self.engine.pull(topic, story))
        return answer({"topic": topic, "pull": [round(float(x), 3) for x in numbers], "sum": float(numbers.sum())})

    async def source(self, request: Request) -> Response:
        """Return the longest passage that stands in the corpus, and the stories that are nearest."""
        content = await read_json(request, self.body_limit)
        self._only(content, "story")
        story = take_text(content, "story", self.engine.block_size)
        with refusing():
            return answer(await asyncio.wrap_future(self.sources.find(story)))


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what engine and library raise into what a visitor gets."""
    try:
        yield
    except BusyError as error:
        told = f"Everyone wants to see the light just now; try again in about {error.retry_after_s} s"
        raise RefusedError(503, told, "Wait a moment", retry_after=str(error.retry_after_s)) from None
    except StoppedError as error:
        raise RefusedError(503, str(error), "Start it again with: gatsby serve", retry_after="5") from None
    except GatsbyError as error:
        raise RefusedError(422, str(error), error.cure) from None


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
    guard = Middleware(Guard, own_names(host), not is_loopback(host))
    handlers: dict[Any, Callable[..., Any]] = {
        RefusedError: _refused,
        HTTPException: _http_error,
        ClientDisconnect: _gone,
    }
    made = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    made.router.redirect_slashes = False
    return made


def _static(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return Response(content, media_type=kind)

    return serve


async def _refused(request: Request, error: RefusedError) -> Response:
    return refusal(error)


async def _http_error(request: Request, error: HTTPException) -> Response:
    known = {404: "There is nothing here", 405: "That is not the way to ask for it"}
    told = RefusedError(error.status_code, known.get(error.status_code, str(error.detail)), "See /api")
    told.headers |= {k.replace("-", "_"): v for k, v in (error.headers or {}).items()}
    return refusal(told)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it
