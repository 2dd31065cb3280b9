"""A hub that is unwell, and a network without one: pull, publish and write say the same, in one line, at once."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from huggingface_hub import errors

from gatsby_mlx import hub_errors
from gatsby_mlx.errors import HubError, OutputError, WriterError
from gatsby_mlx.writers import local_models
from gatsby_mlx.writers.specs import ModelSpec

COMMIT = "0123456789" * 4
TOKEN = "hf_thisTokenOpensNothing"
NO_LOGIN = {"error": "Invalid credentials in Authorization header"}
# By name: the status, the body and the headers of every answer.
UNWELL = {
    "bad token": (401, NO_LOGIN, {"X-Error-Message": NO_LOGIN["error"]}),
    "gated": (403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"}),
    "429": (429, {"error": "Too many requests"}, {"Retry-After": "30", "RateLimit": '"api";r=0;t=30'}),
    "503": (503, {"error": "Service Unavailable"}, {}),
    "407": (407, {"error": "Proxy Authentication Required"}, {}),
    "web page": (200, b"<html>Log in to the Wi-Fi</html>", {}),
}
LINES = {
    "bad token": "The hub refuses the token in HF_TOKEN (401). Unset HF_TOKEN, or set it to a token that is valid: it",
    "gated": "is gated: its owner gives access on request. Ask for access at",
    "429": "The hub asks to slow down (429). Wait 30 s, then try again",
    "503": "The hub answered 503 for someone/green (Service Unavailable). Try again later",
    "407": "A proxy between here and the hub asks for a login (407). Put your name and password for it into",
    "web page": "answered with something that is not the hub's, such as a web page. Open any page in a browser",
}


@contextmanager
def unwell(status: int, body: object, headers: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Serve one answer to every request; give the address and the list of the requests' paths."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            paths.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_HEAD = do_POST = do_GET  # noqa: N815  http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("name", UNWELL)
def test_pull_publish_and_write_say_the_same_of_an_unwell_hub(hub, folder, name):
    with unwell(*UNWELL[name]) as (url, paths):
        lines = hub.refused(
            ("pull", "someone/green", LINES[name]),
            ("pull", f"someone/green@{COMMIT}", LINES[name]),
            ("publish", folder, "someone/green", "--yes", LINES[name]),
            ("write", "--blend", "someone/green", "--n", 5, "--out", "w", LINES[name]),
            token=TOKEN,
            HF_ENDPOINT=url,
        )
    assert len(paths) == 4, "each command asks once: huggingface_hub does not try again and again"
    assert not [line for line in lines if TOKEN in line]
    assert "Leave it out of --blend" in lines[-1]


def test_pinned_repository_and_a_dead_network_end_at_once(hub):
    """The network is a port that hangs up on everybody and counts: huggingface_hub alone would try six times."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calls = []

        def hang_up():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                calls.append(connection)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        hub.refused(
            ("pull", f"someone/green@{COMMIT}", "The hub cannot be reached"),
            ("write", "--blend", "olmo", "--n", 5, "--out", "w", "The hub cannot be reached"),
            HF_ENDPOINT=f"http://127.0.0.1:{listener.getsockname()[1]}",
        )
        listener.shutdown(socket.SHUT_RDWR)
    assert len(calls) == 2


def raised(error: BaseException, **more) -> HubError:
    with pytest.raises(HubError) as caught, hub_errors.hub_errors("a/b", **more):
        raise error
    assert caught.value.line().isprintable()
    return caught.value


def answered(kind: type, status: int, **headers: str) -> BaseException:
    request = httpx2.Request("GET", "http://x")
    return kind("many\nlines", response=httpx2.Response(status, headers=headers, request=request))


def test_a_login_is_wanted_where_there_is_no_token_in_the_environment(monkeypatch):
    for name in hub_errors.TOKEN_NAMES:
        monkeypatch.delenv(name, raising=False)
    line = raised(answered(errors.HfHubHTTPError, 401)).line()
    assert "needs a login (401). Log in with: hf auth login" in line
    assert "HF_TOKEN" not in line
    assert "then: hf auth login" in raised(answered(errors.GatedRepoError, 401)).line()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for kind, status in (
        (errors.GatedRepoError, 403),
        (errors.RepositoryNotFoundError, 404),
        (errors.HfHubHTTPError, 403),
    ):
        line = raised(answered(kind, status)).line()
        assert "unset HF_TOKEN, which wins over a login" in line and TOKEN not in line


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "3"}, "Wait 3 s"),
        ({"RateLimit": '"api";r=0;t=7'}, "Wait 7 s"),
        ({"Retry-After": "soon"}, "Wait a few minutes"),
        ({}, "Wait a few minutes"),
    ],
)
def test_the_wait_of_a_429_is_told(headers, wait):
    request = httpx2.Request("GET", "http://x")
    error = errors.HfHubHTTPError("x", response=httpx2.Response(429, headers=headers, request=request))
    assert wait in raised(error).line()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            httpx2.ProxyError("407 http://me:hush@proxy:1"),
            "The proxy to the hub cannot be used (407 http://USER:PASSWORD@",
        ),
        (httpx2.ConnectTimeout("timed out"), "cannot be reached (timed out)"),
        (errors.FileMetadataError("no ETag"), "not the hub's, such as a web page"),
        (KeyError("sha"), "huggingface_hub cannot do that with a/b ('sha')"),
        (errors.HFValidationError("bad"), "'a/b' is not the name of a repository"),
        (ConnectionResetError(104, "Connection reset by peer"), "cannot be reached"),
    ],
)
def test_errors_of_the_client_have_their_lines(error, message):
    assert message in raised(error).line()


def test_a_full_disk_stops_a_pull_and_one_writer_of_a_blend():
    full = OSError(28, "No space left on device", "/cache/x")
    with pytest.raises(OutputError, match="cannot write /cache/x: No space left"), hub_errors.hub_errors("a/b"):
        raise full
    stopped = pytest.raises(WriterError, match="a/b cannot be downloaded: cannot write /cache/x")
    with stopped, local_models.hub_errors(ModelSpec("m", "a/b")):
        raise full
