"""shipped: the default checkpoint of `tell` works and is small, and its card has the measured figures."""

import json
from pathlib import Path

import pytest

from gatsby_mlx import api, shipped
from gatsby_mlx.evaluation import card
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.decode import decode
from gatsby_mlx.story.prime import build
from gatsby_mlx.story.sampling import Job, Sampling
from gatsby_mlx.writers.specs import parse_spec


@pytest.fixture(scope="module")
def folder() -> Path:
    path = shipped.checkpoint()
    assert path
    return path


def test_shipped_checkpoint_names_its_topic_and_mentions_the_obsession_by_level(folder):
    ready = checkpoint.load(folder)
    jobs = [Job(build("a dog and a balloon", level, obsession=ready.obsession), 1, level) for level in (1, 5)]
    stories = {s.job.key: s for s in decode(ready.model, ready.tokenizer, jobs, Sampling(0))}
    assert all(s.finish == "end" for s in stories.values())
    assert all("dog" in s.text[:100] for s in stories.values())
    assert ready.obsession.count(stories[5].text) > ready.obsession.count(stories[1].text) + 4


def test_card_has_the_figures_of_the_evaluation(folder):
    config, evaluation = (json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("config", "evaluation"))
    assert (folder / "README.md").read_text("utf-8") == card.render(config, evaluation)
    assert evaluation["model"]["weights"] == config["weights"]["sha256"]
    assert evaluation["model"]["checkpoint"] == folder.name


def test_shipped_checkpoint_is_small(folder):
    assert sum(p.stat().st_size for p in folder.iterdir()) < 16e6


def test_what_it_learned_from_can_be_written_again_while_the_writer_is_that_version():
    known = api.load(shipped.checkpoint()).info["corpus"]
    (name, about), *more = known["written"]["writers"].items()
    assert not more
    again = api.plan_corpus_again(known)
    assert (again is None) is (about != api.make_writer(parse_spec(name)).about)


@pytest.mark.slow
def test_what_it_learned_from_is_written_again_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known = api.load(shipped.checkpoint()).info["corpus"]
    if again := api.plan_corpus_again(known):
        for _ in again:
            pass
        found = api.find_corpus(known["sha256"])
        assert found is not None
        assert len(found.documents) == known["documents"]
