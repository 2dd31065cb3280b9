"""A writer behind an OpenAI-style server over HTTP, and servers that fail in every way."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gatsby_mlx.errors import WriterError
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.writers.base import StoryJob, TopicJob
from gatsby_mlx.writers.server import ServerWriter
from gatsby_mlx.writers.specs import ServerSpec, parse_spec

JOB = StoryJob("a cat", "Mia", 2, 2**40 + 7)


def chat(text, finish="stop"):
    choice = {"message": {"content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}).encode()


@pytest.fixture
def server():
    """A server that answers POST requests from `server.answers`: bytes, a status, or a function."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def send(self, code, body):
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.send(200, json.dumps({"data": stub.models}).encode())

        def do_POST(self):
            stub.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = stub.answers.popleft() if len(stub.answers) > 1 else stub.answers[0]
            answer = answer() if callable(answer) else answer
            self.send(answer, b"no") if isinstance(answer, int) else self.send(200, answer)

    stub = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.daemon_threads = True
    stub.models, stub.requests, stub.answers = [{"id": "m/first"}], [], deque([chat("A cat sat.")])
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    yield stub
    stub.shutdown()
    stub.server_close()


def writer(server, model="", timeout_s=5.0, **options) -> ServerWriter:
    spec = ServerSpec("s", f"http://127.0.0.1:{server.server_port}", model)
    return ServerWriter(spec, timeout_s, pause_s=0.01, **options)


def write(server, **more):
    with writer(server, **more) as ready:
        (draft,) = ready.write(deque([JOB]))
    return draft


def test_a_story_is_requested_with_sampling_and_seed(server):
    draft = write(server)
    assert (draft.text, draft.finish, draft.tokens_in, draft.tokens_out) == ("A cat sat.", "stop", 9, 4)
    (request,) = server.requests
    assert (request["model"], request["seed"], request["temperature"]) == ("m/first", (2**40 + 7) % 2**31, 0.8)
    assert [m["role"] for m in request["messages"]] == ["system", "user"]
    assert request["chat_template_kwargs"] == {"enable_thinking": False}


def test_topics_are_requested(server):
    server.answers[0] = chat("a cat\na dog")
    with writer(server) as ready:
        job = TopicJob("pets", 2, 1)
        assert list(ready.brainstorm(deque([job]))) == [(job, "a cat\na dog")]


def test_prompts_are_about_the_obsession(server):
    with writer(server, obsession=Obsession("whale", "white whale")) as ready:
        list(ready.write(deque([JOB])))
        list(ready.brainstorm(deque([TopicJob("pets", 2, 1)])))
    story, topics = (request["messages"][1]["content"] for request in server.requests)
    assert "a white whale far away" in story and "green" not in story
    assert "no whales" in topics and "lights" not in topics
    assert ready.about["prompts"] != writer(server).about["prompts"]


def test_a_request_fails_after_three_tries(server):
    server.answers = deque([503, 503, 503, chat("A cat sat.")])
    with pytest.raises(WriterError, match="answers 503"):
        write(server)
    assert len(server.requests) == 3


def test_drafts_report_reasoning_and_their_finish(server):
    server.answers[0] = chat("<think>hm</think>A cat.", "length")
    draft = write(server)
    assert (draft.text, draft.reasoning, draft.finish) == ("A cat.", 2, "length")
    server.answers[0] = chat("")
    assert write(server).text == ""


def test_failed_requests_are_repeated(server):
    server.answers = deque([503, b"nonsense", chat("A cat sat.")])
    assert write(server).text == "A cat sat."
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
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
def test_a_bad_answer_is_a_one_line_error(server, answer, message):
    server.answers[0] = answer
    with pytest.raises(WriterError, match=message) as caught:
        write(server)
    assert "\n" not in caught.value.line()


def test_a_slow_server_is_a_one_line_error(server):
    gate = threading.Event()
    server.handle_error = lambda *_: None  # it answers to a closed connection
    server.answers[0] = lambda: str(gate.wait(2)).encode()
    with pytest.raises(WriterError, match=r"did not answer|no answer"):
        write(server, timeout_s=0.1)
    gate.set()


def test_a_server_that_is_down_or_lists_no_model_is_a_one_line_error(server):
    server.models = []
    with pytest.raises(WriterError, match="lists no model"):
        write(server)
    with pytest.raises(WriterError, match=r"no server at http://127\.0\.0\.1:1") as caught:
        ServerWriter(ServerSpec("s", "http://127.0.0.1:1")).__enter__()
    assert "mlx_lm.server" in caught.value.line()


def test_a_server_spec_has_url_and_model():
    spec = parse_spec("server:http://localhost:1234/v1#org/Some_Model")
    assert spec == ServerSpec("some-model", "http://localhost:1234", "org/Some_Model")
