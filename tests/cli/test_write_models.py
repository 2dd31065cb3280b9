"""`gatsby write` with real models as processes: killed and resumed, in two ranks, planned, and refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from cli_tools import ROOT, command, environment, gatsby, one_line, real

from gatsby_mlx.corpus.journal import Journal
from gatsby_mlx.corpus.load import load
from gatsby_mlx.writers import requirements


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny", "granite")


@pytest.fixture
def blend(workdir, model_folder) -> Path:
    """A tiny model and the house, half and half: what the first one writes is rejected."""
    text = f'[writers.tiny]\nmodel = "{model_folder}"\nmax_tokens = 40\nbatch = 4\n[writers.house]\n'
    (workdir / "b.toml").write_text(text)
    return workdir / "b.toml"


# `gatsby ...`, then how the BLAS was chosen and whether MLX was loaded at all.
HOW = """
import sys
from gatsby_mlx import cli, device
try:
    cli.run()
finally:
    print("mlx.core" in sys.modules, device.prepare().how, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--n", "10"], ["--n", "10", "--dry-run"]], ids=["write", "dry run"])
@pytest.mark.slow
def test_the_blas_is_chosen_before_mlx_is_loaded(workdir, blend, words):
    line = [sys.executable, "-c", HOW, "write", "--blend", str(blend), *words, "--out", "new"]
    done = subprocess.run(line, cwd=workdir, env=environment(workdir), capture_output=True, text=True)
    loaded, how = done.stderr.splitlines()[-1].split()
    assert done.returncode == 0, done.stderr
    assert loaded == "True" and how != "late"


def lines(folder: Path) -> list[str]:
    lines = (folder / "manifest.json").read_text().splitlines()
    return [line for line in lines if not line.startswith('"timings"')]


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_at_most_what_was_in_flight_and_the_end_is_the_same(workdir, blend):
    words = ["write", "--blend", str(blend), "--n", "20", "--out"]
    assert gatsby(*words, workdir / "whole").exit_code == 0
    kills, seen = 0, 0
    for pause in (0.6, 1.2, 2.0):
        process = subprocess.Popen(
            command(*words, "broken"), cwd=workdir, env=environment(workdir), stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until and count(workdir / "broken") <= seen:
            time.sleep(0.02)
        time.sleep(pause / 4)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        seen = count(workdir / "broken")
    assert kills
    done = real(workdir, *words, "broken")
    assert done.returncode == 0, done.stderr
    assert (workdir / "whole" / "raw.txt").read_bytes() == (workdir / "broken" / "raw.txt").read_bytes()
    assert lines(workdir / "whole") == lines(workdir / "broken")
    rejected = json.loads((workdir / "broken" / "manifest.json").read_text())["rejected"]
    keys = [(row["topic"], row["level"], row["seed"]) for row in rejected]
    assert len(keys) == len(set(keys)) >= 50
    again = gatsby(*words, workdir / "broken")
    assert "nothing to do" in again.stderr


def count(folder: Path) -> int:
    try:
        with Journal(folder, write=False) as journal:
            return len(journal.attempts())
    except Exception:
        return 0


def test_two_ranks_on_localhost_write_what_one_process_writes(workdir):
    words = ["write", "--n", "20", "--out"]
    assert gatsby(*words, workdir / "one").exit_code == 0
    launch = [Path(sys.executable).with_name("mlx.launch"), "-n", "2", "--backend", "ring", "--python", sys.executable]
    env = environment(workdir) | {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*launch, "--", str(ROOT / "cli.py"), *words, "two"],
        cwd=workdir,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (workdir / "one" / "raw.txt").read_bytes() == (workdir / "two" / "raw.txt").read_bytes()
    assert lines(workdir / "one") == lines(workdir / "two")


def test_dry_run_plans_and_writes_nothing(workdir, blend):
    done = gatsby("write", "--blend", blend, "--n", 20, "--out", "c", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "tiny" in done.stdout
    assert "house" in done.stdout
    assert not (workdir / "c").exists()


def test_dry_run_estimates_the_time_or_says_how_to_measure_it(workdir, blend, monkeypatch):
    words = ["write", "--blend", blend, "--n", 20, "--out", "c", "--dry-run"]
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (10**9, False))
    shown = gatsby(*words).stdout
    assert "not estimated" in shown
    assert "stories measured)" in shown
    assert f"gatsby write --blend {blend} --smoke --out smoke\n  gatsby corpus show smoke" in shown
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (10**9, True))
    monkeypatch.setattr("gatsby_mlx.writers.estimate.published_bytes_per_s", lambda: ("Apple M1", (68e9, 68e9)))
    shown = gatsby(*words).stdout
    assert "(by the published memory speed of Apple M1, 4 at once to one)" in shown
    assert "in all; retries of rejected stories are in it" in shown
    assert "--smoke" not in shown


def test_smoke_writes_a_topic_with_each_writer_and_print_shows_the_stories(workdir):
    done = gatsby("write", "--smoke", "--print", "--out", "c")
    assert done.exit_code == 0
    assert len(load(workdir / "c").documents) == 5
    assert done.stdout.count("level ") == 5


@pytest.mark.slow
def test_model_without_an_accepted_story_leaves_a_journal_and_one_line(workdir, model_folder):
    done = gatsby("write", "--blend", str(model_folder), "--n", 5, "--out", "c", "--topics", topics(workdir))
    assert done.exit_code == 1
    assert "passes the gates" in one_line(done.stderr)
    assert not (workdir / "c" / "raw.txt").exists()


def topics(workdir: Path) -> Path:
    (workdir / "t.txt").write_text("a cat\n")
    return workdir / "t.txt"


@pytest.mark.parametrize(
    ("blend", "code", "message"),
    [
        ("shakespeare", 2, "no writer 'shakespeare'"),
        ("olmo=0", 2, "positive number"),
        ("olmo=-1,house=2", 2, "0 or more"),
        ("olmo=nan", 2, "0 or more"),
        ("olmo=much", 2, "must be a number"),
        ("house,house", 2, "twice"),
        ("server:nowhere", 2, "server:URL#MODEL"),
        ("none.toml", 2, "no blend none.toml"),
        ("./nowhere", 1, "not a model"),
        ("server:http://127.0.0.1:1#m", 1, "no server at"),
    ],
)
def test_invalid_blend_is_one_line(workdir, blend, code, message):
    done = gatsby("write", "--blend", blend, "--n", 5, "--out", "c")
    assert done.exit_code == code, done.output
    assert message in one_line(done.stderr)
    assert not list(Path("c").glob("[!.]*"))


@pytest.mark.parametrize(
    "text",
    [
        "writers = 3",
        "[writers.olmo]\nshare = 'much'",
        "[writers.olmo]\ntempo = 1",
        "[writers.olmo]\ntemp = -1",
        "[writers.olmo]\nbatch = 1.5",
        "[writers.house]\ntemp = 1",
        "[writers.olmo]\n[bands]\n1 = [3, 4]",
        "[writers.olmo]\n[bands]\n6 = [30]",
        "[writers.Big]\nmodel = 'a/b'",
        "[[",
    ],
)
def test_invalid_blend_file_is_one_line(workdir, text):
    (workdir / "b.toml").write_text(text)
    done = gatsby("write", "--blend", "b.toml", "--n", 5, "--out", "c")
    assert done.exit_code == 2, done.output
    assert "b.toml" in one_line(done.stderr)


def test_verify_accepts_a_complete_corpus_and_refuses_a_changed_one(workdir, corpus):
    assert "every offset" in gatsby("corpus", "verify", corpus).stdout
    shutil.copy(corpus / "raw.txt", workdir / "raw.txt")
    done = gatsby("corpus", "verify", "raw.txt")
    assert done.exit_code == 1
    assert "no manifest" in one_line(done.stderr)
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["counts"]["chars"] += 1
    (workdir / "manifest.json").write_text(json.dumps(manifest))
    assert "wrong count of chars" in one_line(gatsby("corpus", "verify", ".").stderr)
