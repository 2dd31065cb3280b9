"""What bad input gets: one line with what, why and a hint, the right exit code, and nothing written."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import platforms
import pytest
from cli_tools import gatsby, one_line, real, save_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatsby_mlx.corpus.load import load
from gatsby_mlx.story.prime import ALPHABET

TOPIC = "a dog and a balloon"
HINT = re.compile(
    r"gatsby [a-z]+|(?<![\w-])--[a-z]+|GATSBY_BLAS"  # a command, an option, a variable
    r"|mkdir -p|such as|one topic a line|[Cc]hoose|the manifest away|options it began with"  # or something to do
)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(code: int, *words: object, within: Path | None = None) -> str:
    """Run a command that must fail; return its line, having checked that nothing was written in the working folder."""
    before = tree(within or Path.cwd())
    done = gatsby(*words)
    assert isinstance(done.exception, SystemExit), done.exception
    line = one_line(done.stderr)
    assert done.exit_code == code, line
    assert done.stdout == ""
    assert HINT.search(line.removeprefix("gatsby: ")), line
    assert tree(within or Path.cwd()) == before
    return line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tell", TOPIC, "--green", "0"], "1 to 5"),
        (["tell", TOPIC, "--green", "6"], "1 to 5"),
        (["tell", TOPIC, "--green", "-1"], "1 to 5"),
        (["tell", TOPIC, "--green", "three"], "'three'"),
        (["tell", TOPIC, "--green", "2.5"], "'2.5'"),
        (["tell", ""], "empty"),
        (["tell", "   "], "empty"),
        (["tell", "a" * 81], "80"),
        (["tell", "ab"], "3 to 80"),
        (["tell", "a dog\nand a balloon"], "one line"),
        (["tell", "одна собака"], "Latin"),
        (["tell", "a dog 🐶"], "Latin"),
        (["tell", "a dog\x1b[2J"], "control line"),
        (["tell", "a dog \x07"], "U+0007"),
        (["tell", "[green=5]"], "control line"),
        (["tell", "a dog topic: a cat"], "control line"),
        (["tell", TOPIC, "--temp", "-1"], "temperature"),
        (["tell", TOPIC, "--temp", "nan"], "temperature"),
        (["tell", TOPIC, "--temp", "inf"], "temperature"),
        (["tell", TOPIC, "--temp", "warm"], "'warm'"),
        (["tell", TOPIC, "--top-p", "0"], "top-p"),
        (["tell", TOPIC, "--top-p", "nan"], "top-p"),
        (["tell", TOPIC, "--top-k", "-3"], "top-k"),
        (["tell", TOPIC, "--seed", "-1"], "-1"),
        (["tell", TOPIC, "--seed", str(2**70)], "range"),
        (["tell", TOPIC, "--max-tokens", "0"], "range"),
        (["tell"], "TOPIC"),
        (["tell", "a", "dog"], "dog"),
        (["tell", TOPIC, "--volume", "3"], "--volume"),
        (["dial", "--n-topics", "0"], "1 to 120"),
        (["dial", "--n-topics", "121"], "1 to 120"),
        (["dial", "--seeds", "0"], "range"),
        (["dial", "--batch", "0"], "range"),
        (["dial", "--seed", str(2**40)], "range"),
        (["dial", "--topics", "none.txt"], "none.txt"),
        (["dial", "--topics", "none.txt", "--n-topics", "3"], "--n-topics"),
        (["honour", "--n-topics", "121"], "1 to 120"),
        (["prose", "--stories", "none/told.jsonl", "--topics", "a.txt", "--n-topics", "3"], "--n-topics"),
        (["report", "--seeds", "0"], "range"),
        (["samples", "--topics", "none.txt"], "none.txt"),
        (["dial", "--plot", "dial.pdf"], ".svg or .png"),
        (["dial", "--plot", "none/dial.svg"], "none"),
        (["corpus", "show", "--plot", "dial"], ".svg or .png"),
        (["write", "--out", "c", "--n", "0"], "range"),
        (["write", "--out", "c", "--n", "7"], "multiple"),
        (["write", "--out", "c", "--n", str(10**12)], "range"),
        (["write", "--out", "c", "--seed", "-1"], "range"),
        (["write", "--out", "c", "--writer", "shakespeare"], "house"),
        (["write", "--n", "5"], "--out"),
        (["train", "--preset", "huge"], "pocket"),
        (["train", "--max-chars", "0"], "range"),
        (["train", "--dtype", "int8"], "bfloat16"),
        (["train", "--seed", str(2**60)], "range"),
        (["telll"], "telll"),
        (["corpus", "shwo"], "shwo"),
        (["--frobnicate"], "--frobnicate"),
    ],
    ids=lambda value: " ".join(value)[:40].encode("unicode_escape").decode() if isinstance(value, list) else None,
)
def test_usage_error_is_one_line_and_exit_2(workdir, words, message):
    assert message in refused(2, *words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lr", "nan"], "learning rate"),
        (["--lr", "-0.1"], "learning rate"),
        (["--lr", "0"], "learning rate"),
        (["--dropout", "1"], "dropout"),
        (["--dropout", "-1"], "dropout"),
        (["--dropout", "nan"], "dropout"),
    ],
)
def test_training_value_out_of_range_is_refused_before_anything_is_written(workdir, corpus, options, message):
    assert message in refused(2, "train", "--preset", "pocket", "--corpus", corpus, *options)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topic=st.text(max_size=90))
def test_any_topic_is_told_or_refused_in_one_line(model, topic):
    done = gatsby("tell", "--model", model, "--seed", 1, "--max-tokens", 1, "--", topic)
    if done.exit_code:
        assert done.exit_code == 2
        one_line(done.stderr)
    assert isinstance(done.exception, SystemExit | None)


def damaged(corpus: Path, how: str) -> bytes:
    whole = (corpus / "raw.txt").read_bytes()
    third = [m.start() for m in re.finditer(rb"(?m)^\[green", whole)][2]
    return {
        "empty": b"",
        "binary": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "nul": b"[green=1]\0",
        "plain": b"Once upon a time there was a dog.\n\nThe end.\n\n",
        "torn": whole[:third] + whole[third:].replace(b"obsession=", b"obsess", 1),
        "cut": whole[:-40],
    }[how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", "empty"),
        ("binary", "not text"),
        ("nul", "not text"),
        ("plain", "no control line"),
        ("torn", r"line \d+: torn document"),
        ("cut", r"line \d+: torn document"),
    ],
)
def test_corpus_that_cannot_be_read_is_refused(workdir, corpus, how, message):
    content = damaged(corpus, how)
    (workdir / "raw.txt").write_bytes(content)
    for words in (["corpus", "show", "raw.txt"], ["train", "--preset", "pocket", "--corpus", "raw.txt"]):
        line = refused(1, *words)
        assert re.search(message, line)
        if how == "torn":
            number = re.search(r"line (\d+)", line)
            assert number
            assert b"obsess" in content.split(b"\n")[int(number[1]) - 1]


def test_corpus_that_is_missing_or_at_odds_with_its_manifest_is_refused(workdir, corpus):
    assert "no corpus at" in refused(1, "corpus", "show", "nowhere")
    assert "no corpus at" in refused(1, "train", "--corpus", "nowhere")
    for name in ("raw.txt", "manifest.json"):
        shutil.copy(corpus / name, workdir / name)
    (workdir / "raw.txt").write_text((corpus / "raw.txt").read_text().replace("the", "teh", 1))
    assert "disagree" in refused(1, "corpus", "show", ".")
    (workdir / "manifest.json").write_text("{")
    assert "manifest" in refused(1, "corpus", "show", ".")


def test_corpus_too_small_to_split_is_refused(workdir, corpus):
    (workdir / "one.txt").write_text(load(corpus).documents[0].text)
    assert "too small to split" in refused(1, "train", "--preset", "pocket", "--corpus", "one.txt")


def copy(model: Path, workdir: Path) -> Path:
    return Path(shutil.copytree(model, workdir / "m"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_checkpoint_that_is_incomplete_or_truncated_is_refused(workdir, model, name):
    folder = copy(model, workdir)
    whole = (folder / name).read_bytes()
    for part in (0, 1, len(whole) // 2, len(whole) - 3):
        (folder / name).write_bytes(whole[:part])
        assert "m" in refused(1, "tell", TOPIC, "--model", "m")
    (folder / name).unlink()
    assert "no checkpoint" in (line := refused(1, "tell", TOPIC, "--model", "m")) or "missing" in line


def test_checkpoint_that_is_missing_or_of_another_version_is_refused(workdir, model):
    assert "no checkpoint at nowhere" in refused(1, "tell", TOPIC, "--model", "nowhere")
    assert "no checkpoint" in refused(1, "dial", "--model", "")
    folder = copy(model, workdir)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": "gatsby-mlx/checkpoint/99"}))
    assert "checkpoint/99" in refused(1, "tell", TOPIC, "--model", "m")
    shape = {**config["architecture"], "n_layer": 2}
    (folder / "config.json").write_text(json.dumps({**config, "architecture": shape}))
    assert "does not fit" in refused(1, "tell", TOPIC, "--model", "m")


def test_checkpoint_whose_vocabulary_does_not_fit_is_refused(workdir, model):
    folder = copy(model, workdir)
    save_model(workdir / "other", ALPHABET + "\t")
    (folder / "tokenizer.json").write_bytes((workdir / "other" / "tokenizer.json").read_bytes())
    assert "vocabulary has 97 characters and the model 96" in refused(1, "tell", TOPIC, "--model", "m")
    save_model(workdir / "few", "\n []=:abcdeghinorstv12345")
    line = refused(2, "tell", "a quick fox", "--model", "few")
    assert "'f'" in line


def test_no_model_at_all_is_reported_with_the_way_to_one(workdir):
    line = refused(1, "tell", TOPIC)
    assert "gatsby demo" in line
    save_model(workdir / "runs" / "stopped" / "last")
    assert refused(1, "tell", TOPIC) == line
    assert refused(1, "dial") == line


@pytest.mark.parametrize("words", [["write", "--n", 5], ["train", "--preset", "pocket"]], ids=["write", "train"])
def test_output_folder_with_something_else_in_it_is_left_alone(workdir, corpus, words):
    more = ["--corpus", corpus] if words[0] == "train" else []
    (workdir / "full").mkdir()
    (workdir / "full" / "a").write_text("mine")
    assert "full" in refused(1, *words, *more, "--out", "full")
    (workdir / "file").write_text("mine")
    assert "file" in refused(1, *words, *more, "--out", "file")
    below = gatsby(*words, *more, "--out", "file/below")
    assert below.exit_code == 1
    assert "a file is in the way" in below.stderr.splitlines()[-1]
    assert (workdir / "file").read_text() == "mine"


def test_another_corpus_in_the_output_folder_is_left_alone(workdir, corpus):
    shutil.copytree(corpus, workdir / "c")
    assert "another corpus" in refused(1, "write", "--n", 50, "--seed", 1, "--out", "c")


def test_resume_without_a_run_or_with_other_options_is_refused(workdir, corpus):
    words = ["train", "--preset", "pocket", "--corpus", corpus, "--out", "run"]
    assert "no run to resume" in refused(1, *words, "--resume")
    assert gatsby(*words, "--max-chars", 5000).exit_code == 0
    line = refused(1, *words, "--resume", "--max-chars", 4000, "--lr", 0.5)
    assert "another max_chars, lr: --max-chars is 5000, not 4000; --lr is 0.0015, not 0.5" in line
    assert "gatsby train --resume run" in line
    (workdir / "other.txt").write_text((corpus / "raw.txt").read_text().replace("the", "teh", 1))
    assert "another corpus" in refused(1, "train", "--resume", "run", "--corpus", "other.txt")
    assert "--resume and --out both name a folder" in refused(2, "train", "--resume", "run", "--out", "b")
    (workdir / "run" / "last" / "state.json").write_text("{}")
    assert "damaged" in refused(1, *words, "--max-chars", 5000, "--resume")
    assert "no run to resume" in refused(1, "train", "--resume", "nowhere")


def test_run_whose_corpus_is_gone_says_how_to_name_it(workdir, corpus):
    shutil.copytree(corpus, workdir / "sub" / "c")
    assert gatsby("train", "--preset", "pocket", "-o", "run", "--corpus", "sub/c", "--max-chars", 5000).exit_code == 0
    shutil.rmtree(workdir / "sub")
    line = refused(1, "train", "--resume", "run")
    assert "sub/c/raw.txt" in line
    assert "gatsby train --resume run --corpus DIR" in line
    assert gatsby("train", "--resume", "run", "--corpus", corpus).exit_code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a dog\n\xff\xfe\n", "not UTF-8"),
        (b"\n# nothing\n", "no topic"),
        (b"a dog\n[green=5]\n", "line 2"),
        ("a dog\nкот\n".encode(), "line 2"),
    ],
)
def test_topics_file_that_cannot_be_used_is_refused(workdir, content, message):
    (workdir / "topics.txt").write_bytes(content)
    assert message in refused(2, "dial", "--topics", "topics.txt")
    assert message in refused(2, "write", "--topics", "topics.txt", "--out", "c")


def test_stories_that_cannot_be_used_are_refused(workdir, model, corpus):
    (workdir / "notes.txt").write_text("dear diary\n")
    assert "notes.txt" in refused(2, "honour", "--stories", "notes.txt")
    words = ["--stories", "told.jsonl", "--model", model, "--n-topics", 1, "--max-tokens", 20]
    assert gatsby("dial", *words).exit_code == 0
    assert "another seeds" in refused(1, "dial", *words, "--seeds", 3)
    assert "no corpus at" in refused(1, "honour", *words, "--corpus", "nowhere")
    assert "no config.json" in refused(1, "prose", *words, "--judge", "nowhere")
    assert "no folder nowhere" in refused(2, "dial", *words[2:], "--stories", "nowhere/told.jsonl")


def test_more_stories_than_topics_is_refused_with_the_number_that_fits(workdir):
    (workdir / "topics.txt").write_text("a dog\na cat\n")
    assert "--n 10" in refused(2, "write", "--topics", "topics.txt", "--n", 15, "--out", "c")


def test_folder_that_cannot_be_written_is_one_line(workdir, corpus, model):
    closed = Path("/proc")  # where even root creates no file
    if os.geteuid() != 0:
        closed = workdir / "closed"
        closed.mkdir(mode=0o500)
    elif not closed.is_dir():
        pytest.skip(platforms.ROOT)
    for words in (
        ["write", "--n", 5, "--out", closed / "c"],
        ["train", "--preset", "pocket", "--corpus", corpus, "--out", closed / "run"],
    ):
        done = gatsby(*words)
        assert done.exit_code == 1, done.output
        assert "cannot write" in done.stderr.splitlines()[-1]
        assert isinstance(done.exception, SystemExit)
    done = gatsby("corpus", "show", corpus, "--plot", closed / "dial.svg")
    assert done.exit_code == 1
    assert "cannot write" in one_line(done.stderr)
    assert "50 stories" in done.stdout, "the figures are not lost with the plot"


@platforms.linux_blas
def test_blas_that_does_not_exist_is_one_line(workdir, model):
    env = {"GATSBY_BLAS": "/nonexistent"}
    for words in (["tell", TOPIC, "--model", model], ["doctor"]):
        done = real(workdir, *words, env=env)
        assert done.returncode == 2
        assert "GATSBY_BLAS" in one_line(done.stderr)
        assert done.stdout == ""


def test_training_without_a_compiler_warns_and_continues(workdir, corpus, monkeypatch):
    monkeypatch.setattr("gatsby_mlx.device.compiler.shutil.which", lambda name: None)
    monkeypatch.setattr("gatsby_mlx.device.compiler.sys.platform", "linux")
    done = gatsby("train", "--preset", "pocket", "--corpus", corpus, "--max-chars", 5000)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "g++" in line]
    assert "uncompiled" in line
    assert "apt-get install g++" in line


def test_without_a_compiler_doctor_advises_one(workdir):
    done = real(workdir, "doctor", env={"PATH": str(workdir)})
    assert done.returncode == 0
    assert ("apt-get install g++" in done.stdout) is (sys.platform == "linux")  # Metal's is part of macOS
    assert done.stderr == ""
