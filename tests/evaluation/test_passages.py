"""passages: suffixes in sorted order, and the longest copied passage, compared with a slow search."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatsby_mlx.evaluation.passages import GAP, Passages, longest_copies, suffix_array

LONG = 1014


@settings(max_examples=150, deadline=None)
@given(st.text("ab\n", max_size=200) | st.text("abcdefgh ", max_size=60) | st.text(max_size=40))
def test_suffix_array_is_sorted(text):
    codes = np.array([ord(c) for c in text], np.int64)
    assert list(suffix_array(codes)) == sorted(range(len(text)), key=lambda i: text[i:])


@pytest.mark.parametrize("text", ["a" * 300, "ab" * 100, "abcdefgh" * 40 + "x", "banana"])
def test_suffix_array_of_repetitions_is_sorted(text):
    codes = np.array([ord(c) for c in text])
    assert list(suffix_array(codes)) == sorted(range(len(text)), key=lambda i: text[i:])


def slow_longest(story: str, sources: list[str]) -> int:
    best = 0
    for i in range(len(story)):
        while i + best < len(story) and any(story[i : i + best + 1] in source for source in sources):
            best += 1
    return best


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=6), st.text("abcd", max_size=25))
def test_longest_passage_is_the_longest_and_is_where_it_says(sources, story):
    n, start, source, source_start = Passages(sources).longest(story)
    assert n == slow_longest(story, sources)
    assert story[start : start + n] == sources[source][source_start : source_start + n]


@pytest.mark.parametrize("letters", ["ab", "abc \n", "the green light "])
def test_longest_copies_equal_a_slow_search_and_the_passages(letters):
    rng = random.Random(letters)

    def texts(n: int, most: int) -> list[str]:
        return ["".join(rng.choices(letters, k=rng.randrange(most))) for _ in range(n)]

    for _ in range(150):
        stories, sources = texts(4, 30), texts(rng.randrange(5), 50)
        expected = [slow_longest(story, sources) for story in stories]
        assert longest_copies(stories, sources).tolist() == expected
        passages = Passages(sources)
        assert [passages.longest(story).length for story in stories] == expected


def test_copy_never_crosses_the_end_of_a_text():
    assert longest_copies(["abcd", "cdab"], ["ab", "cd"]).tolist() == [2, 2]
    assert longest_copies(["ab"], ["ab", "ab"]).tolist() == [2]
    assert longest_copies(["\x01\x02\x01"], ["\x02\x01"]).tolist() == [2]
    assert Passages(["ab", "cd"]).longest(f"ab{GAP}cd").length == 2


def test_long_passages_other_scripts_and_empty_texts():
    text = "".join(map(chr, np.random.Generator(np.random.Philox(1)).integers(32, 0x2000, LONG)))
    assert longest_copies([f"x{text}y", text[100:400]], [f"z{text}"]).tolist() == [LONG, 300]
    assert Passages([f"z{text}"]).longest(f"x{text}y") == (LONG, 1, 0, 1)
    repeated = "abc" * 1000
    assert longest_copies([repeated, repeated + "!"], [repeated]).tolist() == [3000, 3000]
    assert longest_copies(["a\U0001f7e2b"], ["\U0001f7e2b"]).tolist() == [2]
    assert longest_copies([], ["a"]).tolist() == []
    assert longest_copies(["abc", ""], []).tolist() == [0, 0]
    assert Passages([]).longest("abc").length == 0


def test_passages_read_other_alphabets():
    sources = ["Caf\u00e9 \u2014 la lumi\u00e8re verte\u2026", "Une autre"]
    found = Passages(sources).longest("la lumi\u00e8re verte\u2026" + GAP + "Une")
    assert found == (len("la lumi\u00e8re verte\u2026"), 0, 0, 7)
    many = "".join(chr(0x4E00 + i) for i in range(300))
    assert Passages([many]).longest(many[100:]) == (200, 0, 0, 100)
