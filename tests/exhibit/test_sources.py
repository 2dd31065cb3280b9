"""sources: the longest passage and the most similar stories of a corpus."""

import json
import signal
import time
from typing import Any

import pytest

from gatsby_mlx import api, files
from gatsby_mlx.corpus import manifest
from gatsby_mlx.corpus.load import load
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.exhibit.request import BusyError, LearningError
from gatsby_mlx.exhibit.sources import MAX_WAITING, Nearest, Sources
from gatsby_mlx.story.document import Document, render
from gatsby_mlx.story.prime import Prime

STORIES = [
    "A cat sat on the pier and looked at a green light.",
    "A dog dug up the yard. A dog found a bone under the old oak.",
    "The robot counted its bolts. One bolt was green.",
    "A cat sat on the pier and caught a fish.",
]


def test_nearest_stories_share_rare_words():
    nearest = Nearest(STORIES)
    assert nearest.rank(STORIES[1])[0] == (1, pytest.approx(1.0))
    assert [i for i, _ in nearest.rank("Cats on piers")][:2] == [3, 0]
    assert nearest.rank("zebra 77") == []


def test_sources_answer_with_topic_level_and_writer(tmp_path):
    documents = [Document(Prime(f"topic {i}", 1 + i), s) for i, s in enumerate(STORIES)]
    (tmp_path / "raw.txt").write_text(render(documents))
    sources = Sources(lambda: load(tmp_path), {"sha256": "0" * 64})
    answer = sources.find("Once a cat sat on the pier and looked away.").result(60)
    sources.close()
    assert answer["passage"] == {
        "text": "cat sat on the pier and looked a",  # from the start of a word
        "begins": 7,
        "topic": "topic 0",
        "level": 1,
        "writer": None,
        "stands_at": 2,
    }
    assert answer["nearest"][0]["topic"] == "topic 0"
    assert answer["nearest"][0]["story"] == STORIES[0]
    assert answer["corpus"] == {"stories": 4, "trained_on": False}
    json.dumps(answer)


def test_sources_without_a_corpus_or_with_a_full_queue_refuse(tmp_path):
    with pytest.raises(CorpusError, match="--corpus"):
        try:
            Sources(None).find("a")
        except CorpusError as error:
            raise CorpusError(error.line()) from None
    (tmp_path / "raw.txt").write_text("no control line")
    sources = Sources(lambda: load(tmp_path))
    future = sources.find("a")
    with pytest.raises(CorpusError, match="no control line"):
        future.result(60)
    for _ in range(MAX_WAITING):
        sources._waiting.acquire(blocking=False)
    with pytest.raises(BusyError):
        sources.find("a")
    sources.close()


@pytest.fixture
def known(tmp_path, monkeypatch) -> dict[str, Any]:
    """What a checkpoint knows of a corpus of the house writer that is not on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = api.write(tmp_path / "c", n=100, writer="house", seed=7)
    known = {"sha256": corpus.sha256, "written": manifest.recipe(corpus.manifest)}
    (tmp_path / "c" / "raw.txt").unlink()
    return known


def test_corpus_of_the_house_is_written_again_while_visitors_wait(tmp_path, known):
    sources = Sources(None, known)
    assert sources.exists
    with pytest.raises(LearningError):
        sources.find("a green light")
    answer, deadline = None, time.monotonic() + 120
    while answer is None:
        assert time.monotonic() < deadline
        try:
            answer = sources.find("a green light").result(60)
        except LearningError:
            time.sleep(0.1)
    sources.close()
    assert answer["corpus"] == {"stories": 100, "trained_on": True}
    assert answer["nearest"][0]["writer"] == "house"
    (again,) = (tmp_path / "cache").rglob("raw.txt")
    assert files.sha256(again) == known["sha256"]


def test_closing_stops_the_writing(known):
    known["written"]["n"] = 20_000  # minutes
    sources = Sources(None, known)
    with pytest.raises(LearningError):
        sources.find("a green light")
    started = time.monotonic()
    while sources._writer is None:
        assert time.monotonic() - started < 60
        time.sleep(0.01)
    sources.close()
    assert sources._writer.returncode == -signal.SIGTERM


def test_text_that_cannot_be_written_again_is_not_offered(known):
    known["written"]["writers"]["house"]["version"] += 1
    assert not Sources(None, known).exists
