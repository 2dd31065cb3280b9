"""The load benchmark runs against a real process, and its figures are those of what it saw."""

import json

import pytest
from exhibit_tools import TOKENIZER, babbler

from gatsby_mlx.exhibit import crowd
from gatsby_mlx.model import checkpoint


@pytest.mark.slow
def test_crowd_measures_a_real_process(tmp_path, monkeypatch):
    model = babbler(n_layer=1, n_embd=16).model
    checkpoint.save(tmp_path / "m", model, TOKENIZER, {"preset": "babble"})
    monkeypatch.setattr(crowd, "GONE", 2)
    said = []
    crowd.run(["--model", str(tmp_path / "m"), "--seconds", "20", "--json"], said.append)
    found = json.loads(said[0])
    for which in ("alone", "sixteen", "five_at_once"):
        assert found[which]["stories"] >= 1
        assert 0 < found[which]["first_s"] <= found[which]["first_s_worst"]
        assert 0 < found[which]["chars_per_s_worst"] <= found[which]["chars_per_s"]
    assert 0 < found["freed_s"] <= found["freed_s_worst"]
    assert crowd.table(found).count("\n| ") == 3  # rows, besides the head


def test_crowd_without_a_model_says_what_serve_says(tmp_path, capfd):
    said = []
    crowd.run(["--model", str(tmp_path / "none")], said.append)
    assert not said
    assert "There is no checkpoint" in capfd.readouterr().err
