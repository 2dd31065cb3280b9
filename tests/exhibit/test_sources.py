"""sources: suffixes in order, the longest passage, the nearest stories; whatever the corpus holds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatsby_mlx.corpus.document import Document, render
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.exhibit.sources import GAP, WAITING, Nearest, Passages, Sources, suffix_array
from gatsby_mlx.exhibit.ticket import BusyError
from gatsby_mlx.prime import Prime

STORIES = [
    "A cat sat on the pier and looked at a green light.",
    "A dog dug up the yard. A dog found a bone under the old oak.",
    "The robot counted its bolts. One bolt was green.",
    "A cat sat on the pier and caught a fish.",
]


@settings(max_examples=150, deadline=None)
@given(st.text("ab\n", min_size=1, max_size=200) | st.text("abcdefgh ", min_size=1, max_size=60))
def test_suffix_array_is_in_order(text):
    codes = np.array([ord(c) for c in text])
    assert list(suffix_array(codes)) == sorted(range(len(text)), key=lambda i: text[i:])


@pytest.mark.parametrize("text", ["a" * 300, "ab" * 100, "abcdefgh" * 40 + "x", "banana"])
def test_suffix_array_of_repetitions_is_in_order(text):
    codes = np.array([ord(c) for c in text])
    assert list(suffix_array(codes)) == sorted(range(len(text)), key=lambda i: text[i:])


def longest_by_hand(stories: list[str], story: str) -> int:
    pieces = {story[i:j] for i in range(len(story)) for j in range(i + 1, len(story) + 1)}
    return max((len(p) for p in pieces if any(p in s for s in stories)), default=0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=6), st.text("abcd", max_size=25))
def test_longest_passage_is_the_longest_and_stands_where_it_says(stories, story):
    n, here, number, there = Passages(stories).longest(story)
    assert n == longest_by_hand(stories, story)
    assert story[here : here + n] == stories[number][there : there + n]


def test_longest_passage_stays_within_one_story_and_other_alphabets_are_read():
    stories = ["Caf\u00e9 \u2014 la lumi\u00e8re verte\u2026", "Une autre"]
    n, here, number, there = Passages(stories).longest("la lumi\u00e8re verte\u2026" + GAP + "Une")
    assert (n, here, number, there) == (len("la lumi\u00e8re verte\u2026"), 0, 0, 7)
    with pytest.raises(CorpusError, match="254"):
        Passages(["".join(chr(0x4E00 + i) for i in range(300))])


def test_nearest_stories_share_the_rare_words():
    nearest = Nearest(STORIES)
    assert nearest.rank(STORIES[1])[0] == (1, pytest.approx(1.0))
    assert [i for i, _ in nearest.rank("Cats on piers")][:2] == [3, 0]
    assert nearest.rank("zebra 77") == []


def test_sources_answer_with_writer_topic_and_level(tmp_path):
    documents = [Document(Prime(f"topic {i}", 1 + i), s) for i, s in enumerate(STORIES)]
    (tmp_path / "raw.txt").write_text(render(documents))
    sources = Sources(tmp_path, "0" * 64)
    found = sources.find("Once a cat sat on the pier and looked away.").result(60)
    sources.close()
    assert found["passage"] == {
        "text": " cat sat on the pier and looked a",
        "begins": 6,
        "topic": "topic 0",
        "level": 1,
        "writer": None,
        "stands_at": 1,
    }
    assert found["nearest"][0]["topic"] == "topic 0"
    assert found["nearest"][0]["story"] == STORIES[0]
    assert found["corpus"] == {"stories": 4, "trained_on": False}
    json.dumps(found)


def test_sources_without_a_corpus_or_with_a_line_too_long_refuse(tmp_path):
    with pytest.raises(CorpusError, match="--corpus"):
        try:
            Sources(tmp_path / "none").find("a")
        except CorpusError as error:
            raise CorpusError(error.line()) from None
    (tmp_path / "raw.txt").write_text("no control line")
    sources = Sources(tmp_path)
    future = sources.find("a")
    with pytest.raises(CorpusError, match="no control line"):
        future.result(60)
    for _ in range(WAITING):
        sources._waiting.acquire(blocking=False)
    with pytest.raises(BusyError):
        sources.find("a")
    sources.close()
