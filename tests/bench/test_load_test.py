"""load_test: it runs against a real process, and its figures are consistent."""

import pytest
from babbler import TOKENIZER, babbler

from gatsby_mlx.bench import load_test
from gatsby_mlx.cli.bench import render_load
from gatsby_mlx.errors import BenchError
from gatsby_mlx.model import checkpoint


@pytest.mark.slow
def test_load_of_a_real_process_is_measured(tmp_path, monkeypatch):
    model = babbler(n_layer=1, n_embd=16).model
    checkpoint.save(tmp_path / "m", model, TOKENIZER, {"preset": "babble"})
    monkeypatch.setattr(load_test, "N_DISCONNECTS", 2)
    with load_test.serving(tmp_path / "m") as url:
        result = load_test.measure(url, 20)
    for group in ("alone", "sixteen", "five_at_once"):
        assert result[group]["stories"] >= 1
        assert 0 < result[group]["first_s"] <= result[group]["first_s_worst"]
        assert 0 < result[group]["chars_per_s_worst"] <= result[group]["chars_per_s"]
    assert 0 < result["freed_s"] <= result["freed_s_worst"]
    table, sentence = render_load(result).split("\n\n")
    assert len(table.splitlines()) == 2 + 3  # the header, a line and the three groups
    assert "disconnects" in sentence


def test_one_visitor_and_a_disconnect_are_measured(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "m", babbler(n_layer=1, n_embd=16).model, TOKENIZER, {"preset": "babble"})
    monkeypatch.setattr(load_test, "N_DISCONNECTS", 1)
    figures = load_test.Figures()
    with load_test.serving(tmp_path / "m") as url:
        load_test.read_story(url, (1, 5), 0, figures)
        assert load_test.disconnect(url)[0] > 0
    assert len(figures.first_s) == 1 and figures.first_s[0] > 0
    assert len(figures.chars_per_s) == 2 and min(figures.chars_per_s) > 0


def test_summary_without_a_long_story_is_an_error():
    with pytest.raises(BenchError, match="long enough") as error:
        load_test.summary([load_test.Figures(first_s=[1.0])])
    assert "--seconds" in error.value.hint


def test_server_that_does_not_start_is_one_line_with_its_output(tmp_path):
    with pytest.raises(BenchError) as error, load_test.serving(tmp_path / "none"):
        pass
    assert error.value.line().startswith("gatsby serve did not start. There is no checkpoint at")
