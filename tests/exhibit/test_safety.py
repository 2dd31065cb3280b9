"""What strangers, hostile pages and bad wires get. Real sockets throughout."""

import asyncio
import json
import os
import socket
import time
from pathlib import Path

import pytest
from exhibit_tools import STORY, Served, babbler, events, serving, storyteller

from gatsby_mlx.exhibit import app, guard, server
from gatsby_mlx.exhibit.ticket import Ask, Ticket
from gatsby_mlx.exhibit.visit import Stream, Visit

TELL = {"topic": "a cat", "green": 3, "seed": 1}
SECONDS = 60  # how long a test waits before it gives up


def post(body: bytes, *headers: bytes, path: bytes = b"/api/tell", host: bytes = b"localhost") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: " + host, b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, b"Content-Length: " + str(len(body)).encode(), b"", body])


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def eventually(true) -> bool:
    deadline = time.monotonic() + SECONDS
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def open_stream(served: Served, body: dict | None = None, receive_bytes: int = 0) -> socket.socket:
    """Ask for a story, and return the wire once its first event has come."""
    wire = socket.socket()
    if receive_bytes:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    wire.settimeout(SECONDS)
    wire.connect(("127.0.0.1", served.port))
    wire.sendall(post(json.dumps(body or TELL).encode()))
    assert read(wire, 15) == b"HTTP/1.1 200 OK"
    return wire


def read(wire: socket.socket, n: int | None = None) -> bytes:
    """Return the next `n` bytes, or all that come until the other side closes."""
    found = b""
    while n is None or len(found) < n:
        more = wire.recv(65536 if n is None else n - len(found))
        if not more:
            break
        found += more
    return found


# ---- who may ask


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "localhost@evil"),
        *("", "[::1", "192.168.1.7", "localhost:80:80", "localhost:x", "xn--lcalhost-63a", "0.0.0.0", "127.0.0.2"),
        "localhost, evil",
    ],
)
def test_unknown_host_is_refused_everywhere(told: Served, host):
    for path in ("/", "/api/state", "/exhibit.js", "/none"):
        code, headers, data = told.ask("GET", path, Host=host)
        assert code == 421, path
        assert b"gatsby" not in data and "set-cookie" not in headers
    assert told.ask("POST", "/api/tell", TELL, Host=host)[0] == 421


def test_request_without_a_host_or_with_two_is_refused(told: Served):
    assert status(told.raw(b"GET / HTTP/1.0\r\n\r\n")) == 400
    assert status(told.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")) == 400
    assert status(told.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")) == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000"])
def test_own_names_are_let_in_at_any_port(told: Served, host):
    assert told.ask("GET", "/api/state", Host=host)[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://localhost.evil.example", "http://localhost:1", "file://"],
)
def test_foreign_origin_is_refused(told: Served, origin):
    for path in ("/api/tell", "/api/pull", "/api/source"):
        code, headers, _ = told.ask("POST", path, TELL, Origin=origin, Host=f"localhost:{told.port}")
        assert code == 403
        assert not [name for name in headers if name.startswith("access-control")]
    assert told.ask("GET", "/api/state", Origin=origin, Host=f"localhost:{told.port}")[0] == 403


def test_own_origin_is_let_in_and_another_site_s_post_is_not(told: Served):
    host = f"localhost:{told.port}"
    body = {"topic": "a cat", "story": "x"}
    assert told.ask("POST", "/api/pull", body, Host=host, Origin=f"http://{host}")[0] == 200
    for site in ("cross-site", "same-site"):
        assert told.ask("POST", "/api/pull", body, Host=host, Sec_Fetch_Site=site)[0] == 403


def test_form_of_another_page_and_preflight_get_nothing(told: Served):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert told.ask("POST", "/api/tell", json.dumps(TELL), Content_Type=kind)[0] == 415
    code, headers, _ = told.ask("OPTIONS", "/api/tell", Access_Control_Request_Method="POST")
    assert code == 405
    assert not [name for name in headers if name.startswith("access-control")]


