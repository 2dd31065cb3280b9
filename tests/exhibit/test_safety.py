"""How the exhibit treats foreign hosts, hostile pages and bad connections. Real sockets throughout."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from babbler import babbler
from exhibit_tools import STORY, Served, events, serving, storyteller

from gatsby_mlx.exhibit import app, guard, server
from gatsby_mlx.exhibit.request import StoryParams, StoryRequest
from gatsby_mlx.exhibit.stream import EventResponse, StoryStream

TELL = {"topic": "a cat", "green": 3, "seed": 1}
SECONDS = 60  # how long a test waits before it gives up


def post(body: bytes, *headers: bytes, path: bytes = b"/api/tell", host: bytes = b"localhost") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: " + host, b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, b"Content-Length: " + str(len(body)).encode(), b"", body])


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def eventually(true: Callable[[], bool]) -> bool:
    """Wait until `true()` is true; return whether it is."""
    deadline = time.monotonic() + SECONDS
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true())


def open_stream(served: Served, body: dict | None = None, receive_bytes: int = 0) -> socket.socket:
    """Request a story and return the socket once the response has started."""
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(SECONDS)
    connection.connect(("127.0.0.1", served.port))
    connection.sendall(post(json.dumps(body or TELL).encode()))
    assert read(connection, 15) == b"HTTP/1.1 200 OK"
    return connection


def read(connection: socket.socket, n: int | None = None) -> bytes:
    """Return the next `n` bytes, or without `n` everything until the other side closes the connection."""
    data = b""
    while n is None or len(data) < n:
        more = connection.recv(65536 if n is None else n - len(data))
        if not more:
            break
        data += more
    return data


# ---- hosts and origins


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "localhost@evil"),
        *("", "[::1", "192.168.1.7", "localhost:80:80", "localhost:x", "xn--lcalhost-63a", "0.0.0.0", "127.0.0.2"),
        "localhost, evil",
    ],
)
def test_unknown_host_is_refused_everywhere(served: Served, host):
    for path in ("/", "/api/state", "/exhibit.js", "/none"):
        code, headers, data = served.request("GET", path, Host=host)
        assert code == 421, path
        assert b"gatsby" not in data and "set-cookie" not in headers
    assert served.request("POST", "/api/tell", TELL, Host=host)[0] == 421


def test_request_without_a_host_or_with_two_is_refused(served: Served):
    assert status(served.raw(b"GET / HTTP/1.0\r\n\r\n")) == 400
    assert status(served.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")) == 400
    assert status(served.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")) == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000"])
def test_allowed_names_work_with_any_port(served: Served, host):
    assert served.request("GET", "/api/state", Host=host)[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://localhost.evil.example", "http://localhost:1", "file://"],
)
def test_foreign_origin_is_refused(served: Served, origin):
    for path in ("/api/tell", "/api/pull", "/api/source"):
        code, headers, _ = served.request("POST", path, TELL, Origin=origin, Host=f"localhost:{served.port}")
        assert code == 403
        assert not [name for name in headers if name.startswith("access-control")]
    assert served.request("GET", "/api/state", Origin=origin, Host=f"localhost:{served.port}")[0] == 403


def test_same_origin_is_allowed_and_a_post_from_another_site_is_not(served: Served):
    host = f"localhost:{served.port}"
    body = {"topic": "a cat", "story": "x"}
    assert served.request("POST", "/api/pull", body, Host=host, Origin=f"http://{host}")[0] == 200
    for site in ("cross-site", "same-site"):
        assert served.request("POST", "/api/pull", body, Host=host, Sec_Fetch_Site=site)[0] == 403


def test_forms_of_other_pages_and_preflights_are_refused(served: Served):
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert served.request("POST", "/api/tell", json.dumps(TELL), Content_Type=media_type)[0] == 415
    code, headers, _ = served.request("OPTIONS", "/api/tell", Access_Control_Request_Method="POST")
    assert code == 405
    assert not [name for name in headers if name.startswith("access-control")]


def test_page_for_the_network_allows_its_names_and_any_address():
    names = guard.allowed_names("0.0.0.0")
    assert socket.gethostname().lower() in names
    middleware = guard.Guard(lambda *_: None, names, True)  # type: ignore[arg-type]

    def check(host: str) -> None:
        middleware.check({"method": "GET", "headers": [(b"host", host.encode())]})

    for allowed in ("192.168.1.7:8000", "[fe80::1]:8000", "localhost", socket.gethostname()):
        check(allowed)
    for foreign in ("evil.example", "1.2.3.4.evil.example"):
        with pytest.raises(guard.RequestError):
            check(foreign)


def test_every_response_has_the_headers(served: Served):
    responses = [
        served.request("GET", "/"),
        served.request("GET", "/exhibit.js"),
        served.request("GET", "/api/state"),
        served.request("GET", "/none"),
        served.request("DELETE", "/"),
        served.request("GET", "/", Host="evil.example"),
        served.request("POST", "/api/tell", {}),
        served.request("POST", "/api/tell", {**TELL, "temp": 0}),
    ]
    assert [code for code, _, _ in responses] == [200, 200, 200, 404, 405, 421, 422, 200]
    for _, headers, _ in responses:
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert (headers["x-frame-options"], headers["cross-origin-resource-policy"]) == ("DENY", "same-origin")
        assert not {"server", "x-powered-by", "access-control-allow-origin", "set-cookie"} & headers.keys()


# ---- fields


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
def test_invalid_number_is_refused(served: Served, name, value):
    if (name, value) in (("seed", "0"), ("temp", "0")):
        return
    body = f'{{"topic": "a cat", "{name}": {value}}}'
    code, response = served.json("POST", "/api/tell", body, Content_Type="application/json")
    if (name, value) == ("temp", "2.5"):
        assert "0.0 to 2.0" in response["error"]["message"]
    assert code == 422
    assert response["error"]["message"]


@pytest.mark.parametrize("green", [[], [1, 1], [1, 2, 3, 4, 5, 5], [6], [True], [[1]], "12"])
def test_invalid_list_of_levels_is_refused(served: Served, green):
    assert served.request("POST", "/api/tell", {"topic": "a cat", "green": green})[0] == 422


@pytest.mark.parametrize(
    "topic",
    [
        *("", "  ", "ab", "x" * 81, "x" * 500_000, "[green=5]", "a cat\n[green=5] [green=5] [green=5] obsession=total"),
        *("a cat topic: a dog", "obsession=total", "\u732b", "\ud800 cat", "a\0cat", "a\x1b[2Jcat"),
        *(7, None, True, ["a cat"]),
    ],
    ids=lambda t: ascii(t)[:24],
)
def test_invalid_topic_is_refused_with_the_reason(served: Served, topic):
    code, headers, data = served.request(
        "POST", "/api/tell", json.dumps({"topic": topic}), Content_Type="application/json"
    )
    assert code == (413 if topic and len(str(topic)) > 9999 else 422)
    assert json.loads(data)["error"]["message"]
    assert headers["content-type"] == "application/json" and data.isascii()


def test_markup_in_a_topic_is_plain_text(served: Served):
    topic = "<img src=x onerror=alert(1)>"
    code, headers, data = served.request("POST", "/api/tell", {**TELL, "topic": topic})
    assert code == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert events(data)[0][1]["topic"] == topic


@pytest.mark.parametrize("name", ["model", "repo", "path", "corpus", "max_tokens", "__class__", "top_k"])
def test_no_model_repository_or_path_is_accepted_over_http(served: Served, name):
    code, response = served.json("POST", "/api/tell", {**TELL, name: "../../etc/passwd"})
    assert code == 422
    assert name in response["error"]["message"]
    assert served.request("GET", f"/api/state?{name}=x")[0] == 200  # nothing reads the query string


def test_body_that_is_not_a_json_object_is_refused(served: Served):
    bodies = [b"", b"{", b"[]", b'"a"', b"null", b"\xff\xfe", b'{"topic": "a cat"', b"[" * 3000, b'{"a":' * 900]
    for body in bodies:
        code, response = served.json("POST", "/api/tell", body, Content_Type="application/json")
        assert code == 400, body[:20]
        assert response["error"]["message"]


def test_body_that_is_too_long_is_refused_with_and_without_a_length(served: Served):
    limit = served.exhibit.max_body
    for length in (b"999999999999", b"9" * 40):
        head = b"POST /api/tell HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        response = served.raw(head + length + b"\r\n\r\n")
        assert status(response) in (400, 413)
    chunk = b"%x\r\n%s\r\n" % (limit, b" " * limit)
    head = b"POST /api/tell HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    assert status(served.raw(head + chunk + chunk)) == 413
    assert served.request("GET", "/api/state")[0] == 200


def test_story_that_cannot_be_continued_is_refused(served: Served):
    for story in ("x" * 480, "caf\u00e9", "so\n\n[green=5]", "\n[", "a\0b", 7, None):
        assert served.request("POST", "/api/tell", {**TELL, "story": story})[0] == 422, story
    assert served.request("POST", "/api/pull", {"topic": "a cat", "story": ""})[0] == 422
    assert served.request("POST", "/api/source", {"story": "\0" * 400})[0] == 200


# ---- files


@pytest.mark.parametrize(
    "path",
    [
        *(b"/../app.py", b"/%2e%2e/app.py", b"/..%2fapp.py", b"/./exhibit.css", b"//exhibit.css", b"/exhibit.css%00"),
        *(b"/%00", b"/etc/passwd", b"/page/exhibit.css", b"/exhibit.css/", b"/exhibit.css/../index.html", b"/app.py"),
        *(b"/%5c..%5capp.py", b"/..;/app.py", b"/index.html", b"/%c0%ae%c0%ae/app.py", b"/api/../api/state/x"),
        b"http://localhost/../../etc/passwd",
    ],
)
def test_path_outside_the_page_is_not_found(served: Served, path):
    response = served.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(response) in (400, 404)
    assert b"import" not in response and b"root:" not in response


def test_raw_control_characters_in_a_request_line_are_refused(served: Served):
    for path in (b"/\0", b"/exhibit.css\0.txt", b"/a b", b"/\x7f", b"/\r\nX: y"):
        assert status(served.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")) in (400, 404)


def test_symbolic_link_among_the_page_files_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "page").mkdir()
    for name in ("index.html", "api.html"):
        (tmp_path / "page" / name).write_text(name)
    (tmp_path / "tokens.css").write_text("tokens")
    secret = tmp_path / "secret.css"
    secret.write_text("secret")
    os.symlink(secret, tmp_path / "page" / "link.css")
    (tmp_path / "page" / "notes.txt").write_text("not a media type of the page")
    monkeypatch.setattr(app.resources, "files", lambda _: Path(tmp_path))
    assert sorted(app.page_files()) == ["/", "/api", "/tokens.css", "/visit"]


def test_file_added_later_is_not_served(served: Served):
    page = Path(app.__file__).parent / "page" / "later.css"
    page.write_text("x")
    try:
        assert served.request("GET", "/later.css")[0] == 404
    finally:
        page.unlink()


# ---- slow visitors and many visitors


def test_full_queue_responds_503_with_a_time_and_empties_again(babbling: Served):
    five = {"topic": "a cat", "green": [1, 2, 3, 4, 5], "seed": 1}
    connections = [open_stream(babbling, five)]
    assert eventually(lambda: babbling.engine.n_live == 5)
    connections += [open_stream(babbling, five) for _ in range(2)]
    assert eventually(lambda: babbling.engine.n_queued == 2)
    code, headers, data = babbling.request("POST", "/api/tell", TELL)
    assert code == 503
    assert 1 <= int(headers["retry-after"]) <= 60
    assert json.loads(data)["error"]["message"]
    assert babbling.request("GET", "/api/state")[0] == 200
    for connection in connections:
        connection.close()
    assert eventually(lambda: babbling.engine.n_live == babbling.engine.n_queued == 0)


def test_visitor_who_disconnects_frees_its_slot(babbling: Served):
    connection = open_stream(babbling)
    assert eventually(lambda: babbling.engine.n_live == 1)
    connection.close()
    assert eventually(lambda: babbling.engine.n_live == 0)
    patient = socket.create_connection(("127.0.0.1", babbling.port))
    patient.sendall(post(json.dumps({**TELL, "stream": False}).encode()))
    assert eventually(lambda: babbling.engine.n_live == 1)
    patient.close()
    assert eventually(lambda: babbling.engine.n_live == 0)


def test_visitor_who_disconnects_before_the_first_event_frees_its_slot(babbling: Served):
    async def disconnected() -> StoryRequest:
        stream = StoryStream(StoryParams("a cat", (1,), 1))
        stream.request = babbling.engine.submit(stream.params, stream.wake)

        async def receive() -> dict:
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            await asyncio.sleep(SECONDS)

        response = EventResponse(babbling.exhibit._events(stream, babbling.exhibit.first), stream)
        await response({"type": "http"}, receive, send)  # type: ignore[arg-type]
        return stream.request

    assert asyncio.run(disconnected()).cancelled
    assert eventually(lambda: babbling.engine.n_live == babbling.engine.n_queued == 0)


def test_reader_who_never_reads_delays_nobody_and_is_disconnected(monkeypatch):
    monkeypatch.setattr(server, "SEND_SECONDS", 0.5)

    def bind(host: str, port: int) -> socket.socket:
        listening = bound(host, port)
        listening.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 4096
        )  # else the kernel buffers megabytes for a reader
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


def test_half_open_sockets_delay_nobody_and_are_closed(monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(guard, "BODY_SECONDS", 1.0)
    with serving(storyteller()) as served:
        starts = (b"", b"POST /api/tell HT", b"POST /api/tell HTTP/1.1\r\nHost: localhost\r\n", post(b"{" * 9)[:-4])
        connections = [socket.create_connection(("127.0.0.1", served.port), SECONDS) for _ in range(10) for _ in starts]
        for connection, start in zip(connections, starts * 10, strict=True):
            connection.sendall(start)
        code, document = served.json("POST", "/api/tell", {**TELL, "temp": 0, "stream": False})
        assert (code, document["stories"][0]["story"]) == (200, STORY)
        for connection, start in zip(connections, starts * 10, strict=True):
            assert (b" 408 " in read(connection)) is (start == starts[3])
            connection.close()


def test_idle_connection_with_half_a_request_is_closed(monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    with serving(storyteller()) as served:
        connection = socket.create_connection(("127.0.0.1", served.port), SECONDS)
        connection.sendall(b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/st")
        assert read(connection).count(b"HTTP/1.1 200") == 1
        connection.close()
        connection = socket.create_connection(("127.0.0.1", served.port), SECONDS)
        connection.sendall(post(b" " * 9000, host=b"evil.example")[:-8000])  # refused before its body has arrived
        assert read(connection, 12) == b"HTTP/1.1 421"
        with pytest.raises(OSError):  # a byte now and then does not extend the time
            for _ in range(SECONDS * 5):
                connection.sendall(b" ")
                time.sleep(0.2)
        connection.close()


WHOLE = b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (WHOLE % (b"X: " + b"x" * 20_000), 431),
        (WHOLE % b"\r\n".join(b"X%d: %s" % (i, b"x" * 90) for i in range(200)), 431),
        (WHOLE % b"X: a\r\n b", 400),
        (WHOLE % b"X: a\r\n\tb", 400),
        (WHOLE % b"X: a\nY: b", 400),
        (b"GET /api/state HTTP/1.1\nHost: localhost\n\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (WHOLE % b"X: a", 200),
    ],
    ids=["long", "many", "folded", "folded by a tab", "bare line feed", "bare line feeds", "nonsense", "sound"],
)
def test_whole_header_that_is_too_long_or_ambiguous_is_refused_in_the_form_of_the_api(served: Served, head, code):
    response = served.raw(head)
    assert status(response) == code
    start, _, body = response.partition(b"\r\n\r\n")
    assert b"content-security-policy" in start and b"x-content-type-options: nosniff" in start
    assert code == 200 or json.loads(body)["error"]["message"]


def test_second_request_on_a_connection_is_held_to_the_same_rules(served: Served):
    one = WHOLE % b"X: a"
    assert served.raw(one + (WHOLE % b"X: a\r\n b")).count(b"HTTP/1.1 400") == 1
    assert served.raw(one + one).count(b"HTTP/1.1 200") == 2


def test_connection_above_the_limit_gets_the_form_of_the_api(monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 3)
    with serving(storyteller(), n_slots=5) as served:
        held = [socket.create_connection(("127.0.0.1", served.port), SECONDS) for _ in range(3)]
        assert eventually(lambda: b" 503 " in served.raw(WHOLE % b"X: a").split(b"\r\n")[0])
        response = served.raw(WHOLE % b"X: a")
        start, _, body = response.partition(b"\r\n\r\n")
        assert b"content-security-policy" in start and b"retry-after: 5" in start
        assert "no room" in json.loads(body)["error"]["message"]
        for connection in held:
            connection.close()
        assert eventually(lambda: status(served.raw(WHOLE % b"X: a")) == 200)


def test_one_page_cannot_take_the_whole_line():
    with serving(babbler(block_size=2048), n_slots=5, max_queued=8) as served:
        token = b"X-Visitor: 1234"
        held = [open_visitor(served, token) for _ in range(4)]
        code, headers, data = served.request("POST", "/api/tell", TELL, X_Visitor="1234")
        assert code == 429 and 1 <= int(headers["retry-after"]) <= 60
        assert "one visitor" in json.loads(data)["error"]["message"]
        other = open_visitor(served, b"X-Visitor: 5678")
        for connection in [*held, other]:
            connection.close()
        assert eventually(lambda: served.engine.n_live == served.engine.n_queued == 0)
        held = [open_visitor(served, b"X: y", [1, 2, 3, 4, 5]) for _ in range(7)]  # one told, six of eight waiting
        assert served.request("POST", "/api/tell", TELL)[0] == 429  # the rest is for other addresses
        for connection in held:
            connection.close()


def open_visitor(served: Served, header: bytes, green: list[int] | None = None) -> socket.socket:
    """Request a story with one more header and return the socket once the response has started."""
    connection = socket.create_connection(("127.0.0.1", served.port), SECONDS)
    connection.sendall(post(json.dumps({**TELL, "green": green or 3}).encode(), header))
    assert read(connection, 15) == b"HTTP/1.1 200 OK"
    return connection


def test_name_of_a_router_is_allowed_where_the_operator_says_so():
    with serving(storyteller(), n_slots=5, allowed=("stand.tailnet.example.",)) as served:
        assert served.request("GET", "/api/state", Host="stand.tailnet.example:8000")[0] == 200
        assert served.request("GET", "/api/state", Host="evil.example")[0] == 421


def test_access_log_has_no_topics_and_no_addresses(tmp_path):
    with (tmp_path / "log").open("w") as log, serving(storyteller(), n_slots=5, access_log=log) as served:
        served.request("GET", "/api/state?topic=secret")
        served.request("GET", "/secret")
        served.request("POST", "/api/tell", {"topic": "a secret", "stream": False, "temp": 0})
        served.request("GET", "/", Host="evil.example")
    lines = [line.split(" ") for line in (tmp_path / "log").read_text().splitlines()]
    assert [line[1:4] for line in lines] == [
        ["GET", "/api/state", "200"],
        ["GET", "(other)", "404"],
        ["POST", "/api/tell", "200"],
        ["GET", "/", "421"],
    ]
    assert all(len(line) == 5 for line in lines)


def test_headers_without_end_are_refused(served: Served):
    assert status(served.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)) in (400, 431)
    assert status(served.raw(b"GET /" + b"x" * 100_000)) in (400, 431)


def test_two_requests_in_one_are_two_requests(served: Served):
    one = b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert served.raw(one + one.replace(b"localhost", b"evil.example")).count(b"HTTP/1.1 421") == 1
    both = post(b"0\r\n\r\n" + one, b"Transfer-Encoding: chunked")
    assert served.raw(both).count(b"HTTP/1.1 200") <= 1  # a length as well as chunks must never give two responses


def test_forwarded_headers_change_nothing(served: Served):
    forwarded = {"X_Forwarded_Host": "localhost", "X_Forwarded_Proto": "https", "X_Forwarded_For": "1.2.3.4"}
    assert served.request("GET", "/", Host="evil.example", **forwarded)[0] == 421


def test_closing_ends_open_streams():
    with serving(babbler(block_size=8192)) as served:
        connection = open_stream(served)
        assert eventually(lambda: served.engine.n_live == 1)
    assert b"event: closed" in read(connection)
    connection.close()
