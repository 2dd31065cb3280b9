"""What stands between the network and the page: who may send requests, how large they may be, and security headers.

Any web page open in the same browser can reach a page on 127.0.0.1. Two attacks are blocked here. DNS rebinding, where
a foreign name resolves to this machine, is blocked by refusing every Host that is not this page's. CSRF, where another
page sends a request, is blocked by refusing every foreign Origin. There are no CORS headers, so no other page can read
a response either.
"""

import asyncio
import ipaddress
import json
import math
import re
import socket
from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_SECONDS = 10.0  # for a visitor to send the body
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), fullscreen=(self), screen-wake-lock=(self)",
    "cache-control": "no-store",
}


class RequestError(Exception):
    """A request that is refused with `status` and one line; `hint` says what to do instead.

    `headers` are sent with the response; an underscore in a name becomes a hyphen.
    """

    def __init__(self, status: int, message: str, hint: str = "", **headers: str):
        super().__init__(message)
        self.status, self.hint, self.headers = status, hint, headers


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as JSON in plain ASCII, whatever characters a visitor has sent."""
    return Response(json.dumps(content), status, headers, "application/json")


def error_response(error: RequestError) -> Response:
    """Return the response to a request that is refused."""
    content = {"error": {"message": str(error), "cure": error.hint}}
    return json_response(content, error.status, {k.replace("_", "-"): v for k, v in error.headers.items()})


def allowed_names(host: str, also: Collection[str] = ()) -> frozenset[str]:
    """Return the names, besides addresses, that the Host header may have for a page bound to `host`.

    `also` are the names that a router or a tailnet gives this machine.
    """
    names = {*LOOPBACK, host.lower(), *(name.lower().rstrip(".") for name in also)}
    if not is_loopback(host):
        machine = socket.gethostname().lower()
        short = machine.split(".")[0]
        names |= {machine, short, f"{short}.local"}
    return frozenset(names - {""})


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a page bound to `host`."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Return the name in a Host header, in lower case and without its port; "" if the header is not valid.

    >>> host_name("localhost:8000"), host_name("[::1]:8000"), host_name("a b")
    ('localhost', '::1', '')
    """
    name, port = header, ""
    if header.startswith("["):
        name, closed, port = header[1:].partition("]")
        port = port.removeprefix(":") if closed and (not port or port.startswith(":")) else "none"
    elif ":" in header:
        name, _, port = header.partition(":")
    valid = re.fullmatch(r"[a-zA-Z0-9.:_-]*", name) and (not port or port.isdecimal())
    return name.lower() if valid else ""


def with_headers(send: Send) -> Send:
    """Return `send` with HEADERS added to the response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [(k, v) for k, v in message["headers"] if k.decode() not in HEADERS]
            message["headers"] = others + [(k.encode(), v.encode()) for k, v in HEADERS.items()]
        await send(message)

    return send_with_headers


class Guard:
    """ASGI middleware that refuses foreign requests and adds HEADERS to every response.

    `names` are the allowed hosts (see `allowed_names`). With `addresses`, any IP address is allowed as well: a DNS
    rebinding attack always has a name, and a page bound to all interfaces is requested by any of its addresses.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], addresses: bool):
        self.app, self.names, self.addresses = app, names, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        send = with_headers(send)
        try:
            self.check(scope)
        except RequestError as error:
            await error_response(error)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Raise RequestError for a request that is not meant for this page or was sent by another page."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if sum(k == b"host" for k, _ in scope["headers"]) != 1:
            raise RequestError(400, "A request must name exactly one host")
        host = headers[b"host"].decode("latin-1")
        name = host_name(host)
        if not (name in self.names or (self.addresses and is_address(name))):
            raise RequestError(421, "This page does not have that name", "Use the address printed at the start")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in (f"http://{host}", f"https://{host}"):
            raise RequestError(403, "Another page sent this request", "Open the exhibit itself")
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and scope["method"] != "GET":
            raise RequestError(403, "Another page sent this request", "Open the exhibit itself")


def _refuse_constant(name: str) -> Any:
    raise RequestError(422, f"{name} is not a number")


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """Return the JSON object in a request's body of up to `limit` bytes.

    Raises RequestError: 415 for another content type (browsers send forms of other pages without a preflight), 413 for
    a body over the limit, 408 for one that does not arrive in time, 400 for anything but a JSON object, and 422 for
    NaN, infinities and numbers with too many digits.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestError(415, "The body must be JSON", "Send Content-Type: application/json")
    close = {"connection": "close"}
    too_long = RequestError(413, f"The body may have up to {limit} bytes", **close)
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:12]) > limit:
        raise too_long
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise too_long
    except TimeoutError:
        raise RequestError(408, "The body did not arrive in time", **close) from None
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise RequestError(400, "The body is not JSON") from None
    except ValueError:  # more digits than Python turns into an integer
        raise RequestError(422, "A number in the body is too long") from None
    if not isinstance(content, dict):
        raise RequestError(400, "The body must be a JSON object")
    return content


def number_field(content: dict[str, Any], name: str, low: float, high: float, default: float) -> float:
    """Return the field `name`, a number in [low, high], an integer if `low` is one; raise RequestError 422 if not."""
    value = content.get(name, default)
    integer = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        raise RequestError(422, f"{name} must be {'an integer' if integer else 'a number'} from {low} to {high}")
    if not low <= value <= high or not math.isfinite(value):
        raise RequestError(422, f"{name} must be from {low} to {high}")
    return value


def text_field(content: dict[str, Any], name: str, limit: int, default: str | None = None) -> str:
    """Return the field `name`, a string of up to `limit` characters; raise RequestError 422 for anything else."""
    value = content.get(name, default)
    if not isinstance(value, str):
        raise RequestError(422, f"{name} must be a string" if name in content else f"{name} is missing")
    if len(value) > limit:
        raise RequestError(422, f"{name} may have up to {limit} characters")
    return value
