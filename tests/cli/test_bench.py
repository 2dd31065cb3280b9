"""gatsby bench: what a person sees of a document, and mistakes in one line."""

import json
import sys

import pytest
from cli_tools import gatsby, one_line

from gatsby_mlx.bench import document, suites
from gatsby_mlx.bench.work import Settings

MISSING = "mps" if sys.platform == "linux" else "cuda"  # a device that this platform never has


@pytest.fixture
def saved(tmp_path):
    peers = {"mlx": {"device": "cpu", "versions": {"mlx": "0.32.4"}}}
    results = [suites.result("start", "gatsby --help", "s", {"mlx": [0.1, 0.2]}, higher=False)]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(document.build(results, peers, Settings(), "gatsby bench decode")))
    return path


def test_show_compares_documents(saved):
    shown = gatsby("bench", "show", saved, saved)
    assert shown.exit_code == 0
    assert shown.stdout.count("gatsby --help") == 2 and "0.15" in shown.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("bench", "fly"), 2, "There is no command 'fly'"),
        (("bench", "train", "--batch", "0"), 2, "whole number"),
        (("bench", "train", "--preset", "story,huge"), 2, "no preset 'huge'"),
        (("bench", "scale", "--batch", "3"), 2, "Try --batch 4"),
        (("bench", "scale", "--device", MISSING), 2, f"no {MISSING} here"),
        (("bench", "train", "--device", MISSING, "--against", "none"), 2, f"no {MISSING} here"),
        (("bench", "show", "other.json"), 2, "Measure again with"),
        (("bench", "train", "--dropout", "x"), 2, "--dropout is a number"),
        (("bench", "train", "--plot", "x.gif"), 2, ".svg or .png"),
        (("bench", "train", "--out", "nowhere/x.json"), 2, "no folder nowhere"),
        (("bench", "train", "--batch", "1000000", "--against", "none"), 2, "are free. Try --batch"),
        (("bench", "show", "absent.json"), 1, "cannot be read"),
        (("bench", "serve", "--model", "nowhere"), 1, "gatsby serve did not start. There is no checkpoint at nowhere"),
        (("bench", "serve", "--seconds", "0"), 2, "'--seconds': 0.0 is not in the range"),
    ],
)
def test_mistake_is_one_line_with_a_hint(args, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"schema": "gatsby-mlx/bench/9"}')
    result = gatsby(*args)
    assert result.exit_code == code
    assert message in one_line(result.stderr)


def test_bench_write_without_a_model_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gatsby("bench", "write", "nowhere")
    assert result.exit_code == 2 and "nowhere is not a model in mlx-lm's form" in one_line(result.stderr)


def test_several_presets_are_measured_into_one_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    monkeypatch.setattr(Settings.__init__, "__defaults__", (10, 0.01, "", "auto", False))
    options = ["--batch", "1", "--context", "16", "--dropout", "0", "--pairs", "1", "--against", "none"]
    result = gatsby("bench", "train", "--preset", "pocket,small", *options, "--json", "--plot", "sizes.svg")
    assert result.exit_code == 0, result.stderr
    assert [r["work"]["model"]["n_embd"] for r in json.loads(result.stdout)["results"]] == [128, 256]
    assert "MLX: slope" in (tmp_path / "sizes.svg").read_text()
