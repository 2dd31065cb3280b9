"""The HTTP server: Uvicorn on a socket of ours, with limits on how slowly a visitor may write and read."""

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gatsby_mlx.errors import ExhibitError

REQUEST_SECONDS = 10.0  # from a connection's first moment, or its last answer, to the end of a request's headers
SEND_SECONDS = 15.0  # for a visitor to read on, once the buffers are full
CONNECTIONS = 128  # macOS gives a process 256 files
HEADER_BYTES = 16_384
CURE = "Leave --host out to serve this machine only"


class Protocol(H11Protocol):
    """Closes a connection whose request does not come, or whose answer is not read: Uvicorn waits for ever."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch()
        self._read_on()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_on()

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Run the clock while a request is awaited, and stop it while one is answered."""
        answered = self.cycle is not None and self.cycle.response_complete
        awaited = (answered or self.conn.their_state is h11.IDLE) and not self.transport.is_closing()
        if awaited and self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        elif not awaited and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port` (0: any that is free).

    Raises ExhibitError for a port in use or not allowed, and for a host that is not this machine's.
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
        raise ExhibitError(f"{host!r} is no address of this machine", CURE) from None
    except OSError as error:
        told = {
            errno.EADDRINUSE: (f"Port {port} is in use", other),
            errno.EACCES: (f"Port {port} is not allowed to this user", other),
            errno.EADDRNOTAVAIL: (f"{host} is no address of this machine", CURE),
        }
        raise ExhibitError(*told.get(error.errno or 0, (f"Cannot listen on {host}: {error.strerror}", other))) from None
    return listening


def url(listening: socket.socket) -> str:
    """Return the address of a listening socket, as a browser on this machine takes it."""
    name, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, str(name))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A server for `application`; it trusts no proxy's headers, names no software, and logs errors only.

    Streams that are under way end when the engine does, so `close` is called first on the way out.
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
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_keep_alive=int(REQUEST_SECONDS),
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)
        self._close = close
        self.interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Remember a Ctrl-C: uvicorn raises it again on the way out, to no effect where the shell had it ignored."""
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._close()
        await super().shutdown(sockets)


class Background:
    """A server in a thread of its own, for benchmarks and tests: a context manager whose value is the address."""

    def __init__(self, application: Any, close: Callable[[], None], port: int = 0):
        self.socket = bind("127.0.0.1", port)
        self.server = Server(application, close)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return url(self.socket)

    def __exit__(self, *exception) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()
