"""What a model learned from is found where it can be, so that no measure has to excuse itself."""

import json
import shutil
from pathlib import Path

import pytest
from cli_tools import document, gatsby

from gatsby_mlx import api, files, shipped
from gatsby_mlx.corpus import manifest
from gatsby_mlx.corpus.load import load

FEW = ("--n-topics", 1, "--seeds", 1, "--max-tokens", 20)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder for corpora that are written again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gatsby-mlx"


@pytest.fixture
def trained(workdir, cache) -> Path:
    """A run on a corpus of the house writer, which is two folders down, where nobody looks."""
    assert gatsby("write", "--writer", "house-small", "--n", 50, "-o", "deep/down/c").exit_code == 0
    words = ("train", "--preset", "pocket", "--corpus", "deep/down/c", "--max-chars", 3_000, "-o", "run")
    assert gatsby(*words).exit_code == 0
    return workdir / "run"


def test_corpus_of_a_run_is_found_where_the_run_had_it(trained):
    shown = gatsby("dial", "-m", "run", *FEW)
    assert "off by" in shown.stdout.splitlines()[0], shown.output
    assert shown.stderr == ""
    assert document(gatsby("honor", "-m", "run/best-loss", *FEW, "--json"))["corpus"]


def test_house_s_corpus_is_written_again_once_and_is_the_same(trained, workdir, cache):
    sha256 = files.sha256(workdir / "deep/down/c/raw.txt")
    shutil.rmtree(workdir / "deep")
    first = gatsby("dial", "-m", "run", *FEW)
    assert "writing again what this model learned from: 50 stories, seed 1925" in first.stderr
    assert "off by" in first.stdout.splitlines()[0]
    (again,) = cache.glob("corpus-*/raw.txt")
    assert files.sha256(again) == sha256
    second = gatsby("prose", "-m", "run", *FEW)
    assert second.exit_code == 0
    assert second.stderr == "", "it is kept"
    assert gatsby("train", "--resume", "run", "--max-chars", 6_000).exit_code == 0, "a run goes on with it"


def test_stories_alone_know_it_as_well(trained, workdir):
    assert gatsby("dial", "-m", "run", *FEW, "--stories", "told.jsonl").exit_code == 0
    shutil.rmtree(workdir / "deep")
    assert "writing again" in gatsby("dial", "--stories", "told.jsonl").stderr


def test_writer_that_has_changed_since_writes_nothing(trained, workdir, cache):
    for config in trained.rglob("config.json"):
        content = json.loads(config.read_text())
        content["corpus"]["written"]["writers"]["house-small"]["version"] += 1
        config.write_text(json.dumps(content))
    (trained / "last" / "state.json").unlink()
    shutil.rmtree(workdir / "deep")
    shown = gatsby("dial", "-m", "run", *FEW)
    assert shown.exit_code == 0
    assert "is not here (sha256 " in shown.stderr and "name it with --corpus" in shown.stderr
    assert not list(cache.glob("corpus-*"))


@pytest.mark.parametrize(
    "change",
    [{"topics_given": True}, {"finished": False}, {"writers": {"gemma": {"kind": "mlx-lm"}}}, {"writers": {}}],
    ids=lambda change: next(iter(change)),
)
def test_only_a_whole_corpus_of_one_house_writer_has_a_recipe(corpus, change):
    content = load(corpus).manifest
    recipe = manifest.recipe(content)
    assert recipe and (recipe["n"], recipe["seed"]) == (50, 1925)
    assert manifest.recipe({**content, **change}) is None
    assert manifest.recipe({}) is None


def test_places_where_a_corpus_is_looked_for(workdir, corpus, cache, monkeypatch):
    sha256 = files.sha256(corpus / "raw.txt")
    assert api.find_corpus(sha256) is None
    assert api.find_corpus(None) is None
    for place in ("mine", "corpora/pulled", "demo/corpus"):
        shutil.copytree(corpus, workdir / place)
        assert api.locate_corpus(sha256, Path("demo/run")) == Path(place) / "raw.txt"
        shutil.rmtree(workdir / place)
    monkeypatch.setattr(shipped, "corpus", lambda: corpus)
    assert api.locate_corpus(sha256) == corpus / "raw.txt"
