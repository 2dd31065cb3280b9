"""Statistics of timings: the median with its interval, the ratio of pairs with its interval, and the drift.

>>> median_interval([0.9, 1.0, 1.1, 1.2, 1.0, 1.1])
(1.05, 0.9, 1.2)
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

CONFIDENCE = 0.95


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the ends of its 95% interval, from order statistics, for noise of any distribution.

    The interval from the k-th smallest to the k-th largest value contains the true median with the binomial probability
    of k to n - k values below it (David & Nagaraja 2003, section 7.1). With fewer than six values no interval reaches
    95%, and the ends are the smallest and the largest value.
    """
    ordered, n = sorted(values), len(values)
    k, at_most = 1, 1 + n  # of 2**n outcomes, those with at most k values below the median
    while 2 * at_most <= (1 - CONFIDENCE) * 2**n:
        k += 1
        at_most += math.comb(n, k)
    return median(ordered), ordered[k - 1], ordered[n - k]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return {median, low, high, n, values} with the interval of `median_interval`."""
    middle, low, high = median_interval(values)
    return {"median": middle, "low": low, "high": high, "n": len(values), "values": list(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Return the summary of ours / theirs for each pair. What slows the machine during a pair cancels out."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


def drift(values: Sequence[float]) -> float | None:
    """Return the median of the last third over that of the first, 1 without drift; None for fewer than six values.

    The drift of a speed is below 1 when the machine gets hot and slows down.
    """
    third = len(values) // 3
    return median(values[-third:]) / median(values[:third]) if third >= 2 else None


def slope(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the exponent p of values ~ sizes**p by least squares on logarithms; None for fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    x, y = [math.log(s) for s in sizes], [math.log(v) for v in values]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
