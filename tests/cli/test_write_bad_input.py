"""`gatsby write` and what goes wrong with its writers, machine and journal: one line with a hint, and nothing lost."""

import json
import shutil
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tiny
from cli_tools import gatsby, one_line, real

from gatsby_mlx.corpus.journal import Journal
from gatsby_mlx.corpus.load import load
from gatsby_mlx.writers import local_models, requirements
from gatsby_mlx.writers.server import ServerWriter


def write(blend: object, n: int = 10):
    return gatsby("write", "--blend", blend, "--n", n, "--out", "c")


def kept() -> int:
    """Return how many stories `--assemble` makes a corpus of."""
    done = gatsby("write", "--assemble", "--out", "c")
    assert done.exit_code == 0, done.output
    return len(load(Path("c")).documents)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no corpus at x"),
        ("Once upon a time.\n", "holds no control line"),
        (
            "[green=1] [green=1] [green=1] obsession=faint\ntopic: a cat\nA cat sat.\n\n",
            "fewer than 3 stories of level 1",
        ),
    ],
    ids=["missing", "no stories", "too few"],
)
def test_examples_that_are_no_stories_are_refused_in_one_line(workdir, text, message):
    tiny.save(workdir / "m", "granite", None)
    if text is not None:
        (workdir / "x").write_text(text)
    done = gatsby("write", "--blend", "./m", "--examples", "x", "--n", 10, "--out", "c")
    assert done.exit_code in (1, 2)
    assert message in one_line(done.stderr)


def test_examples_are_for_a_model(workdir):
    done = gatsby("write", "--examples", "x", "--n", 10, "--out", "c")
    assert done.exit_code == 2
    assert "this blend has no model" in one_line(done.stderr)


def test_model_that_cannot_write_stops_alone_and_other_stories_are_kept(workdir):
    tiny.save(workdir / "m", "granite", tiny.BROKEN)
    alone = write("./m")
    assert alone.exit_code == 1
    assert "chat template fails" in one_line(alone.stderr)
    assert not (workdir / "c" / "journal.sqlite3").exists()
    for _ in range(2):
        done = write("./m,house")
        assert done.exit_code == 1
        noted, last = done.stderr.splitlines()
        assert noted.startswith("m stopped, the others continue: ")
        assert "chat template fails" in noted
        assert last.startswith("gatsby: m stopped, as reported above. 5 stories are kept. To resume: gatsby write ")
    assert kept() == 5


def test_missing_repository_is_reported_offline_before_anything_is_written(workdir):
    words = ["write", "--blend", "a/nothing", "--n", 5, "--out", "c"]
    done = real(workdir, *words, env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(workdir / "hf")})
    assert done.returncode == 1
    assert "a/nothing is not on this machine, and HF_HUB_OFFLINE is set. Try again" in one_line(done.stderr)
    assert not (workdir / "c").exists()


def test_a_dry_run_needs_neither_network_nor_out(workdir):
    words = ["write", "--blend", "a/nothing=.5,olmo=.5", "--n", 1000, "--dry-run"]
    done = real(workdir, *words, env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(workdir / "hf")})
    assert done.returncode == 0, done.stderr
    assert "nothing: " in done.stdout and "is not on this machine" in done.stdout
    (olmo,) = (line.split() for line in done.stdout.splitlines() if line.startswith("olmo "))
    assert olmo[1:6] == ["100", "500", "550", "4.1", "GB"]


