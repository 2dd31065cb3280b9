"""What servers do that OpenAI's API does not say: each becomes a story, or one line with the server's own words."""

import contextlib
import json
import re
from collections import deque
from typing import Any

import odd_server
import pytest
from click.testing import CliRunner
from odd_server import STORY, OddServer, error, ok, serving

from gatsby_mlx import cli
from gatsby_mlx.corpus.blend import parse
from gatsby_mlx.errors import UsageError, WriterError
from gatsby_mlx.house.writer import HouseWriter
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.writers import server as server_module
from gatsby_mlx.writers import transport
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.prompts import story_prompt
from gatsby_mlx.writers.server import ServerWriter
from gatsby_mlx.writers.specs import ServerSpec, parse_spec

JOB = StoryJob("a cat", "Mia", 2, 7)
KEY = "sk-thisIsTheKeyOfTheTests"


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The seconds that the writer would have slept."""
    seconds: list[float] = []
    monkeypatch.setattr(server_module.time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def serve(slept):
    """Start servers that answer with a function; all end with the test."""
    with contextlib.ExitStack() as running:
        yield lambda chat, **more: running.enter_context(serving(OddServer(chat, **more)))


def open_writer(odd: OddServer, **spec: Any) -> tuple[ServerWriter, list[str]]:
    """Return a writer for a server, and the list that its notes go to."""
    writer, notes = ServerWriter(ServerSpec("s", odd.url, **spec), 5.0, 0.01), []
    writer.on_note = notes.append
    return writer, notes


def write(odd: OddServer, n: int = 1, **spec: Any):
    """Write `n` stories; return the drafts, the notes and the writer."""
    writer, notes = open_writer(odd, **spec)
    with writer as ready:
        return list(ready.write(deque([JOB] * n))), notes, writer


def line(odd: OddServer, **spec: Any) -> str:
    """Return the line of the error that a story ends with."""
    with pytest.raises(WriterError) as caught:
        write(odd, **spec)
    text = caught.value.line()
    assert text.isprintable() and len(text) < 500
    return text


# The server's own words.


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            error(400, "the context overflows, load a larger one"),
            "answers 400 (the context overflows, load a larger one)",
        ),
        (error(404, "Model 'x' is not loaded"), "answers 404 (Model 'x' is not loaded)"),
        (error(500, "CUDA\nout of\x1b[31m memory."), "answers 500 (CUDA out of [31m memory)"),
        (error(500, "long " * 200), "..."),
        (
            (200, {"error": "insufficient system resources"}, {}),
            "answers with an error (insufficient system resources)",
        ),
        ((422, {"detail": [{"loc": ["body", "n"], "msg": "is wrong"}]}, {}), "answers 422 (body.n: is wrong)"),
        ((500, b"plain words", {}), "answers 500 (plain words)"),
        ((502, b"<html><h1>Bad", {}), "answers 502 (Bad Gateway)"),
    ],
)
def test_words_of_the_server_are_in_the_line(serve, reply, words):
    odd = serve(lambda body, n: reply)
    assert words in line(odd)


def test_what_another_try_does_not_change_is_asked_once(serve):
    odd = serve(lambda body, n: error(404, "not loaded"))
    assert "server:URL#MODEL" in line(odd)
    assert len(odd.asked) == 1


# Thinking.


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_beside_the_answer_is_counted(serve, field):
    odd = serve(lambda body, n: ok(**{field: "Hm. " * 10}))
    ((draft,), _, _) = write(odd)
    assert (draft.text, draft.reasoning, draft.finish) == (STORY, 40, "stop")


def test_model_that_only_reasons_says_what_to_do_and_stops(serve):
    odd = serve(lambda body, n: ok("", "length", reasoning_content="Okay. ", reasoning="Okay. "))
    ((draft,), notes, _) = write(odd)
    assert (draft.text, draft.reasoning, draft.finish) == ("", 6, "reasoning")
    assert len(notes) == 1 and "Turn thinking off in the server" in notes[0] and "max_tokens" in notes[0]
    writer, _ = open_writer(odd)
    with writer, pytest.raises(WriterError, match="reasoned and wrote no story in 5 answers") as caught:
        list(writer.write(deque([JOB] * 9)))
    assert "Turn thinking off" in caught.value.line()


def test_thinking_is_turned_off_in_both_ways_and_again_after_another_error(serve):
    def crashes_once(body, n):
        return error(400, "The model has crashed (exit code: null)") if n == 2 else ok()

    odd = serve(crashes_once)
    drafts, notes, writer = write(odd, 3)
    assert len(drafts) == 3 and len(odd.asked) == 4
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in odd.asked)
    assert all(body["reasoning_effort"] == "none" for body in odd.asked)
    assert not notes and writer.source == {"model": "qwen3-8b"}


@pytest.mark.parametrize(
    ("named", "words"), [("chat_template_kwargs", "chat_template_kwargs"), ("reasoning_effort", "reasoning.effort")]
)
def test_a_way_to_turn_thinking_off_is_dropped_only_when_it_is_named(serve, named, words):
    odd = serve(lambda body, n: error(400, f"Unknown parameter: '{words}'") if named in body else ok())
    _, _, writer = write(odd, 2)
    other = {"chat_template_kwargs", "reasoning_effort"} - {named}
    assert [named in body for body in odd.asked] == [True, False, False]
    assert all(body.keys() >= other for body in odd.asked)
    assert writer.source["left_out"] == [named]


def test_field_that_was_left_out_for_nothing_is_used_again(serve):
    """The server names a field, and fails without it as well: the error was about something else."""

    def fails(body, n):
        return error(500, "no slot for this seed") if n <= 4 else ok()

    odd = serve(fails)
    writer, _ = open_writer(odd)
    with writer as ready:
        with pytest.raises(WriterError, match="no slot"):
            list(ready.write(deque([JOB])))
        list(ready.write(deque([JOB])))
    assert [("seed" in body) for body in odd.asked] == [True, False, False, False, True]
    assert "left_out" not in writer.source


def test_a_refusal_without_a_word_costs_one_request_and_changes_nothing_else(serve):
    odd = serve(lambda body, n: (400, {}, {}) if "chat_template_kwargs" in body else ok())
    drafts, _, writer = write(odd, 2)
    assert len(drafts) == 2 and len(odd.asked) == 4
    assert "left_out" not in writer.source


# Requests that a server does not take.


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "words",
    [
        'Error rendering prompt with jinja template: "Only user and assistant roles are supported!"',
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "System role not supported",
        "This model does not take system messages",
    ],
)
def test_refused_system_message_goes_into_the_users(serve, status, words):
    odd = serve(lambda body, n: error(status, words) if body["messages"][0]["role"] == "system" else ok())
    drafts, notes, writer = write(odd, 2)
    assert len(drafts) == 2
    assert [len(body["messages"]) for body in odd.asked] == [2, 1, 1]
    system, user = (message["content"] for message in odd.asked[0]["messages"])
    assert odd.asked[1]["messages"] == [{"role": "user", "content": f"{system}\n\n{user}"}]
    assert writer.source["system"] == "in the user's message"
    assert len(notes) == 1 and "system message" in notes[0]


def test_words_about_system_resources_are_not_about_the_system_message(serve):
    odd = serve(lambda body, n: error(500, "insufficient system resources to load the model"))
    assert "insufficient system resources" in line(odd)
    assert all(len(body["messages"]) == 2 for body in odd.asked)


def test_refused_fields_are_left_out_one_by_one_noted_and_said_once(serve):
    taken = {"model", "messages", "max_tokens", "stream"}

    def strict(body, n):
        extra = [key for key in body if key not in taken]
        return error(400, f"Unrecognized request argument supplied: {extra[0]}") if extra else ok()

    odd = serve(strict)
    drafts, notes, writer = write(odd, 2)
    assert len(drafts) == 2 and len(odd.asked) == 7
    fields = ["chat_template_kwargs", "reasoning_effort", "seed", "top_p", "temperature"]
    assert writer.source["left_out"] == fields
    assert len(notes) == 1 and ", ".join(fields) in notes[0]
    sizes = [len(body) for body in odd.asked]
    assert sizes == [9, 8, 7, 6, 5, 4, 4]


def test_temperature_that_a_server_does_not_take_is_left_out_alone(serve):
    odd = serve(lambda body, n: error(400, "'temperature' does not support 0.8") if body.get("temperature") else ok())
    _, _, writer = write(odd)
    assert writer.source["left_out"] == ["temperature"]
    assert "seed" in odd.asked[-1] and "top_p" in odd.asked[-1]


def test_max_tokens_has_its_newer_name_where_the_server_asks_for_it(serve):
    words = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    odd = serve(lambda body, n: error(400, words) if "max_tokens" in body else ok())
    write(odd, 2)
    assert [body.get("max_completion_tokens") for body in odd.asked] == [None, 320, 320]


# Answers.


@pytest.mark.parametrize(
    ("given", "finish"),
    [(word, "stop") for word in ("eos_token", "end_turn", "STOP", "stop_sequence", "eos", "FINISH_REASON_STOP", None)]
    + [(word, "stop") for word in ("<|eot_id|>", "end-of-turn", "completed", "")]
    + [
        ("MAX_TOKENS", "length"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
    ],
)
def test_finish_reasons_that_mean_ended_are_stop(serve, given, finish):
    ((draft,), _, _) = write(serve(lambda body, n: ok(finish=given)))
    assert draft.finish == finish


def test_content_in_parts_is_joined_and_its_reasoning_counted(serve):
    parts = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "Mia had "},
        {"type": "text", "text": "a cat."},
    ]
    ((draft,), _, _) = write(serve(lambda body, n: ok(parts)))
    assert (draft.text, draft.reasoning, draft.finish) == ("Mia had a cat.", 3, "stop")


def test_usage_as_text_is_counted_and_nonsense_is_not(serve):
    ((draft,), _, _) = write(serve(lambda body, n: ok(usage={"prompt_tokens": "10", "completion_tokens": "20"})))
    assert (draft.tokens_in, draft.tokens_out) == (10, 20)
    ((draft,), _, _) = write(serve(lambda body, n: ok(usage={"prompt_tokens": -1, "completion_tokens": "x"})))
    assert (draft.tokens_in, draft.tokens_out) == (0, 0)


def test_no_content_is_an_empty_draft(serve):
    ((draft,), _, _) = write(serve(lambda body, n: ok(None)))
    assert (draft.text, draft.finish) == ("", "stop")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, b"<html>Log in to the Wi-Fi</html>", {}), "returned a web page and no JSON object"),
        ((200, b'data: {"choices": []}\n\ndata: [DONE]\n\n', {}), "returned a stream, which it was asked not to"),
        ((200, b'{"choices": [', {"Content-Length": "1000"}), "hung up in the middle of its answer"),
        ((200, b"caf\xe9", {}), "no JSON object"),
        ((200, b"[" * 100_000, {}), "no JSON object"),
        ((200, {"choices": [{"message": {"content": 5}}]}, {}), "without a story"),
        (None, "hung up without an answer"),
    ],
)
def test_answer_that_is_none_is_one_line(serve, reply, message):
    assert message in line(serve(lambda body, n: reply))


def test_answer_with_a_byte_order_mark_is_read(serve):
    reply = b"\xef\xbb\xbf" + json.dumps(ok()[1]).encode()
    ((draft,), _, _) = write(serve(lambda body, n: (200, reply, {})))
    assert draft.text == STORY


# Waits.


def test_wait_follows_retry_after_and_is_told_once(serve, slept):
    odd = serve(lambda body, n: error(429, "Rate limit", Retry_After="8") if n <= 2 else ok())
    drafts, notes, _ = write(odd)
    assert drafts[0].text == STORY and slept == [8.0, 8.0]
    assert notes == ["the server asks to wait: 429 (Rate limit). Waiting, 5 minutes at most"]


def test_retry_after_may_be_a_date(serve, slept):
    odd = serve(lambda body, n: error(503, "busy", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT") if n == 1 else ok())
    assert write(odd)[0][0].text == STORY
    assert slept == [0.01], "a moment that has passed"


def test_waits_have_an_end_with_the_servers_words(serve, slept):
    odd = serve(lambda body, n: error(429, "Rate limit, wait", Retry_After="40"))
    assert "answers 429 (Rate limit, wait). Wait 40 s" in line(odd)
    assert sum(slept) == 280.0
    slept.clear()
    odd.chat = lambda body, n: error(429, "Come back tomorrow", Retry_After="86400")
    assert "Come back tomorrow" in line(odd)
    assert slept == []


@pytest.mark.parametrize("listing", [False, True], ids=["story", "models"])
def test_server_that_loads_its_model_is_waited_for(serve, slept, listing):
    odd = serve(lambda body, n: error(503, "Loading model") if n <= 4 else ok())
    if listing:
        odd.models = error(503, "Loading model")
        assert "answers 503 (Loading model)" in line(odd)
        assert 0 < sum(slept) <= server_module.WAIT_S
    else:
        drafts, notes, _ = write(odd)
        assert drafts[0].text == STORY and len(slept) == 4
        assert notes == ["the server is loading its model. Waiting, 5 minutes at most"]


# Keys, passwords and addresses.


def test_key_of_the_environment_opens_the_server_and_is_shown_nowhere(serve, monkeypatch):
    odd = serve(lambda body, n: ok(), key=f"Bearer {KEY}")
    assert "answers 401" in (text := line(odd)) and "--api-key-env" in text
    monkeypatch.setenv("SERVER_KEY", KEY)
    drafts, _, writer = write(odd, api_key_env="SERVER_KEY")
    assert drafts[0].text == STORY
    assert KEY not in repr((vars(writer), writer.spec))
    monkeypatch.setenv("SERVER_KEY", KEY + "2")
    text = line(odd, api_key_env="SERVER_KEY")
    assert "Check the key in SERVER_KEY" in text and KEY not in text and "***" in text
    monkeypatch.delenv("SERVER_KEY")
    assert "There is no API key in SERVER_KEY" in line(odd, api_key_env="SERVER_KEY")
    monkeypatch.setenv("SERVER_KEY", "two words\nand a line")
    assert "cannot be an API key" in (text := line(odd, api_key_env="SERVER_KEY")) and "two words" not in text


def test_key_is_not_sent_to_where_a_server_redirects(serve, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    other = serve(lambda body, n: ok())
    odd = serve(lambda body, n: ok(), models=(302, b"", {"Location": f"{other.url}/v1/models"}))
    write(odd, api_key_env="SERVER_KEY")
    assert other.authorizations == [None] and odd.authorizations[0] == f"Bearer {KEY}"


def test_password_in_an_address_is_sent_and_hidden(serve):
    odd = serve(lambda body, n: ok(), key="Basic bWU6c2VjcmV0L3c=")
    host = odd.url.removeprefix("http://")
    spec = parse_spec(f"server:http://me:secret%2Fw@{host}/v1/chat/completions#m")
    assert isinstance(spec, ServerSpec)
    assert spec.url == odd.url and "secret" not in repr(spec) and "secret" not in spec.name
    with ServerWriter(spec, 5.0, 0.01) as ready:
        assert next(iter(ready.write(deque([JOB])))).text == STORY
    wrong = parse_spec(f"server:http://me:hush-hush@{host}#m")
    assert isinstance(wrong, ServerSpec)
    with pytest.raises(WriterError) as caught, ServerWriter(wrong, 5.0, 0.01) as ready:
        list(ready.write(deque([JOB])))
    assert "hush" not in caught.value.line() and "password in its address" in caught.value.line()


@pytest.mark.parametrize(
    "path", ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/v1/chat/completions/", "/v1/models"]
)
def test_pasted_addresses_are_understood(serve, path):
    odd = serve(lambda body, n: ok())
    spec = parse_spec(f"server:{odd.url}{path}#m")
    assert isinstance(spec, ServerSpec) and spec.url == odd.url
    with ServerWriter(spec, 5.0, 0.01) as ready:
        list(ready.write(deque([JOB])))
    assert odd.paths == ["/v1/models", "/v1/chat/completions"]


def test_names_of_servers_come_from_the_model_or_the_host():
    assert parse_spec("server:http://me:pw@box:1234/v1/chat/completions").name == "box-1234"
    assert parse_spec("server:http://box:1234").name == "box-1234"
    assert parse_spec("server:http://box:1234#a/Big_One").name == "big-one"


@pytest.mark.parametrize(
    "blend",
    ["server:http://me:hush/w@host", "server:http://me:hush,w@host", "server:ftp://me:hush@host", "me:hush@host"]
    + ["server:http://me:hush@host=x", "server:http://me:hush@", "server:http://me:hush@host/a@b"],
)
def test_password_is_in_no_error_about_an_address(blend):
    with pytest.raises(UsageError) as caught:
        parse(blend)
    assert "hush" not in caught.value.line()


# Models.


def test_first_model_that_can_chat_is_taken(serve):
    names = ["text-embedding-nomic-embed-text-v1.5", "bge-m3", "Qwen3-Reranker", "whisper-large", "qwen3-8b", "gemma"]
    odd = serve(lambda body, n: ok(), models={"data": [{"id": name} for name in names]})
    _, _, writer = write(odd)
    assert writer.model == "qwen3-8b" == odd.asked[0]["model"]
    odd.models = {"data": [{"id": "quiet", "type": "embeddings"}, {"id": "loud", "type": "llm"}]}
    assert write(odd)[2].model == "loud"
    odd.models = [{"id": "bare"}]
    assert write(odd)[2].model == "bare"
    odd.models = {"data": [{"id": name} for name in names[:3]]}
    assert "no model that can chat, only text-embedding-nomic-embed-text-v1.5, bge-m3" in line(odd)


def test_server_without_a_list_needs_a_models_name(serve):
    odd = serve(lambda body, n: ok(), models={"error": "Unexpected endpoint or method. (GET /v1/models)"})
    assert "Unexpected endpoint" in line(odd)
    assert write(odd, model="m")[0][0].text == STORY


# `gatsby write`.


def good_story(body: dict) -> str:
    """Return a story as the prompt asks for it, which the house writer has written."""
    user = body["messages"][-1]["content"]
    found = re.search(r"Write the story of (\w+), about (.+?)\. ", user)
    assert found
    jobs = [StoryJob(found[2], found[1], level, body.get("seed", 7)) for level in LEVELS]
    (job,) = (job for job in jobs if story_prompt(job, 320, counted=True).user == user)
    return next(iter(HouseWriter().write(deque([job])))).text


def gatsby(*words: object):
    return CliRunner().invoke(cli.main, list(map(str, words)))


def run_write(odd: OddServer, *words: object, blend: str | None = None):
    return gatsby("write", "--blend", blend or f"server:{odd.url}#m", "--n", 5, "--out", "c", *words)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_write_says_a_refused_field_once_and_keeps_it_in_the_journal(serve, workdir):
    odd = serve(lambda body, n: error(400, "Unknown name: seed") if "seed" in body else ok())
    done = run_write(odd)
    assert done.stderr.count("m: the server does not take seed: left out, and noted in the manifest") == 1
    assert b'"left_out": ["seed"]' in everything(workdir)


def test_refused_field_is_in_the_manifest_of_a_finished_corpus(serve, workdir):
    odd = serve(lambda body, n: error(400, "no top_p here") if "top_p" in body else ok(good_story(body)))
    (workdir / "topics.txt").write_text("a cat and a ball\n")
    done = run_write(odd, "--topics", "topics.txt")
    assert done.exit_code == 0, done.output
    manifest = json.loads((workdir / "c" / "manifest.json").read_text())
    assert manifest["sources"]["m"] == {"model": "m", "left_out": ["top_p"]}
    assert gatsby("corpus", "verify", "c").exit_code == 0


@pytest.mark.parametrize("where", ["option", "file"])
def test_write_keeps_a_key_out_of_everything_that_it_writes(serve, workdir, monkeypatch, where):
    odd = serve(lambda body, n: ok(), key=f"Bearer {KEY}")
    monkeypatch.setenv("SERVER_KEY", KEY)
    blend = None
    if where == "file":
        (workdir / "b.toml").write_text(f'[writers.s]\nmodel = "server:{odd.url}"\napi_key_env = "SERVER_KEY"\n')
        blend = "b.toml"
    done = run_write(odd, *(["--api-key-env", "SERVER_KEY"] if where == "option" else []), blend=blend)
    assert "None of 25 stories" in done.stderr, done.output
    assert {*odd.authorizations} == {f"Bearer {KEY}"}
    assert KEY.encode() not in everything(workdir) + done.output.encode()


def test_write_keeps_a_password_out_of_everything_that_it_writes(serve, workdir):
    odd = serve(lambda body, n: error(404, "no") if n > 30 else ok(), key="Basic bWU6aHVzaC1odXNo")
    address = odd.url.replace("http://", "http://me:hush-hush@")
    for words in ((), ("--dry-run",)):
        done = run_write(odd, *words, blend=f"server:{address}")
        assert "hush-hush" not in done.output
    assert odd.asked and b"hush-hush" not in everything(workdir)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--api-key-env", "sk-not/a-name"], "not by itself"),
        (["--api-key-env", "sk_not_set"], "is not set"),
    ],
)
def test_what_is_not_the_name_of_a_key_is_refused_and_not_repeated(serve, workdir, words, message):
    done = run_write(serve(lambda body, n: ok()), *words)
    assert done.exit_code == 2
    assert message in done.stderr and "sk" not in done.stderr
    assert not (workdir / "c").exists()
    done = gatsby("write", "--n", 5, "--out", "c", "--api-key-env", "HOME")
    assert done.exit_code == 2 and "this blend has none" in done.stderr


def test_blend_file_with_a_key_in_place_of_its_name_is_refused(workdir):
    (workdir / "b.toml").write_text(f'[writers.s]\nmodel = "server:http://h"\napi_key_env = "{KEY}"\n')
    with pytest.raises(UsageError) as caught:
        parse("b.toml")
    assert KEY not in caught.value.line() and 'api_key_env = "API_KEY"' in caught.value.line()
    (workdir / "b.toml").write_text('[writers.s]\nmodel = "server:http://a:b@h"\napi_key_env = "K"\n')
    with pytest.raises(UsageError, match="not both"):
        parse("b.toml")


def test_fields_of_errors_are_read_in_every_form():
    for answer, words in (
        ({"error": {"message": "a", "param": "seed"}}, "a (seed)"),
        ({"error": {"type": "overloaded"}}, "overloaded"),
        ({"error": "b"}, "b"),
        ({"message": "c"}, "c"),
        ({"detail": "d"}, "d"),
        ({"detail": ["e", {"loc": ["body"], "msg": "f"}]}, "e; body: f"),
        ({"error": ["g"]}, "['g']"),
        ({}, ""),
    ):
        assert transport._words(answer) == words
    assert odd_server.MODELS["data"]
