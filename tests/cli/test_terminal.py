"""What reaches a terminal, a pipe, a full disk; and what Ctrl-C leaves."""

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
from gatsby_mlx.prime import ALPHABET

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


def test_a_mention_glows_on_a_terminal_that_wants_colour(place):
    words = [sys.executable, "-c", GLOWING]
    shown, code = on_a_terminal(words, place, environment(place))
    assert code == 0
    assert "\x1b[92m" in shown
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain, _ = on_a_terminal(words, place, environment(place, **unwanted))
        assert plain == "a green light"


def test_training_shows_its_status_line_on_a_terminal_without_escape_codes(place, corpus):
    words = [sys.executable, "-c", TINY_CLI, "train", "--preset", "pocket", "--corpus", str(corpus)]
    shown, code = on_a_terminal([*words, "--max-chars", "9000"], place, environment(place))
    assert code == 0
    assert re.search(r"\rstep 1, .* characters, loss \d\.\d+, [\d,]+ characters/s, \d:\d\d left", shown)
    assert "\x1b" not in shown
    assert "validation loss" in shown


def test_status_line_is_written_over_completely(monkeypatch):
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


# A model that nobody trained has no corpus to be held to, and `dial` says so.
UNKNOWN_CORPUS = "the corpus that this model learnt from is not known; name it with --corpus\n"


def test_off_a_terminal_no_escape_code_and_no_status(model):
    told = gatsby("tell", TOPIC, "--model", model, "--seed", 1, "--max-tokens", 50)
    dial = gatsby("dial", "--n-topics", 1, "--seeds", 1, "--max-tokens", 20, "--model", model)
    for text in (told.output, dial.output):
        assert "\x1b" not in text
        assert "\r" not in text
    assert dial.stderr == UNKNOWN_CORPUS


def test_mention_glows_across_a_line_break_and_each_word_by_itself():
    glowing = console.glow("the Green\nlight, a greenish light")
    assert re.findall(r"\x1b\[92m\x1b\[1m(\w+)\x1b\[0m", glowing) == ["Green", "light"]
    assert all(line.count("\x1b[0m") == line.count("\x1b[92m") for line in glowing.split("\n"))


@pytest.mark.parametrize("text", ["a green light.", "gre gr greenhouse light", "green  \n light", "ends in green", "x"])
def test_stream_writes_everything_and_colours_what_glow_colours(text):
    pieces: list[str] = []
    console.stream(iter(text), pieces.append)
    assert "".join(pieces) == console.glow(text)
    assert len(pieces) > 1 or len(text) == 1


def test_control_characters_of_a_vocabulary_never_reach_the_terminal(place):
    wicked = "\n" + "\x1b\x07\x08\r\x9b\u202e" * 1 + ALPHABET[1:]
    folder = save_model(place / "wicked", wicked)
    options = ("tell", TOPIC, "--model", folder, "--seed", 2, "--temp", 5, "--max-tokens", 400)
    raw = json.loads(gatsby(*options, "--json").stdout)["stories"][0]["story"]
    assert set(raw) & set("\x1b\x07\x08\r\x9b\u202e"), "the model does say them"
    for more in ((), ("--all-levels",), ("--json",)):
        shown = gatsby(*options, *more).output
        assert not set(shown) & set("\x1b\x07\x08\r\x9b\u202e")


def test_control_characters_of_a_corpus_never_reach_the_terminal(place, corpus):
    text = (corpus / "raw.txt").read_text()
    topic = re.search("topic: (.*)\n", text)
    assert topic
    (place / "raw.txt").write_text(text.replace(topic[0], f"topic: \x1b[2J{topic[1]}\n", 1))
    (place / "manifest.json").write_bytes((corpus / "manifest.json").read_bytes())
    told = gatsby("corpus", "show", "raw.txt")
    assert told.exit_code == 1
    assert "\x1b" not in told.output
    assert "\x1b" not in console.table(["writer", "n"], [["\x1b[2Jhouse", "1"]])


def test_story_goes_to_stdout_and_the_rest_to_stderr(place, model):
    done = real(place, "tell", TOPIC, "--model", model, "--max-tokens", 50)
    assert done.returncode == 0
    assert re.fullmatch(r"seed \d+\n\(cut: --max-tokens is reached\)\n", done.stderr)
    assert "seed" not in done.stdout
    assert len(done.stdout) in range(2, 52)


def test_a_reader_that_leaves_early_causes_no_traceback(place, model):
    line = shlex.join(command("tell", TOPIC, "--model", str(model), "--seed", "1", "--temp", "2")) + " | head -c 10"
    done = subprocess.run(["bash", "-c", line], cwd=place, env=environment(place), capture_output=True, text=True)
    assert len(done.stdout) == 10
    assert done.stderr == ""


