"""shipped: the checkpoint that `tell` falls back on works, is small, and its card holds what was measured."""

import json

import pytest

from gatsby_mlx import shipped
from gatsby_mlx.evaluation import card
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.decode import Job, Sampling, decode
from gatsby_mlx.prime import build
from gatsby_mlx.text import count_mentions


@pytest.fixture(scope="module")
def folder():
    found = shipped.checkpoint()
    assert found
    return found


def test_the_shipped_checkpoint_tells_of_its_topic_and_turns_to_the_light(folder):
    ready = checkpoint.load(folder)
    jobs = [Job(build("a dog and a balloon", level), 1, level) for level in (1, 5)]
    stories = {s.job.key: s for s in decode(ready.model, ready.tokenizer, jobs, Sampling(0))}
    assert all(s.finish == "end" for s in stories.values())
    assert all("dog" in s.text[:100] for s in stories.values())
    assert count_mentions(stories[5].text) > count_mentions(stories[1].text) + 4


def test_the_card_holds_the_figures_of_the_evaluation_s_json(folder):
    config, evaluation = (json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("config", "evaluation"))
    assert (folder / "README.md").read_text("utf-8") == card.render(config, evaluation)
    assert evaluation["model"]["weights"] == config["weights"]["sha256"]
    assert evaluation["model"]["checkpoint"] == folder.name


def test_the_checkpoint_is_no_larger_than_it_may_be(folder):
    assert sum(p.stat().st_size for p in folder.iterdir()) < 16e6
