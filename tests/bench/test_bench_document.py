"""document: it has what a reader needs and nothing private, and is shown as a table and as plots."""

import json
import math
import os
import socket
from pathlib import Path

import pytest

from gatsby_mlx.bench import document, plots, suites, timing
from gatsby_mlx.cli.bench import render
from gatsby_mlx.errors import GatsbyError, UsageError


def test_document_survives_json_and_has_nothing_private(content, saved, monkeypatch):
    assert document.read(saved) == content
    text = json.dumps(content)
    for private in (socket.gethostname(), os.environ.get("USER", "\0"), str(Path.home()) + "/", str(Path.cwd())):
        assert private not in text
    assert content["machine"]["processors"] >= 1 and content["machine"]["chip"]


def test_variables_of_the_blas_are_recorded(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    variables = document.machine()["environment"]
    assert variables["OPENBLAS_CORETYPE"] == "Haswell" and "SECRET_TOKEN" not in variables


def test_table_shows_medians_ratio_and_share(content):
    shown = render(content)
    assert "1,550" in shown and "1.55 [1.5 to 1.6]" in shown and "15% / 10%" in shown and "0.80" in shown
    assert len({len(line) for line in shown.splitlines()[3:]}) == 1


def test_table_shows_a_comparison_with_another_result(content):
    beside = {"of": "1 process", **timing.ratio([3.0, 3.0], [2.0, 2.0])}
    content["results"] += [suites.result("scale", "2 processes", "characters/s", {"mlx": [3.0, 3.0]}, beside=beside)]
    assert "1.5 [1.5 to 1.5] of 1 process" in render(content).splitlines()[-1]


def test_table_without_pytorch_has_no_columns_for_it(content):
    for result in content["results"]:
        result.update(torch=None, ratio=None, peak_ratio=None)
    shown = render(content)
    assert "1,550" in shown and "PyTorch" not in shown.splitlines()[1]


def test_title_says_which_arithmetic_was_timed(content):
    assert "products" not in document.title(content)  # documents of earlier versions
    for bits, name in ((23, "float32"), (10, "TF32")):
        content["halves"]["mlx"] = {**content["halves"]["mlx"], "product_bits": bits}
        assert f"MLX's products in {name}" in document.title(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a JSON"), ("[1]", "schema None"), ('{"schema": "gatsby-mlx/bench/9"}', "bench/9'")],
)
def test_file_of_another_schema_is_refused(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        document.read(tmp_path / "x.json")
    assert "gatsby bench" in error.value.hint
    with pytest.raises(GatsbyError, match="cannot be read"):
        document.read(tmp_path / "absent.json")


def test_ratio_of_times_is_higher_for_the_lower_time():
    start = suites.result("start", "x", "s", {"mlx": [1.0, 1.0], "torch": [3.0, 3.0]}, higher=False)
    assert start["ratio"]["median"] == 3


def test_plots_are_drawn_for_growth_and_for_ratios(content, tmp_path):
    for suffix in ("svg", "png"):
        plots.draw([content], tmp_path / f"growth.{suffix}")
        plots.draw([content, content], tmp_path / f"ratios.{suffix}")
    growth, ratios = ((tmp_path / f"{name}.svg").read_text() for name in ("growth", "ratios"))
    assert "MLX: slope" in growth and "PyTorch: slope" in growth and "of the peak" in growth
    assert "MLX over PyTorch" in ratios
    assert plots.growing(content["results"]) == "context" and plots.growing(content["results"][:1]) == ""
    for result in content["results"]:
        result["ratio"] = None
    with pytest.raises(UsageError, match="no ratio"):
        plots.draw([content, content], tmp_path / "none.svg")


def test_growth_with_size_uses_results_that_differ_only_in_size(content, trained, tmp_path):
    small, large = ([speed] * 6 for speed in (2000.0, 500.0))
    results = [trained(512, small, None, n_embd=192), trained(512, large, None)]
    results += [trained(512, [9.0] * 6, None, n_embd=192, dropout=0.2)]  # another dropout, so not on this line
    assert plots.growing(results) == "size" and plots.growing(results[1:2]) == ""
    assert plots.growing([*results, trained(256, large, None)]) == "context"
    plots.draw([{**content, "results": results}], tmp_path / "size.svg")
    drawn = (tmp_path / "size.svg").read_text()
    exponent = math.log(4) / math.log(10.65 / 2.67)
    assert f"MLX: slope {exponent:+.2f}" in drawn
    assert "2.7 M" in drawn and "10.7 M" in drawn and "parameters" in drawn