def test_too_little_memory_or_disk_is_reported_before_a_download(workdir, monkeypatch):
    monkeypatch.setattr(local_models, "locate", lambda spec: None)
    monkeypatch.setattr(local_models, "fetch", lambda spec: pytest.fail("downloaded"))
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (6 * 10**9, False))
    done = write("four")
    assert done.exit_code == 1
    assert "6.0 GB may be used here. Try --blend olmo=" in one_line(done.stderr)
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (10**12, False))
    monkeypatch.setattr(local_models.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    done = write("four")
    assert done.exit_code == 1
    assert "olmo needs 4.1 GB of disk" in one_line(done.stderr)
    assert not (workdir / "c").exists()


@pytest.fixture
def server(monkeypatch):
    """A server that answers `server.answers` in turn, and then the last one forever; None is no answer in time."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def send(self, body: bytes):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.send(b'{"data": [{"id": "m"}]}')

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            if answer is None:
                made.gate.wait(5)
            else:
                self.send(answer)

    monkeypatch.setattr(ServerWriter.__init__, "__defaults__", (0.3, 0.01))
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads, made.answers, made.gate = True, [], threading.Event()
    made.handle_error = lambda *_: None
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.gate.set()
    made.shutdown()
    made.server_close()
    thread.join()


def chat(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>\x1b[31m", "no JSON object. Is it an OpenAI-style server?"),
        (b"{}", "without a story. Is it an OpenAI-style server?"),
        (None, "has loaded its model, then run the same command to resume"),
    ],
)
def test_server_that_fails_stops_alone_and_other_stories_are_kept(workdir, server, answer, message):
    """It answers to the request for topics, and to two for stories."""
    server.answers = [chat("a cat")] * 5 + [answer]
    url = f"server:http://127.0.0.1:{server.server_port}#m"
    done = write(f"{url},house")
    assert done.exit_code == 1
    noted, last = done.stderr.splitlines()
    assert message in noted
    assert "\x1b" not in done.stderr
    assert "m stopped, as reported above. 5 stories are kept" in last
    assert kept() == 5
    with Journal(workdir / "c", write=False) as journal:
        assert {row.writer for row in journal.attempts()} == {"m", "house"}
    server.answers = [answer]
    done = gatsby("write", "--blend", url, "--n", 5, "--out", "alone")
    assert done.exit_code == 1
    assert message in one_line(done.stderr)
    assert not (workdir / "alone" / "journal.sqlite3").exists()


def test_server_of_empty_stories_is_one_line_with_the_gates_that_reject_them(workdir, server):
    server.answers = [chat("")]
    blend = f"server:http://127.0.0.1:{server.server_port}"
    done = write(blend, 5)
    assert done.exit_code == 1
    assert "None of 25 stories in c passes the gates (length 25, " in one_line(done.stderr)
    with Journal(workdir / "c", write=False) as journal:
        assert len(journal.attempts()) == 25


def test_only_server_going_down_is_one_line(workdir, server):
    server.answers = [chat("a cat")] * 5 + [b""]
    done = write(f"server:http://127.0.0.1:{server.server_port}#m", 5)
    assert done.exit_code == 1
    line = one_line(done.stderr)
    assert line.startswith("gatsby: m stopped (The server at ")
    assert "To resume: gatsby write" in line


@pytest.fixture
def journal(workdir, server) -> Path:
    server.answers = [chat("")]
    assert write(f"server:http://127.0.0.1:{server.server_port}#m", 5).exit_code == 1
    return workdir / "c" / "journal.sqlite3"


def change(path: Path, line: str, *values: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(line, values)
    db.close()


HARMS = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "junk": lambda path: path.write_bytes(b"junk" * 2000),
    "no plan": lambda path: change(path, "UPDATE facts SET value = ? WHERE key = 'plan'", '{"topics": 3}'),
    "torn plan": lambda path: change(path, "UPDATE facts SET value = ? WHERE key = 'plan'", '{"topics'),
    "no table": lambda path: change(path, "DROP TABLE attempts"),
    "torn row": lambda path: change(path, "UPDATE attempts SET failed = ?", "[length"),
    "of a later version": lambda path: change(path, "PRAGMA user_version = 99"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_corrupt_journal_is_left_alone_with_a_hint(server, journal, harm):
    HARMS[harm](journal)
    before = journal.read_bytes()
    again = write(f"server:http://127.0.0.1:{server.server_port}#m", 5)
    for done in (again, gatsby("write", "--assemble", "--out", "c")):
        assert done.exit_code == 1
        assert "Move it away (mv c/journal.sqlite3 c/journal.sqlite3.old)" in one_line(done.stderr)
        assert journal.read_bytes() == before


def test_journal_of_another_plan_is_left_alone_with_two_hints(journal):
    before = journal.read_bytes()
    line = one_line(write("house", 5).stderr)
    assert "Repeat the command that started it (gatsby write --blend 'server:http://127.0.0.1:" in line
    assert "or choose another --out" in line
    assert journal.read_bytes() == before
