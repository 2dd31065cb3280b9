"""Output to a terminal, a pipe and a full disk, and what Ctrl-C leaves."""

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tools import ROOT, TINY_CLI, command, environment, gatsby, one_line, real, save_model

from gatsby_mlx.cli import console
from gatsby_mlx.story.prime import ALPHABET

TOPIC = "a dog and a balloon"


def on_a_terminal(
    words: list[str], cwd, env: dict[str, str], keys: tuple[float, bytes] | None = None
) -> tuple[str, int]:
    """Run a command with a pseudo-terminal as its stdout and stderr; return what it showed and its exit code."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(words, cwd=cwd, env=env, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not piece:
                break
            shown += piece
        elif child.poll() is not None:
            break
    os.close(leader)
    return shown.decode(), child.wait(timeout=30)


GLOWING = """
import click
from gatsby_mlx import cli
from gatsby_mlx.cli import console

@click.command()
def shine():
    console.stream("a green light", lambda text: click.echo(text, nl=False))

cli.Gatsby.get_command = lambda self, ctx, name: shine
cli.main(["shine"])
"""


def test_mention_is_colored_on_a_terminal_that_wants_color(workdir):
    words = [sys.executable, "-c", GLOWING]
    shown, code = on_a_terminal(words, workdir, environment(workdir))
    assert code == 0
    assert "\x1b[92m" in shown
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain, _ = on_a_terminal(words, workdir, environment(workdir, **unwanted))
        assert plain == "a green light"


def test_training_shows_its_status_line_on_a_terminal_without_escape_codes(workdir, corpus):
    words = [sys.executable, "-c", TINY_CLI, "train", "--preset", "pocket", "--corpus", str(corpus)]
    shown, code = on_a_terminal([*words, "--max-chars", "9000"], workdir, environment(workdir))
    assert code == 0
    assert re.search(r"\rstep 1, .* characters, loss \d\.\d+, [\d,]+ characters/s, \d+ (s|min)[ \d s]* left", shown)
    assert "\x1b" not in shown
    assert "validation loss" in shown


def test_status_line_is_overwritten_completely(monkeypatch):
    class Terminal:
        written = ""

        def isatty(self):
            return True

        def write(self, text):
            self.written += text

        def flush(self):
            pass

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    status = console.Status()
    status("long " * 9)
    status("short")
    status.clear()
    pieces = terminal.written.split("\r")
    assert [len(p) for p in pieces] == [0, 19, 19, 5, 0]


# A model that nobody trained has no corpus to compare with, and `dial` says so.
UNKNOWN_CORPUS = "the corpus that this model learned from is not known; name it with --corpus\n"


def test_off_a_terminal_no_escape_code_and_no_status(model):
    result = gatsby("tell", TOPIC, "--model", model, "--seed", 1, "--max-tokens", 50)
    dial = gatsby("dial", "--n-topics", 1, "--seeds", 1, "--max-tokens", 20, "--model", model)
    for text in (result.output, dial.output):
        assert "\x1b" not in text
        assert "\r" not in text
    assert dial.stderr == UNKNOWN_CORPUS


def test_mention_is_colored_across_a_line_break_word_by_word():
    glowing = console.glow("the Green\nlight, a greenish light")
    assert re.findall(r"\x1b\[92m\x1b\[1m(\w+)\x1b\[0m", glowing) == ["Green", "light"]
    assert all(line.count("\x1b[0m") == line.count("\x1b[92m") for line in glowing.split("\n"))


@pytest.mark.parametrize("text", ["a green light.", "gre gr greenhouse light", "green  \n light", "ends in green", "x"])
def test_stream_writes_everything_and_colors_what_glow_colors(text):
    pieces: list[str] = []
    console.stream(iter(text), pieces.append)
    assert "".join(pieces) == console.glow(text)
    assert len(pieces) > 1 or len(text) == 1


def test_control_characters_of_a_vocabulary_never_reach_the_terminal(workdir, monkeypatch):
    wicked = "\n" + "\x1b\x07\x08\r\x9b\u202e" * 1 + ALPHABET[1:]
    folder = save_model(workdir / "wicked", wicked)
    options = ("tell", TOPIC, "--model", folder, "--seed", 2, "--temp", 5, "--max-tokens", 400)
    raw = json.loads(gatsby(*options, "--json").stdout)["stories"][0]["story"]
    assert set(raw) & set("\x1b\x07\x08\r\x9b\u202e"), "the model does draw them"
    monkeypatch.setenv("COLUMNS", "200")
    for more in ((), ("--all-levels",), ("--json",)):
        shown = gatsby(*options, *more).output
        assert not set(shown) & set("\x1b\x07\x08\r\x9b\u202e")


def test_control_characters_of_a_corpus_never_reach_the_terminal(workdir, corpus):
    text = (corpus / "raw.txt").read_text()
    topic = re.search("topic: (.*)\n", text)
    assert topic
    (workdir / "raw.txt").write_text(text.replace(topic[0], f"topic: \x1b[2J{topic[1]}\n", 1))
    (workdir / "manifest.json").write_bytes((corpus / "manifest.json").read_bytes())
    result = gatsby("corpus", "show", "raw.txt")
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "\x1b" not in console.table(["writer", "n"], [["\x1b[2Jhouse", "1"]])


def test_story_goes_to_stdout_and_the_rest_to_stderr(workdir, model):
    done = real(workdir, "tell", TOPIC, "--model", model, "--max-tokens", 50)
    assert done.returncode == 0
    assert re.fullmatch(r"seed \d+\n\(cut: --max-tokens is reached\)\n", done.stderr)
    assert "seed" not in done.stdout
    assert len(done.stdout) in range(2, 52)


def test_reader_that_stops_early_causes_no_traceback(workdir, model):
    line = shlex.join(command("tell", TOPIC, "--model", str(model), "--seed", "1", "--temp", "2")) + " | head -c 10"
    done = subprocess.run(["bash", "-c", line], cwd=workdir, env=environment(workdir), capture_output=True, text=True)
    assert len(done.stdout) == 10
    assert done.stderr == ""


def limited(workdir, kilobytes: int, *words: object, **more) -> subprocess.CompletedProcess[str]:
    """Run `gatsby` where no file can grow past a few kilobytes, as on a full disk."""
    line = f"ulimit -f {kilobytes}; exec {shlex.join(command(*words))}"
    shared = {"cwd": workdir, "env": environment(workdir), "text": True, "stderr": subprocess.PIPE}
    return subprocess.run(["bash", "-c", line], **{"stdout": subprocess.PIPE, **shared, **more})


def test_output_that_cannot_be_written_is_one_line(workdir, corpus):
    for kilobytes, path in ((1, workdir / "show.txt"), *((999, p) for p in [Path("/dev/full")] if p.exists())):
        with path.open("w") as file:
            done = limited(workdir, kilobytes, "corpus", "show", corpus, "--json", stdout=file)
        assert done.returncode == 1
        assert re.search("File too large|No space left", one_line(done.stderr))


def test_full_disk_leaves_no_corpus_and_a_second_try_finishes(workdir):
    done = limited(workdir, 2, "write", "--n", 5, "--out", "c")
    assert done.returncode == 1
    assert "cannot write" in one_line(done.stderr)
    assert not (workdir / "c" / "raw.txt").exists()
    assert not list((workdir / "c").glob(".*.tmp"))
    assert gatsby("write", "--n", 5, "--out", "c").exit_code == 0


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGHUP))],
    ids=lambda number: number.name,
)
def test_ctrl_c_in_training_saves_and_the_hint_resumes_to_the_end(number, workdir, corpus):
    out = workdir / "my run"
    words = ["train", "--preset", "pocket", "--corpus", str(corpus), "--out", str(out), "--max-chars", "3000000"]
    child = subprocess.Popen(
        [sys.executable, "-c", TINY_CLI, *words],
        cwd=workdir,
        env=environment(workdir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a suite under nohup ignores SIGHUP
    )
    log, deadline = out / "metrics.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(number)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    line = stderr.splitlines()[-1]
    assert line.startswith("stopped and saved; go on with: ")
    step = json.loads((out / "last" / "state.json").read_text())["progress"]["step"]
    assert step >= 2
    resumed = shlex.split(line.split("go on with: ")[1])
    assert resumed == ["gatsby", "train", "--resume", str(out)], "all else comes from the run"

    state = json.loads((out / "last" / "state.json").read_text())
    near = state["progress"]["chars"] + 3_000  # bring the end near: no option may differ from the first run's
    state["run"]["max_chars"] = near
    (out / "last" / "state.json").write_text(json.dumps(state))
    done = gatsby(*resumed[1:])
    assert done.exit_code == 0, done.output
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if '"train"' in line]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > step
    assert json.loads((out / "last" / "state.json").read_text())["progress"]["chars"] >= near


def test_ctrl_c_elsewhere_is_one_line_and_130(monkeypatch, corpus):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("gatsby_mlx.corpus.load.load", interrupted)
    done = gatsby("corpus", "show", corpus)
    assert done.exit_code == 130
    assert done.stderr == "\ngatsby: interrupted\n"
    assert done.stdout == ""


def test_debug_shows_the_traceback_at_any_position(workdir):
    for words in (["--debug", "corpus", "show", "none"], ["corpus", "show", "none", "--debug"]):
        done = gatsby(*words)
        assert type(done.exception).__name__ == "CorpusError"
    assert isinstance(gatsby("corpus", "show", "none").exception, SystemExit)


def test_module_and_script_are_one_command(workdir):
    for words in (["-m", "gatsby_mlx"], [str(ROOT / "cli.py")]):
        done = subprocess.run(
            [sys.executable, *words, "tel"], cwd=workdir, env=environment(workdir), capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "gatsby --help" in one_line(done.stderr)


def test_missing_dependency_is_one_line(workdir, monkeypatch, model):
    done = subprocess.run([sys.executable, "-S", str(ROOT / "cli.py")], cwd=workdir, capture_output=True, text=True)
    assert done.returncode == 1
    assert "click is not installed. Install everything with: make demo" in one_line(done.stderr)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = gatsby("dial", "--n-topics", 1, "--seeds", 1, "--max-tokens", 9, "--model", model, "--plot", "dial.svg")
    assert result.exit_code == 1
    line = one_line(result.stderr)
    assert "matplotlib" in line and "pip install" in line
    assert result.stdout == "", "it is refused before the measuring"


def test_terminal_that_is_not_utf_8_shows_a_question_mark(workdir):
    folder = save_model(workdir / "accents", ALPHABET + "\u00e9\u2603")
    env = {"PYTHONIOENCODING": "ascii"}
    done = real(workdir, "tell", TOPIC, "--model", folder, "--seed", 1, "--temp", 9, "--max-tokens", 300, env=env)
    assert done.returncode == 0, done.stderr
    assert "?" in done.stdout


def test_slow_blas_is_reported_once_with_a_hint(model, monkeypatch):
    from gatsby_mlx.device import Blas

    slow = Blas("reference", note="no fast BLAS was found", hint="apt-get install libopenblas0-pthread")
    monkeypatch.setattr("gatsby_mlx.device.prepare", lambda: slow)
    result = gatsby("tell", TOPIC, "--model", model, "--seed", 1, "--max-tokens", 9)
    assert result.stderr.count("slow: ") == 1
    assert "libopenblas0-pthread" in result.stderr
    assert "slow" not in result.stdout
