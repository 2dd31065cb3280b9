"""overlap: the longest copied passage, against a search letter by letter."""

import random

import numpy as np
import pytest

from gatsby_mlx.evaluation.overlap import LIMIT, longest_copies


def by_hand(story: str, sources: list[str]) -> int:
    best = 0
    for i in range(len(story)):
        while i + best < len(story) and any(story[i : i + best + 1] in source for source in sources):
            best += 1
    return best


@pytest.mark.parametrize("letters", ["ab", "abc \n", "the green light "])
def test_longest_copies_are_those_of_a_slow_search(letters):
    rng = random.Random(letters)

    def texts(n: int, most: int) -> list[str]:
        return ["".join(rng.choices(letters, k=rng.randrange(most))) for _ in range(n)]

    for _ in range(150):
        told, sources = texts(4, 30), texts(rng.randrange(5), 50)
        assert longest_copies(told, sources).tolist() == [by_hand(t, sources) for t in told]


def test_a_copy_never_runs_over_the_end_of_a_text():
    assert longest_copies(["abcd", "cdab"], ["ab", "cd"]).tolist() == [2, 2]
    assert longest_copies(["ab"], ["ab", "ab"]).tolist() == [2]
    assert longest_copies(["\x01\x02\x01"], ["\x02\x01"]).tolist() == [2]


def test_long_and_other_scripts_and_nothing():
    whole = "".join(map(chr, np.random.Generator(np.random.Philox(1)).integers(32, 0x2000, LIMIT - 10)))
    assert longest_copies([f"x{whole}y", whole[100:400]], [f"z{whole}"]).tolist() == [len(whole), 300]
    assert longest_copies(["a\U0001f7e2b"], ["\U0001f7e2b"]).tolist() == [2]
    assert longest_copies([], ["a"]).tolist() == []
    assert longest_copies(["abc", ""], []).tolist() == [0, 0]