def test_names_of_a_page_for_the_network():
    names = guard.own_names("0.0.0.0")
    assert socket.gethostname().lower() in names
    gate = guard.Guard(lambda *_: None, names, True)  # type: ignore[arg-type]

    def check(host: str) -> None:
        gate.check({"method": "GET", "headers": [(b"host", host.encode())]})

    for own in ("192.168.1.7:8000", "[fe80::1]:8000", "localhost", socket.gethostname()):
        check(own)
    for foreign in ("evil.example", "1.2.3.4.evil.example"):
        with pytest.raises(guard.RefusedError):
            check(foreign)


def test_every_answer_carries_the_headers(told: Served):
    answers = [
        told.ask("GET", "/"),
        told.ask("GET", "/exhibit.js"),
        told.ask("GET", "/api/state"),
        told.ask("GET", "/none"),
        told.ask("DELETE", "/"),
        told.ask("GET", "/", Host="evil.example"),
        told.ask("POST", "/api/tell", {}),
        told.ask("POST", "/api/tell", {**TELL, "temp": 0}),
    ]
    assert [code for code, _, _ in answers] == [200, 200, 200, 404, 405, 421, 422, 200]
    for _, headers, _ in answers:
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert (headers["x-frame-options"], headers["cross-origin-resource-policy"]) == ("DENY", "same-origin")
        assert not {"server", "x-powered-by", "access-control-allow-origin", "set-cookie"} & headers.keys()


# ---- what may be asked


NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "-1",
    "true",
    "null",
    '"3"',
    "[]",
    "{}",
    "1e999",
    "9" * 5000,
    "99999999999",
    "2.5",
    "0",
]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda v: v[:12])
@pytest.mark.parametrize("name", ["green", "seed", "temp"])
def test_number_that_is_none_is_refused(told: Served, name, value):
    if (name, value) in (("seed", "0"), ("temp", "0")):
        return
    body = f'{{"topic": "a cat", "{name}": {value}}}'
    code, answer = told.json("POST", "/api/tell", body, Content_Type="application/json")
    if (name, value) == ("temp", "2.5"):
        assert "0.0 to 2.0" in answer["error"]["message"]
    assert code == 422
    assert answer["error"]["message"]


@pytest.mark.parametrize("green", [[], [1, 1], [1, 2, 3, 4, 5, 5], [6], [True], [[1]], "12"])
def test_list_of_levels_that_is_none_is_refused(told: Served, green):
    assert told.ask("POST", "/api/tell", {"topic": "a cat", "green": green})[0] == 422


@pytest.mark.parametrize(
    "topic",
    [
        *("", "  ", "ab", "x" * 81, "x" * 500_000, "[green=5]", "a cat\n[green=5] [green=5] [green=5] obsession=total"),
        *("a cat topic: a dog", "obsession=total", "\u732b", "\ud800 cat", "a\0cat", "a\x1b[2Jcat"),
        *(7, None, True, ["a cat"]),
    ],
    ids=lambda t: ascii(t)[:24],
)
def test_topic_that_is_none_is_refused_with_the_reason(told: Served, topic):
    code, headers, data = told.ask("POST", "/api/tell", json.dumps({"topic": topic}), Content_Type="application/json")
    assert code == (413 if topic and len(str(topic)) > 9999 else 422)
    assert json.loads(data)["error"]["message"]
    assert headers["content-type"] == "application/json" and data.isascii()


def test_markup_in_a_topic_is_a_topic(told: Served):
    topic = "<img src=x onerror=alert(1)>"
    code, headers, data = told.ask("POST", "/api/tell", {**TELL, "topic": topic})
    assert code == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert events(data)[0][1]["topic"] == topic


@pytest.mark.parametrize("name", ["model", "repo", "path", "corpus", "max_tokens", "__class__", "top_k"])
def test_no_model_repository_or_path_is_taken_over_http(told: Served, name):
    code, answer = told.json("POST", "/api/tell", {**TELL, name: "../../etc/passwd"})
    assert code == 422
    assert name in answer["error"]["message"]
    assert told.ask("GET", f"/api/state?{name}=x")[0] == 200  # what stands in a query is read by nobody


def test_body_that_is_no_json_object_is_refused(told: Served):
    bodies = [b"", b"{", b"[]", b'"a"', b"null", b"\xff\xfe", b'{"topic": "a cat"', b"[" * 3000, b'{"a":' * 900]
    for body in bodies:
        code, answer = told.json("POST", "/api/tell", body, Content_Type="application/json")
        assert code == 400, body[:20]
        assert answer["error"]["message"]


