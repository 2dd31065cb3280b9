"""server: an OpenAI-style server over HTTP, and every way in which one can be none."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers.base import StoryJob, TopicJob
from gatsby_mlx.writers.server import ServerWriter
from gatsby_mlx.writers.specs import ServerSpec, named

JOB = StoryJob("a cat", "Mia", 2, 2**40 + 7)


def chat(text, finish="stop"):
    choice = {"message": {"content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}).encode()


@pytest.fixture
def server():
    """A server whose answers to POST are taken from `server.answers`: bytes, a status, or a function."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def send(self, code, body):
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.send(200, json.dumps({"data": made.models}).encode())

        def do_POST(self):
            made.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = made.answers.popleft() if len(made.answers) > 1 else made.answers[0]
            answer = answer() if callable(answer) else answer
            self.send(answer, b"no") if isinstance(answer, int) else self.send(200, answer)

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.models, made.asked, made.answers = [{"id": "m/first"}], [], deque([chat("A cat sat.")])
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def writer(server, model="", timeout_s=5.0) -> ServerWriter:
    return ServerWriter(ServerSpec("s", f"http://127.0.0.1:{server.server_port}", model), timeout_s, pause_s=0.01)


def write(server, **more):
    with writer(server, **more) as ready:
        (draft,) = ready.write(deque([JOB]))
    return draft


def test_a_story_is_asked_with_its_sampling_and_seed(server):
    draft = write(server)
    assert (draft.text, draft.finish, draft.tokens_in, draft.tokens_out) == ("A cat sat.", "stop", 9, 4)
    (asked,) = server.asked
    assert (asked["model"], asked["seed"], asked["temperature"]) == ("m/first", (2**40 + 7) % 2**31, 0.8)
    assert [m["role"] for m in asked["messages"]] == ["system", "user"]
    assert asked["chat_template_kwargs"] == {"enable_thinking": False}


def test_topics_are_asked_too(server):
    server.answers[0] = chat("a cat\na dog")
    with writer(server) as ready:
        job = TopicJob("pets", 2, 1)
        assert list(ready.brainstorm(deque([job]))) == [(job, "a cat\na dog")]


def test_reasoning_and_cut_stories_are_told(server):
    server.answers[0] = chat("<think>hm</think>A cat.", "length")
    draft = write(server)
    assert (draft.text, draft.reasoning, draft.finish) == ("A cat.", 2, "length")
    server.answers[0] = chat("")
    assert write(server).text == ""


def test_a_server_that_stumbles_is_asked_again(server):
    server.answers = deque([503, b"nonsense", chat("A cat sat.")])
    assert write(server).text == "A cat sat."
    assert len(server.asked) == 3


def test_a_server_that_knows_no_extras_is_asked_without_them(server):
    server.answers = deque([400, chat("A cat sat.")])
    assert write(server).text == "A cat sat."
    assert "chat_template_kwargs" not in server.asked[1]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"<html>", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"{}", "without a story"),
        (b'{"choices": []}', "without a story"),
        (b'{"choices": [{"message": null}]}', "without a story"),
        (500, "answers 500"),
        (404, "answers 404"),
        (422, "answers 422"),
    ],
)
def test_nonsense_is_one_line(server, answer, told):
    server.answers[0] = answer
    with pytest.raises(WriterError, match=told) as caught:
        write(server)
    assert "\n" not in caught.value.line()


def test_a_slow_server_is_one_line(server):
    gate = threading.Event()
    server.handle_error = lambda *_: None  # it answers into a closed connection
    server.answers[0] = lambda: str(gate.wait(2)).encode()
    with pytest.raises(WriterError, match=r"did not answer|no answer"):
        write(server, timeout_s=0.1)
    gate.set()


def test_a_server_that_is_down_or_lists_no_model_is_one_line(server):
    server.models = []
    with pytest.raises(WriterError, match="lists no model"):
        write(server)
    with pytest.raises(WriterError, match=r"no server at http://127\.0\.0\.1:1") as caught:
        ServerWriter(ServerSpec("s", "http://127.0.0.1:1")).__enter__()
    assert "mlx_lm.server" in caught.value.line()


def test_a_server_is_named_by_its_url_and_model():
    spec = named("server:http://localhost:1234/v1#org/Some_Model")
    assert spec == ServerSpec("some-model", "http://localhost:1234", "org/Some_Model")
