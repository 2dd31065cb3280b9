"""The HTTP server: Uvicorn on our socket, with limits on how slowly a visitor may send and read."""

import asyncio
import contextlib
import errno
import ipaddress
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from gatsby_mlx.device.interrupts import handled, leave_terminal
from gatsby_mlx.errors import ExhibitError
from gatsby_mlx.exhibit.guard import HEADERS, RequestError, error_response, with_headers

REQUEST_SECONDS = 10.0  # from opening the connection, or the last response, to the end of a request's headers
SEND_SECONDS = 15.0  # for a visitor to continue reading once the buffers are full
CONNECTIONS = 128  # macOS limits a process to 256 open files
RETRY_SECONDS = 5  # for a visitor above that number
HEADER_BYTES = 16_384
ELSEWHERE = "192.0.2.1"  # an address of no machine (RFC 5737)
HINT = "Leave --host out to serve this machine only"


def head_error(head: bytes) -> RequestError | None:
    """Return why the start of a request, up to its blank line or as far as it has arrived, is refused; None if not.

    h11 limits only headers that arrive in pieces, and it accepts line ends without a carriage return and headers that
    continue on the next line. Proxies disagree with it about both, which is how requests are smuggled past them
    (RFC 9112, sections 2.2, 5.2 and 11.2).
    """
    head = head[: end + 4] if (end := head.find(b"\r\n\r\n")) >= 0 else head
    if len(head) > HEADER_BYTES:
        return RequestError(431, f"The headers may have up to {HEADER_BYTES} bytes")
    if re.search(rb"(?<!\r)\n", head):
        return RequestError(400, "A line of the headers ends without a carriage return")
    if re.search(rb"\r\n[ \t]", head):
        return RequestError(400, "A header continues on the next line")
    return None


class _Connection(h11.Connection):
    """Refuses the start of a request for the reasons of `head_error`, which it then keeps in `refusal`."""

    refusal: RequestError | None = None

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            self.refusal = head_error(self.trailing_data[0])
            if self.refusal:
                raise h11.RemoteProtocolError(str(self.refusal))
        return super().next_event()


class Protocol(H11Protocol):
    """Closes a connection whose request does not arrive or whose response is not read; Uvicorn would wait forever.

    What it refuses itself, it refuses in the form of the API.
    """

    _request_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self.conn = _Connection(h11.SERVER, HEADER_BYTES)
        self._application, self.app = self.app, self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.connections) < CONNECTIONS:
            await self._application(scope, receive, send)
            return
        message = f"The exhibit has {CONNECTIONS} connections open, and no room for more"
        error = RequestError(503, message, "Wait a moment", retry_after=str(RETRY_SECONDS), connection="close")
        await error_response(error)(scope, receive, with_headers(send))

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that cannot be read, and close the connection."""
        error = getattr(self.conn, "refusal", None) or RequestError(400, "This is not an HTTP request")
        response = error_response(error)
        headers = [*response.raw_headers, *((k.encode(), v.encode()) for k, v in HEADERS.items())]
        reason = STATUS_PHRASES[error.status]
        start = h11.Response(status_code=error.status, headers=[*headers, (b"connection", b"close")], reason=reason)
        for event in (start, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._update_request_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_request_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._update_request_timer()
        self._stop_read_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_read_timer()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_request_timer()

    def _update_request_timer(self) -> None:
        """Run the timer while the server waits for a request, and stop it while it responds to one."""
        complete = self.cycle is not None and self.cycle.response_complete
        waiting = (complete or self.conn.their_state is h11.IDLE) and not self.transport.is_closing()
        if waiting and self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        elif not waiting and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port` (0: any free port).

    Raises ExhibitError for a port that is in use or not allowed, and for a host that is not an address of this machine.
    """
    other = f"Choose another with --port {port + 1 if 0 < port < 65535 else 8001}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, proto)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(CONNECTIONS)
        except BaseException:
            listening.close()
            raise
    except (socket.gaierror, UnicodeError):
        raise ExhibitError(f"{host!r} is not an address of this machine", HINT) from None
    except OSError as error:
        messages = {
            errno.EADDRINUSE: (f"Port {port} is in use", other),
            errno.EACCES: (f"Port {port} is not allowed to this user", other),
            errno.EADDRNOTAVAIL: (f"{host} is not an address of this machine", HINT),
        }
        unknown = (f"Cannot listen on {host}: {error.strerror}", other)
        raise ExhibitError(*messages.get(error.errno or 0, unknown)) from None
    return listening


def url(listening: socket.socket) -> str:
    """Return the URL of a listening socket for a browser on this machine."""
    name, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, str(name))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def network_urls(listening: socket.socket) -> list[str]:
    """Return the URLs by which other machines reach a listening socket; none if only this machine can.

    A socket on all interfaces has the address that leads out of this machine first. No packet is sent to find it.
    """
    name, port = listening.getsockname()[:2]
    if ipaddress.ip_address(name).is_loopback:
        return []
    found = [str(name)]
    if ipaddress.ip_address(name).is_unspecified:
        found = []
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((ELSEWHERE, 9))
            found.append(probe.getsockname()[0])
        with contextlib.suppress(OSError):
            families = (socket.AF_INET, socket.AF_INET6) if ":" in name else (socket.AF_INET,)
            known = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
            found += [str(address[0]) for family, *_, address in known if family in families]
    usable = [host for host in dict.fromkeys(found) if not ipaddress.ip_address(host).is_loopback and "%" not in host]
    return [f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host in usable]


class Server(uvicorn.Server):
    """A server for `application` that trusts no proxy headers, does not name its software, and logs only errors.

    Open streams end when the engine does, so shutdown starts by calling `close`.
    """

    def __init__(self, application: Any, close: Callable[[], None]):
        config = uvicorn.Config(
            application,
            http=Protocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            log_level="error",
            timeout_keep_alive=int(REQUEST_SECONDS),
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)
        self._close = close
        self.interrupted = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down at SIGHUP as at Ctrl-C, which Uvicorn does not; SIGTERM, a server's usual end, stays its own."""
        hanging_up, ending = handled(self._hang_up, (signal.SIGHUP,)), handled(signal.SIG_DFL, (signal.SIGTERM,))
        with hanging_up, ending, super().capture_signals():
            yield

    def _hang_up(self, sig: int, frame: FrameType | None) -> None:
        leave_terminal(sig)
        self.interrupted = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Remember a Ctrl-C. Uvicorn raises it again at exit, but that has no effect if the shell ignores SIGINT."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._close()
        await super().shutdown(sockets)


class Background:
    """A server in its own thread, for benchmarks and tests: a context manager that returns the URL."""

    def __init__(self, application: Any, close: Callable[[], None], port: int = 0):
        self.socket = bind("127.0.0.1", port)
        self.server = Server(application, close)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return url(self.socket)

    def __exit__(self, *exception: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()