def limited(place, kilobytes: int, *words: object, **more) -> subprocess.CompletedProcess[str]:
    """Run `gatsby` where no file can grow past a few kilobytes, as on a full disk."""
    line = f"ulimit -f {kilobytes}; exec {shlex.join(command(*words))}"
    shared = {"cwd": place, "env": environment(place), "text": True, "stderr": subprocess.PIPE}
    return subprocess.run(["bash", "-c", line], **{"stdout": subprocess.PIPE, **shared, **more})


def test_output_that_cannot_be_written_is_one_line(place, corpus):
    for kilobytes, path in ((1, place / "show.txt"), *((999, p) for p in [Path("/dev/full")] if p.exists())):
        with path.open("w") as file:
            done = limited(place, kilobytes, "corpus", "show", corpus, "--json", stdout=file)
        assert done.returncode == 1
        assert re.search("File too large|No space left", one_line(done.stderr))


def test_a_disk_that_fills_up_leaves_no_corpus_and_a_second_try_ends_it(place):
    done = limited(place, 2, "write", "--n", 5, "--out", "c")
    assert done.returncode == 1
    assert "cannot write" in one_line(done.stderr)
    assert not (place / "c" / "raw.txt").exists()
    assert not list((place / "c").glob(".*.tmp"))
    assert gatsby("write", "--n", 5, "--out", "c").exit_code == 0


def test_ctrl_c_in_training_saves_and_the_hint_goes_on_to_the_end(place, corpus):
    out = place / "my run"
    words = ["train", "--preset", "pocket", "--corpus", str(corpus), "--out", str(out), "--max-chars", "3000000"]
    child = subprocess.Popen(
        [sys.executable, "-c", TINY_CLI, *words],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log, deadline = out / "metrics.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    told = stderr.splitlines()[-1]
    assert told.startswith("stopped and saved; go on with: ")
    step = json.loads((out / "last" / "state.json").read_text())["progress"]["step"]
    assert step >= 2
    resumed = shlex.split(told.split("go on with: ")[1])
    assert resumed == ["gatsby", *words, "--resume"]

    state = json.loads((out / "last" / "state.json").read_text())
    near = state["progress"]["chars"] + 3_000  # bring the end near: no option may differ from the first run's
    state["run"]["max_chars"] = near
    (out / "last" / "state.json").write_text(json.dumps(state))
    resumed[resumed.index("--max-chars") + 1] = str(near)
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


def test_debug_shows_the_traceback_wherever_it_stands(place):
    for words in (["--debug", "corpus", "show", "none"], ["corpus", "show", "none", "--debug"]):
        done = gatsby(*words)
        assert type(done.exception).__name__ == "CorpusError"
    assert isinstance(gatsby("corpus", "show", "none").exception, SystemExit)


def test_module_and_script_are_one_command(place):
    for words in (["-m", "gatsby_mlx"], [str(ROOT / "cli.py")]):
        done = subprocess.run(
            [sys.executable, *words, "tel"], cwd=place, env=environment(place), capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "gatsby --help" in one_line(done.stderr)


def test_what_is_not_installed_is_said_in_one_line(place, monkeypatch, model):
    done = subprocess.run([sys.executable, "-S", str(ROOT / "cli.py")], cwd=place, capture_output=True, text=True)
    assert done.returncode == 1
    assert "click is not installed. Install everything with: make demo" in one_line(done.stderr)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = gatsby("dial", "--n-topics", 1, "--seeds", 1, "--max-tokens", 9, "--model", model, "--plot", "dial.svg")
    assert told.exit_code == 1
    line = one_line(told.stderr.removeprefix(UNKNOWN_CORPUS))
    assert "matplotlib" in line and "pip install" in line
    assert "95% interval" in told.stdout, "the figures are not lost with the plot"


def test_terminal_that_is_not_utf_8_shows_a_question_mark(place):
    folder = save_model(place / "accents", ALPHABET + "\u00e9\u2603")
    env = {"PYTHONIOENCODING": "ascii"}
    done = real(place, "tell", TOPIC, "--model", folder, "--seed", 1, "--temp", 9, "--max-tokens", 300, env=env)
    assert done.returncode == 0, done.stderr
    assert "?" in done.stdout


def test_slow_blas_is_said_once_with_its_cure(model, monkeypatch):
    from gatsby_mlx.device import Blas

    slow = Blas("reference", note="no fast BLAS was found", cure="apt-get install libopenblas0-pthread")
    monkeypatch.setattr("gatsby_mlx.device.prepare", lambda: slow)
    told = gatsby("tell", TOPIC, "--model", model, "--seed", 1, "--max-tokens", 9)
    assert told.stderr.count("slow: ") == 1
    assert "libopenblas0-pthread" in told.stderr
    assert "slow" not in told.stdout
