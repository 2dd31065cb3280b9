"""Carries a request's events from the engine's thread to the event loop and out as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gatsby_mlx.exhibit.request import Events, StoryParams, StoryRequest

POLL_SECONDS = 0.5  # how often a stream without events yields an empty one, so the caller can see a disconnect


class StoryStream:
    """A request's events on the event loop. Set `request` before iterating `events()`."""

    request: StoryRequest

    def __init__(self, params: StoryParams):
        self.params, self.closed = params, False
        self._loop, self._fresh = asyncio.get_running_loop(), asyncio.Event()

    def wake(self) -> None:
        """Signal, from any thread, that the request has new events."""
        with suppress(RuntimeError):  # the loop is closed, so nobody reads any more
            self._loop.call_soon_threadsafe(self._fresh.set)

    async def events(self) -> AsyncIterator[Events]:
        """Yield events as they come until every story has ended; without news, an empty one every POLL_SECONDS."""
        unfinished = set(self.params.levels)
        while unfinished and not self.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._fresh.wait()
            self._fresh.clear()
            events = self.request.take()
            unfinished -= events.ends.keys()
            self.closed = events.closed
            yield events


def rounded(readings: list[tuple[int, float]]) -> list[list[float]]:
    """Return readings as JSON lists, the probability to four digits."""
    return [[n, round(p, 4)] for n, p in readings]


class EventResponse(StreamingResponse):
    """A response of server-sent events that cancels its request however it ends, even before its first event."""

    def __init__(self, events: AsyncIterator[str], stream: StoryStream):
        super().__init__(events, media_type="text/event-stream")
        self.stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.stream.request.cancel()


def server_sent(name: str, content: Any) -> str:
    r"""Return one server-sent event (HTML Living Standard, section 9.2). JSON contains no line end that would split it.

    >>> server_sent("place", {"place": 1})
    'event: place\ndata: {"place": 1}\n\n'
    """
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
