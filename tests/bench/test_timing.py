"""timing: the interval contains the median as often as it claims, and a ratio of pairs cancels common noise."""

import doctest
import math
import random

import pytest

from gatsby_mlx.bench import document, timing, work


def test_examples_in_the_docs_are_true():
    for module in (timing, work, document):
        assert doctest.testmod(module).failed == 0


def test_interval_covers_the_median_19_times_in_20():
    draws = random.Random(3)
    for n in (6, 10, 15, 30):
        hits = 0
        for _ in range(2000):
            _, low, high = timing.median_interval([math.exp(draws.gauss(0, 1)) for _ in range(n)])  # its median is 1
            hits += low <= 1 <= high
        assert hits / 2000 > 0.94, n


def test_interval_narrows_with_more_values():
    draws = random.Random(5)
    widths = []
    for n in (10, 40, 160):
        _, low, high = timing.median_interval([draws.gauss(0, 1) for _ in range(n)])
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize("values", [[2.0], [2.0, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
def test_interval_of_few_values_is_their_range(values):
    _, low, high = timing.median_interval(values)
    assert (low, high) == (min(values), max(values))


def test_ratio_of_pairs_cancels_what_slows_both():
    slow = [1, 1, 5, 1, 9, 1, 1, 7]
    ratio = timing.ratio([30 / s for s in slow], [10 / s for s in slow])
    assert (ratio["median"], ratio["low"], ratio["high"]) == pytest.approx((3, 3, 3))
    assert ratio["n"] == 8


def test_drift_compares_the_ends():
    assert timing.drift([10, 10, 9, 9, 5, 5]) == 0.5
    assert timing.drift([1, 2, 3]) is None


def test_slope_finds_the_exponent():
    sizes = [128, 256, 512, 1024]
    assert timing.slope(sizes, [3 * s**1.5 for s in sizes]) == pytest.approx(1.5)
    assert timing.slope([4, 4], [1, 2]) is None
