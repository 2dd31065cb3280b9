"""A visit: how news crosses from the engine's thread to the event loop, and goes out as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gatsby_mlx.exhibit.ticket import Ask, News, Ticket

LOOK_SECONDS = 0.5  # how often a visitor who waits is looked after


class Visit:
    """A ticket and the way its news crosses from the engine's thread to the event loop."""

    ticket: Ticket

    def __init__(self, ask: Ask):
        self.ask, self.closed = ask, False
        self._loop, self._fresh = asyncio.get_running_loop(), asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._fresh.set)

    async def news(self) -> AsyncIterator[News]:
        """Yield news as it comes, an empty one every LOOK_SECONDS without any, until every story has ended."""
        left = set(self.ask.levels)
        while left and not self.closed:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._fresh.wait()
            except TimeoutError:
                pass
            self._fresh.clear()
            news = self.ticket.take()
            left -= news.ends.keys()
            self.closed = news.closed
            yield news


def rounded(readings: list[tuple[int, float]]) -> list[list[float]]:
    return [[n, round(p, 4)] for n, p in readings]


class Stream(StreamingResponse):
    """Server-sent events that give the visitor's rows back however they end, also before they have begun."""

    def __init__(self, events: AsyncIterator[str], visit: Visit):
        super().__init__(events, media_type="text/event-stream")
        self.visit = visit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.visit.ticket.cancel()


def event(name: str, content: Any) -> str:
    """Return one server-sent event (HTML Living Standard, section 9.2): JSON holds no line end that would split it."""
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
