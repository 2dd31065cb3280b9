"""sources: the longest passage and the most similar stories of a corpus."""

import json

import pytest

from gatsby_mlx.corpus.load import load
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.exhibit.request import BusyError
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
    sources = Sources(lambda: load(tmp_path), "0" * 64)
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
