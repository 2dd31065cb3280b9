"""What the operator of an exhibit may want to know: how many came, and which requests failed. Numbers only, no text."""

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Container
from datetime import date, datetime
from pathlib import Path
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatsby_mlx import files
from gatsby_mlx.errors import OutputError

SAVE_SECONDS = 5.0  # between two writes of the counts


class Counts:
    """Visits and stories by day. With a file they are kept over a restart.

    A visit is a page that was opened or, in a kiosk, woken. What a kiosk tells to an empty room is not counted.
    Raises OutputError for a file that cannot be read, or that holds something else.
    """

    def __init__(self, path: Path | None = None, today: Callable[[], date] = date.today):
        self.path, self._today = path, today
        self._lock = threading.Lock()
        self._saved = 0.0
        self._days: dict[str, Counter[str]] = {}
        if path and path.exists():
            try:
                for day, counts in json.loads(path.read_text("utf-8")).items():
                    self._days[date.fromisoformat(day).isoformat()] = Counter({k: int(n) for k, n in counts.items()})
            except (OSError, ValueError, AttributeError, TypeError):
                raise OutputError(f"{path} holds no counts of an exhibit", "Name another file with --counts") from None

    def add(self, what: str, n: int = 1) -> None:
        """Count `n` more of `what` today ("visits" or "stories")."""
        with self._lock:
            self._days.setdefault(self._today().isoformat(), Counter())[what] += n
            if self.path and time.monotonic() - self._saved > SAVE_SECONDS:
                self._save()

    def save(self) -> None:
        """Write the file, if there is one."""
        with self._lock:
            if self.path and self._days:
                self._save()

    def _save(self) -> None:
        assert self.path
        files.write_atomic(self.path, json.dumps(self._days, indent=1, sort_keys=True) + "\n")
        self._saved = time.monotonic()


class AccessLog:
    """ASGI middleware that writes a line for each request: when, method, path, status and seconds.

    The paths are those in `known`, and any other one is written as "(other)": what somebody types into a URL is not
    kept. No addresses, no topics.
    """

    def __init__(self, app: ASGIApp, out: TextIO, known: Container[str]):
        self.app, self.out, self.known = app, out, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self.known else "(other)"
            method = scope["method"] if scope["method"] in METHODS else "(other)"
            when = datetime.now().astimezone().isoformat(timespec="seconds")
            self.out.write(f"{when} {method} {path} {status or '-'} {time.monotonic() - begun:.2f}\n")
            self.out.flush()


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


def code(url: str) -> Any:
    """Return the QR code of a URL (ISO/IEC 18004), from the library Segno."""
    import segno

    return segno.make(url, error="m", micro=False)


def code_svg(url: str) -> bytes:
    """Return the QR code of a URL as an SVG."""
    drawn = io.BytesIO()
    code(url).save(drawn, kind="svg", scale=4, border=3, light="#fff", xmldecl=False)
    return drawn.getvalue()
