"""Short options, suggestions, completion, quiet and verbose, counts, durations, and output folders in the way."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from cli_tools import ROOT, command, document, environment, gatsby, one_line, save_model
from click.shell_completion import get_completion_class
from click.testing import CliRunner

from gatsby_mlx import cli, shipped
from gatsby_mlx.cli import console
from gatsby_mlx.cli.tell import Lines
from gatsby_mlx.corpus.load import load
from gatsby_mlx.story.english import counted

TOPIC = "a dog and a balloon"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["tel"], "tell"),
        (["honr"], "honor"),
        (["honours"], "honor"),
        (["checkpoints"], "checkpoint"),
        (["Train"], "train"),
        (["corpus", "shwo"], "show"),
        (["checkpoint", "ls"], None),
        (["xyzzy"], None),
    ],
    ids=str,
)
def test_unknown_command_names_what_was_meant(words, meant):
    done = gatsby(*words)
    assert done.exit_code == 2
    line = one_line(done.stderr)
    assert f"There is no command {words[-1]!r}" in line
    assert (f"Did you mean {meant}?" in line) is bool(meant)
    assert "--help" in line


def test_unquoted_topic_gets_the_command_with_quotes(workdir):
    line = one_line(gatsby("tell", "a", "lost", "kitten", "--level", 4).stderr)
    assert line == ("gatsby: A topic of several words is in quotes. Try: gatsby tell 'a lost kitten' --level 4")


def test_topic_comes_from_stdin(model):
    options = ["-m", str(model), "--seed", "3", "--max-tokens", "30"]
    piped = CliRunner().invoke(cli.main, ["tell", "-", *options], input="  A Dog and a  balloon\n")
    assert piped.exit_code == 0, piped.output
    assert piped.stdout == gatsby("tell", TOPIC, *options).stdout
    for bad, message in ((b"", "empty"), (b"a\nb\n", "one line"), (b"\xff\xfe a dog", "Latin")):
        done = CliRunner().invoke(cli.main, ["tell", "-", *options], input=bad)
        assert done.exit_code == 2
        assert message in one_line(done.stderr)


def test_quiet_leaves_errors_and_verbose_adds_what_was_used(model):
    told = ("tell", TOPIC, "-m", model, "--max-tokens", 20)
    assert gatsby(*told).stderr
    for words in (("-q", *told), (*told, "-q"), (*told, "--quiet")):
        done = gatsby(*words)
        assert done.exit_code == 0
        assert done.stderr == ""
        assert done.stdout
    assert "no checkpoint at nowhere" in one_line(gatsby("tell", TOPIC, "-m", "nowhere", "-q").stderr)
    last = gatsby(*told, "-v").stderr.splitlines()[-1]
    assert re.match(r"took .*, peak memory [\d.]+ [MG]B, MLX \d.* on \w+, BLAS: ", last)
    assert gatsby("-V").stdout == gatsby("--version").stdout
    assert gatsby("tell", "-m", model, "--max-tokens", 9, "--", "-q").exit_code == 2, "after -- it is a topic"


def test_a_question_that_nobody_would_see_is_refused(workdir, monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  as --quiet has it
        monkeypatch.setattr("sys.stderr", nowhere)
        with pytest.raises(console.UsageError, match="needs a yes"):
            console.confirm("Remove it?", yes=False)


# Completion: click's own scripts, as docs/commands.md says to set them up.


def completed(words: str, incomplete: str, shell: str = "zsh") -> list[str]:
    found = get_completion_class(shell)
    assert found
    completion = found(cli.main, {}, "gatsby", "_GATSBY_COMPLETE")
    return [item.value for item in completion.get_completions(words.split(), incomplete)]


def test_completion_knows_commands_options_and_values(workdir):
    save_model(workdir / "runs" / "mine" / "last")
    assert completed("", "te") == ["tell"]
    assert completed("corpus", "sh") == ["show"]
    assert "--level" in completed("tell x", "--le")
    assert completed("train --preset", "po") == ["pocket"]
    assert completed("tell x --model", "ru") == ["runs/mine"]
    assert completed("tell x -m", "sm") == ["small"]


SHELLS = {
    "bash": 'eval "$(_GATSBY_COMPLETE=bash_source gatsby)"; COMP_WORDS=(gatsby te); COMP_CWORD=1; '
    '_gatsby_completion gatsby; echo "${COMPREPLY[@]}"',
    "zsh": 'compdef() { :; }; eval "$(_GATSBY_COMPLETE=zsh_source gatsby)"; '
    "words=(gatsby te); CURRENT=2; _describe() { print -r -- ${completions_with_descriptions[@]}; }; "
    "compadd() { :; }; _gatsby_completion",
    "fish": "_GATSBY_COMPLETE=fish_source gatsby | source; complete -C 'gatsby te'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_works_in_the_shell_itself(shell, tmp_path):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "gatsby").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "cli.py"}" "$@"\n')
    (tmp_path / "gatsby").chmod(0o755)
    env = environment(tmp_path)
    env["PATH"] = f"{tmp_path}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        [path, "-c", SHELLS[shell]], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert "tell" in done.stdout, done.stderr


# How things are said.


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (599.7, "10 min"),
        (3599, "1 h"),
        (4800, "1 h 20 min"),
    ],
)
def test_durations_are_said_in_hours_minutes_and_seconds(seconds, said):
    assert console.clock(seconds) == said


def test_counts_have_the_right_plural(workdir, corpus):
    assert [counted(n, "story") for n in (0, 1, 2, 1234)] == ["0 stories", "1 story", "2 stories", "1,234 stories"]
    (workdir / "one.txt").write_text(load(corpus).documents[0].text)
    assert ": 1 story, " in gatsby("corpus", "show", "one.txt").stdout
    refused = one_line(gatsby("train", "--preset", "pocket", "--corpus", "one.txt").stderr)
    assert "A corpus of 1 story on 1 topic is too small to split" in refused


def test_help_of_a_group_has_whole_sentences():
    for group in ("corpus", "checkpoint", "bench"):
        assert "..." not in gatsby(group, "--help").stdout.split("Commands:")[1]


def test_progress_off_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    status = console.Status()
    for second in range(1, 3601):
        now[0] = second
        status(f"at {second}")
    said = [int(line.removeprefix("at ")) for line in capsys.readouterr().err.splitlines()]
    assert said == [60, 180, 420, 900, 1500, 2100, 2700, 3300]


def test_wrapped_lines_are_those_of_the_whole_text_however_it_comes():
    text = "One two  three\nfour-and-twenty\n\n" + "x" * 25 + " end."
    for size in (1, 3, 1000):
        lines = Lines(10)
        seen: list[str] = []
        for i in range(0, len(text), size):
            lines.add(text[i : i + size])
            assert lines.lines[: len(seen)] == seen, "a line that was shown never changes"
            seen = list(lines.lines)
        lines.close()
        assert lines.lines == ["One two", "three", "four-and-t", "wenty", "", "xxxxxxxxxx", "xxxxxxxxxx", "xxxxx end."]


# Documents, and folders in the way.


def test_verify_prints_one_document(corpus, model):
    sound = document(gatsby("corpus", "verify", corpus, "--json"))
    assert (sound["stories"], sound["sound"]) == (50, True)
    sound = document(gatsby("checkpoint", "verify", model, "--json"))
    assert sound["sound"] and len(sound["checked"]) >= 3


def test_train_and_write_print_one_document(workdir):
    written = document(gatsby("write", "--n", 50, "-o", "c", "--json"))
    assert written["counts"]["stories"] == 50
    assert document(gatsby("write", "--n", 50, "-o", "c", "--json"))["counts"] == written["counts"]
    done = gatsby("train", "--preset", "pocket", "--corpus", "c", "--max-chars", 6_000, "-o", "run", "--json")
    assert document(done)["characters"] >= 6_000
    assert document(done)["best_step"] > 0


def test_samples_print_one_document(model):
    shown = document(gatsby("samples", "-m", model, "--n-topics", 1, "--max-tokens", 20, "--json"))
    assert [story["level"] for story in shown["stories"]] == [1, 2, 3, 4, 5]


def test_force_replaces_what_gatsby_wrote_and_nothing_else(workdir, corpus, model):
    words = ("train", "--preset", "pocket", "--corpus", corpus, "--max-chars", 3_000, "-o", "run")
    assert gatsby(*words).exit_code == 0
    first = json.loads((workdir / "run" / "last" / "state.json").read_text())
    assert "gatsby train --resume run" in gatsby(*words).stderr
    done = gatsby(*words, "--seed", 9, "--force")
    assert done.exit_code == 0, done.stderr
    assert json.loads((workdir / "run" / "last" / "state.json").read_text())["run"]["seed"] == 9 != first["run"]["seed"]
    (workdir / "run" / "notes.md").write_text("mine")
    kept = gatsby(*words, "--force")
    assert kept.exit_code == 2
    assert "notes.md, which gatsby did not write" in kept.stderr
    assert (workdir / "run" / "last").is_dir()

    assert gatsby("write", "--n", 5, "-o", "c").exit_code == 0
    assert "another corpus" in gatsby("write", "--n", 10, "-o", "c").stderr
    assert gatsby("write", "--n", 10, "-o", "c", "--force").exit_code == 0
    assert len(load("c").documents) == 10
    assert "notes.md" in gatsby("export", model, "--to", "native", "-o", "run", "--force").stderr
    assert gatsby("export", model, "--to", "native", "-o", "out").exit_code == 0
    assert "--force" in gatsby("export", model, "--to", "native", "-o", "out").stderr
    again = gatsby("export", model, "--to", "native", "-o", "out", "--force", "--json")
    assert document(again) == {"path": "out", "format": "native", "dtype": "float32", "notes": []}
    os.symlink("c", "link")
    for path in ("link", ".", shipped.corpus()):
        assert gatsby("write", "--n", 10, "-o", path, "--force").exit_code == 2
    assert len(load("c").documents) == 10


def test_serve_opens_the_page(model, tmp_path):
    """The browser is the program that BROWSER names: one that writes the address into a file."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    env = environment(tmp_path, BROWSER=str(browser))
    running = subprocess.Popen(
        command("serve", "--port", 0, "-m", model, "--open"), cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout
        address = running.stdout.readline().strip()
        for _ in range(200):
            if (tmp_path / "opened").exists() and (tmp_path / "opened").read_text():
                break
            time.sleep(0.05)
        assert (tmp_path / "opened").read_text().strip() == address
    finally:
        running.kill()
        running.communicate()


# A run that is stopped by a signal, then resumed from its folder, then extended.


def test_run_is_resumed_and_extended_from_its_folder(workdir, corpus):
    assert gatsby("train", "--preset", "pocket", "--corpus", corpus, "--max-chars", 6_000, "--lr", 0.002).exit_code == 0
    state = workdir / "runs" / "pocket" / "last" / "state.json"
    done = gatsby("train", "--resume", "runs/pocket")
    assert done.exit_code == 0, done.output
    assert "it is finished. To extend it, add --max-chars 12000" in done.stderr
    done = gatsby("train", "--resume=runs/pocket", "--max-chars", 12_000)
    assert done.exit_code == 0, done.output
    assert re.search(r"resumed at step \d+, \d+,\d+ of 12,000 characters; the learning rate goes from", done.stderr)
    content = json.loads(state.read_text())
    assert content["progress"]["chars"] >= 12_000
    assert (content["run"]["max_chars"], content["run"]["lr"]) == (12_000, 0.002)
    assert gatsby("train", "--preset", "pocket", "--resume").exit_code == 0, "as ever, in runs/PRESET"
    assert gatsby("train", "--preset", "story", "--resume", "runs/pocket").exit_code == 1


def test_ranks_resume_with_the_same_number_of_processes(workdir, corpus):
    from gatsby_mlx import api
    from gatsby_mlx.cli.train import resume_command

    run = api.plan_training(corpus, "pocket", workdir / "my run", max_chars=5_000)
    assert resume_command(run).endswith("my run'")
    run.ranks.size = 2
    assert resume_command(run).startswith("mlx.launch -n 2 gatsby train --resume ")


def test_time_of_many_stories_is_measured_before_they_are_told(model, monkeypatch):
    few = ("dial", "-m", model, "--n-topics", 1, "--seeds", 1, "--max-tokens", 20)
    assert "as measured now" not in gatsby(*few).stderr
    monkeypatch.setattr("gatsby_mlx.cli.story_options.MANY", 5)
    assert re.search(r"5 stories: about \d+ s here, as measured now", gatsby(*few).stderr)