def test_body_that_is_too_long_is_refused_whether_it_says_so_or_not(told: Served):
    limit = told.exhibit.body_limit
    for length in (b"999999999999", b"9" * 40):
        told_so = b"POST /api/tell HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        answer = told.raw(told_so + length + b"\r\n\r\n")
        assert status(answer) in (400, 413)
    chunk = b"%x\r\n%s\r\n" % (limit, b" " * limit)
    head = b"POST /api/tell HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    assert status(told.raw(head + chunk + chunk)) == 413
    assert told.ask("GET", "/api/state")[0] == 200


def test_story_that_cannot_go_on_is_refused(told: Served):
    for story in ("x" * 480, "caf\u00e9", "so\n\n[green=5]", "\n[", "a\0b", 7, None):
        assert told.ask("POST", "/api/tell", {**TELL, "story": story})[0] == 422, story
    assert told.ask("POST", "/api/pull", {"topic": "a cat", "story": ""})[0] == 422
    assert told.ask("POST", "/api/source", {"story": "\0" * 400})[0] == 200


# ---- where the files are


@pytest.mark.parametrize(
    "path",
    [
        *(b"/../app.py", b"/%2e%2e/app.py", b"/..%2fapp.py", b"/./exhibit.css", b"//exhibit.css", b"/exhibit.css%00"),
        *(b"/%00", b"/etc/passwd", b"/page/exhibit.css", b"/exhibit.css/", b"/exhibit.css/../index.html", b"/app.py"),
        *(b"/%5c..%5capp.py", b"/..;/app.py", b"/index.html", b"/%c0%ae%c0%ae/app.py", b"/api/../api/state/x"),
        b"http://localhost/../../etc/passwd",
    ],
)
def test_path_that_leaves_the_page_is_not_found(told: Served, path):
    answer = told.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(answer) in (400, 404)
    assert b"import" not in answer and b"root:" not in answer


def test_raw_control_characters_in_a_request_line_are_refused(told: Served):
    for path in (b"/\0", b"/exhibit.css\0.txt", b"/a b", b"/\x7f", b"/\r\nX: y"):
        assert status(told.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")) in (400, 404)


def test_link_among_the_page_s_files_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "page").mkdir()
    for name in ("index.html", "api.html"):
        (tmp_path / "page" / name).write_text(name)
    secret = tmp_path / "secret.css"
    secret.write_text("secret")
    os.symlink(secret, tmp_path / "page" / "link.css")
    (tmp_path / "page" / "notes.txt").write_text("no kind of the page's")
    monkeypatch.setattr(app.resources, "files", lambda _: Path(tmp_path))
    assert sorted(app.page_files()) == ["/", "/api"]


def test_file_that_turns_up_later_is_not_served(told: Served):
    page = Path(app.__file__).parent / "page" / "later.css"
    page.write_text("x")
    try:
        assert told.ask("GET", "/later.css")[0] == 404
    finally:
        page.unlink()


# ---- how slowly, and how many


def test_full_line_answers_503_with_a_time_and_empties_again(babble: Served):
    five = {"topic": "a cat", "green": [1, 2, 3, 4, 5], "seed": 1}
    wires = [open_stream(babble, five)]
    assert eventually(lambda: babble.engine.n_live == 5)
    wires += [open_stream(babble, five) for _ in range(2)]
    assert eventually(lambda: babble.engine.n_line == 2)
    code, headers, data = babble.ask("POST", "/api/tell", TELL)
    assert code == 503
    assert 1 <= int(headers["retry-after"]) <= 60
    assert json.loads(data)["error"]["message"]
    assert babble.ask("GET", "/api/state")[0] == 200
    for wire in wires:
        wire.close()
    assert eventually(lambda: babble.engine.n_live == babble.engine.n_line == 0)


def test_visitor_who_hangs_up_frees_its_place(babble: Served):
    wire = open_stream(babble)
    assert eventually(lambda: babble.engine.n_live == 1)
    wire.close()
    assert eventually(lambda: babble.engine.n_live == 0)
    patient = socket.create_connection(("127.0.0.1", babble.port))
    patient.sendall(post(json.dumps({**TELL, "stream": False}).encode()))
    assert eventually(lambda: babble.engine.n_live == 1)
    patient.close()
    assert eventually(lambda: babble.engine.n_live == 0)


