"""What stands between the network and the page: who may ask, how much, and what a browser is told.

A page on 127.0.0.1 can be reached by any web page that the same browser has open. Two doors are shut here: a name
that has been pointed at this machine (DNS rebinding) by refusing every Host that is not ours, and a request that
another page sends (CSRF) by refusing every foreign Origin. There are no CORS headers, so nothing can be read from
outside either.
"""

import asyncio
import ipaddress
import json
import math
import socket
from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_SECONDS = 10.0  # to send a body
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class RefusedError(Exception):
    """A request that gets `status` and one line; `cure` says what to do instead."""

    def __init__(self, status: int, message: str, cure: str = "", **headers: str):
        super().__init__(message)
        self.status, self.cure, self.headers = status, cure, headers


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as JSON in plain ASCII, whatever a visitor has put into it."""
    return Response(json.dumps(content), status, headers, "application/json")


def refusal(error: RefusedError) -> Response:
    """Return what a refused request gets."""
    told = {"error": {"message": str(error), "cure": error.cure}}
    return answer(told, error.status, {k.replace("_", "-"): v for k, v in error.headers.items()})


def own_names(host: str) -> frozenset[str]:
    """Return the names by which a page bound to `host` may be asked for, besides addresses."""
    names = {*LOOPBACK, host.lower()}
    if not is_loopback(host):
        own = socket.gethostname().lower()
        names |= {own, own.split(".")[0], f"{own.split('.')[0]}.local"}
    return frozenset(names - {""})


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a page bound to `host`."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Return the name in a Host header, without its port; "" where it is none.

    >>> host_name("localhost:8000"), host_name("[::1]:8000"), host_name("a b")
    ('localhost', '::1', '')
    """
    name, port = header, ""
    if header.startswith("["):
        name, closed, port = header[1:].partition("]")
        port = port.removeprefix(":") if closed and (not port or port.startswith(":")) else "none"
    elif ":" in header:
        name, _, port = header.partition(":")
    sound = name.isascii() and not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:_")
    return name.lower() if sound and (not port or port.isdecimal()) else ""


class Guard:
    """ASGI middleware: refuses strangers, and adds the headers to every answer.

    `names` are ours (see `own_names`). With `addresses` a Host that is a bare address is ours too: a rebound name is
    never one, and a page bound to all interfaces is asked for by any of its addresses.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], addresses: bool):
        self.app, self.names, self.addresses = app, names, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = [(k, v) for k, v in message["headers"] if k.decode() not in HEADERS]
                message["headers"] = sent + [(k.encode(), v.encode()) for k, v in HEADERS.items()]
            await send(message)

        try:
            self.check(scope)
        except RefusedError as error:
            await refusal(error)(scope, receive, headed)
        else:
            await self.app(scope, receive, headed)

    def check(self, scope: Scope) -> None:
        """Raise RefusedError for a request that was not meant for this page, or was sent by another one."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if sum(k == b"host" for k, _ in scope["headers"]) != 1:
            raise RefusedError(400, "A request names one host")
        host = headers[b"host"].decode("latin-1")
        name = host_name(host)
        if not (name in self.names or (self.addresses and is_address(name))):
            raise RefusedError(421, "This page does not go by that name", "Ask for it by the address that was printed")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in (f"http://{host}", f"https://{host}"):
            raise RefusedError(403, "Another page sent this request", "Open the exhibit itself")
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and scope["method"] != "GET":
            raise RefusedError(403, "Another page sent this request", "Open the exhibit itself")


def _no_constant(name: str) -> Any:
    raise RefusedError(422, f"{name} is no number")


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """Return the JSON object that a request brings, of up to `limit` bytes.

    Raises RefusedError: 415 for another type (a form of another page could be sent without asking), 413, 408 for one
    that does not come to its end, 400 for what is no JSON object, 422 for NaN, infinities and endless numbers.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "The body is JSON", "Send Content-Type: application/json")
    close = {"connection": "close"}
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or int(told[:12]) > limit:
        raise RefusedError(413, f"A request has up to {limit} bytes", **close)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise RefusedError(413, f"A request has up to {limit} bytes", **close)
    except TimeoutError:
        raise RefusedError(408, "The request did not come to its end", **close) from None
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise RefusedError(400, "The body is no JSON") from None
    except ValueError:  # more digits than Python turns into a number
        raise RefusedError(422, "A number in it is too long") from None
    if not isinstance(content, dict):
        raise RefusedError(400, "The body is a JSON object")
    return content


def take_number(content: dict[str, Any], name: str, low: float, high: float, default: float) -> float:
    """Return a number in low..high (a whole one where the bounds are whole); raise RefusedError, 422, for others."""
    value = content.get(name, default)
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise RefusedError(422, f"{name} is a {'whole ' if whole else ''}number from {low} to {high}")
    if not low <= value <= high or not math.isfinite(value):
        raise RefusedError(422, f"{name} lies from {low} to {high}")
    return value


def take_text(content: dict[str, Any], name: str, limit: int, default: str | None = None) -> str:
    """Return a text of up to `limit` characters; raise RefusedError, 422, for anything else."""
    value = content.get(name, default)
    if not isinstance(value, str):
        raise RefusedError(422, f"{name} is a text" if name in content else f"{name} is missing")
    if len(value) > limit:
        raise RefusedError(422, f"{name} has up to {limit} characters")
    return value
