"""What a list of timings says: the median with its spread, the ratio pair by pair with its interval, and the drift.

>>> median_interval([0.9, 1.0, 1.1, 1.2, 1.0, 1.1])
(1.05, 0.9, 1.2)
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

CONFIDENCE = 0.95


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the ends of its 95% interval, from order statistics (no shape of the noise is assumed).

    The interval from the k-th smallest to the k-th largest holds the true median with the binomial probability of
    having k to n - k values below it (David & Nagaraja 2003, section 7.1). With fewer than six values no interval
    reaches 95%, and the smallest and the largest are given.
    """
    ordered, n = sorted(values), len(values)
    k, at_most = 1, 1 + n  # how many of 2**n outcomes have at most k values below the median
    while 2 * at_most <= (1 - CONFIDENCE) * 2**n:
        k += 1
        at_most += math.comb(n, k)
    return median(ordered), ordered[k - 1], ordered[n - k]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return {median, low, high, n} with the interval of `median_interval`, and the `values` themselves."""
    middle, low, high = median_interval(values)
    return {"median": middle, "low": low, "high": high, "n": len(values), "values": list(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Return the summary of ours over theirs, pair by pair: what both suffered of the machine at one time cancels."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


def drift(values: Sequence[float]) -> float | None:
    """Return the median of the last third over that of the first, 1 when nothing drifts; None below six values.

    A machine that grows hot and slow shows a speed below 1.
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