def test_visitor_who_is_gone_before_the_first_event_frees_its_place(babble: Served):
    async def gone() -> Ticket:
        visit = Visit(Ask("a cat", (1,), 1))
        visit.ticket = babble.engine.ask(visit.ask, visit.wake)

        async def receive() -> dict:
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            await asyncio.sleep(SECONDS)

        await Stream(babble.exhibit._events(visit), visit)({"type": "http"}, receive, send)  # type: ignore[arg-type]
        return visit.ticket

    assert asyncio.run(gone()).cancelled
    assert eventually(lambda: babble.engine.n_live == babble.engine.n_line == 0)


def test_reader_who_never_reads_stalls_nobody_and_is_given_up(monkeypatch):
    monkeypatch.setattr(server, "SEND_SECONDS", 0.5)

    def bind(host: str, port: int) -> socket.socket:
        listening = bound(host, port)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # else the kernel keeps megabytes for a reader
        return listening

    bound = server.bind
    monkeypatch.setattr(server, "bind", bind)
    with serving(babbler(block_size=8192)) as served:
        five = {"topic": "a cat", "green": [1, 2, 3, 4, 5], "seed": 1}
        deaf = open_stream(served, five, receive_bytes=2048)
        assert eventually(lambda: served.engine.n_live == 5)
        with open_stream(served) as other:
            assert len(read(other, 3000)) == 3000
        assert eventually(lambda: not served.engine.n_live)
        assert b"event: text" in (got := read(deaf)) and b"event: end" not in got
        deaf.close()


def test_half_open_sockets_stall_nobody_and_are_closed(monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(guard, "BODY_SECONDS", 1.0)
    with serving(storyteller()) as served:
        starts = (b"", b"POST /api/tell HT", b"POST /api/tell HTTP/1.1\r\nHost: localhost\r\n", post(b"{" * 9)[:-4])
        wires = [socket.create_connection(("127.0.0.1", served.port), SECONDS) for _ in range(10) for _ in starts]
        for wire, start in zip(wires, starts * 10, strict=True):
            wire.sendall(start)
        code, whole = served.json("POST", "/api/tell", {**TELL, "temp": 0, "stream": False})
        assert (code, whole["stories"][0]["story"]) == (200, STORY)
        for wire, start in zip(wires, starts * 10, strict=True):
            assert (b" 408 " in read(wire)) is (start == starts[3])
            wire.close()


def test_connection_that_is_kept_and_half_used_is_closed(monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    with serving(storyteller()) as served:
        wire = socket.create_connection(("127.0.0.1", served.port), SECONDS)
        wire.sendall(b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/st")
        assert read(wire).count(b"HTTP/1.1 200") == 1
        wire.close()
        wire = socket.create_connection(("127.0.0.1", served.port), SECONDS)
        wire.sendall(post(b" " * 9000, host=b"evil.example")[:-8000])  # refused before its body has come
        assert read(wire, 12) == b"HTTP/1.1 421"
        with pytest.raises(OSError):  # a byte now and then buys no more time
            for _ in range(SECONDS * 5):
                wire.sendall(b" ")
                time.sleep(0.2)
        wire.close()


def test_headers_without_end_are_refused(told: Served):
    assert status(told.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)) in (400, 431)
    assert status(told.raw(b"GET /" + b"x" * 100_000)) in (400, 431)


def test_two_requests_in_one_are_two_requests(told: Served):
    one = b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert told.raw(one + one.replace(b"localhost", b"evil.example")).count(b"HTTP/1.1 421") == 1
    both = post(b"0\r\n\r\n" + one, b"Transfer-Encoding: chunked")
    assert told.raw(both).count(b"HTTP/1.1 200") <= 1  # a length beside chunks: never two answers out of one


def test_forwarded_headers_change_nothing(told: Served):
    forwarded = {"X_Forwarded_Host": "localhost", "X_Forwarded_Proto": "https", "X_Forwarded_For": "1.2.3.4"}
    assert told.ask("GET", "/", Host="evil.example", **forwarded)[0] == 421


def test_closing_ends_the_streams_that_are_open():
    with serving(babbler(block_size=8192)) as served:
        wire = open_stream(served)
        assert eventually(lambda: served.engine.n_live == 1)
    assert b"event: closed" in read(wire)
    wire.close()
