"""gatsby bench: what a person sees of a document, and mistakes in one line."""

import json

import pytest
from cli_tools import gatsby, one_line

from gatsby_mlx.bench import document, suites
from gatsby_mlx.bench.work import Settings


@pytest.fixture
def saved(tmp_path):
    halves = {"mlx": {"device": "cpu", "versions": {"mlx": "0.32.4"}}}
    results = [suites.result("start", "gatsby --help", "s", {"mlx": [0.1, 0.2]}, higher=False)]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(document.build(results, halves, Settings(), "gatsby bench decode")))
    return path


def test_show_compares_documents(saved):
    shown = gatsby("bench", "show", saved, saved)
    assert shown.exit_code == 0
    assert shown.stdout.count("gatsby --help") == 2 and "0.15" in shown.stdout


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("bench", "fly"), 2, "No such command 'fly'"),
        (("bench", "train", "--batch", "0"), 2, "whole number"),
        (("bench", "train", "--dropout", "x"), 2, "--dropout is a number"),
        (("bench", "train", "--plot", "x.gif"), 2, ".svg or .png"),
        (("bench", "train", "--out", "nowhere/x.json"), 2, "no folder nowhere"),
        (("bench", "train", "--device", "cuda", "--against", "none"), 2, "no cuda here"),
        (("bench", "train", "--batch", "1000000", "--against", "none"), 2, "are free. Try --batch"),
        (("bench", "show", "absent.json"), 1, "cannot be read"),
    ],
)
def test_a_mistake_is_one_line_with_its_cure(args, code, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gatsby(*args)
    assert result.exit_code == code
    assert told in one_line(result.stderr)


def test_bench_write_of_no_model_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gatsby("bench", "write", "nowhere")
    assert result.exit_code == 2 and "nowhere is no model in mlx-lm's form" in one_line(result.stderr)
