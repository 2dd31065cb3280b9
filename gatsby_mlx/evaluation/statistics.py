"""The statistics of an evaluation, in NumPy: intervals over topics, rank correlation, trend, separability.

>>> spearman([1, 1, 2, 2], [0, 1, 1, 3])
0.7071067811865476
>>> auc([0, 1], [1, 3])
0.875
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

COVERAGE = 0.95
RESAMPLES = 2000
SEED = 1925


class Interval(NamedTuple):
    """A figure and its 95% interval, in the unit of the values. With a single topic the ends are NaN."""

    mean: float
    low: float
    high: float


class Trend(NamedTuple):
    """Page's trend test: his statistic L, its z score, and the one-sided p value."""

    statistic: float
    z: float
    p: float


def bootstrap_mean(values_by_topic: Mapping[str, Sequence[float]], n: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Return the mean of all values with its 95% percentile interval, by a bootstrap over topics.

    Stories on one topic are alike, so the topic is the unit that is resampled: the cluster bootstrap of Davison and
    Hinkley (1997), section 3.8, strategy 1, with the percentile interval of Efron and Tibshirani (1993), section 13.3.

    `values_by_topic` maps each topic to its values (1 or more); topics are sorted first, so the order of the mapping
    does not matter. `n` is the number of resamples, 1 or more; `seed` seeds NumPy's Philox generator. The draws depend
    only on the number of topics: two calls over the same topics resample the same ones. The interval of a single topic
    is NaN. Raises ValueError for no topics, or a topic without values.
    """
    return bootstrap_ratio({k: [(v, 1) for v in values] for k, values in values_by_topic.items()}, n, seed)


def bootstrap_ratio(
    pairs_by_topic: Mapping[str, Sequence[tuple[float, float]]], n: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """Return the sum of all parts over the sum of all totals with its 95% interval, as `bootstrap_mean` does.

    `pairs_by_topic` maps each topic to its (part, total) pairs, such as (correctly spelled words, words). NaN where all
    totals are 0, as in texts without a word. Raises
    ValueError for no topics, or a topic without pairs.
    """
    groups = [np.asarray(pairs_by_topic[topic], np.float64) for topic in sorted(pairs_by_topic)]
    if not groups or not all(g.size for g in groups) or n < 1:
        raise ValueError(f"need one topic or more, each with values, and n >= 1; got {len(groups)} topics, n={n}")
    sums = np.array([g.sum(axis=0) for g in groups])  # [topics, 2]
    part, total = sums.sum(axis=0)
    ratio = float(part / total) if total else math.nan
    if len(groups) == 1:
        return Interval(ratio, math.nan, math.nan)
    drawn = np.random.Generator(np.random.Philox(seed)).integers(len(groups), size=(n, len(groups)))
    resampled = sums[drawn].sum(axis=1)  # [n, 2]
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample without a total has no ratio: NaN
        ratios = resampled[:, 0] / resampled[:, 1]
    low, high = np.quantile(ratios, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(ratio, float(low), float(high))


def bootstrap(
    values_by_topic: Mapping[str, Sequence], statistic: Callable[[np.ndarray], float], n: int = RESAMPLES
) -> Interval:
    """Return `statistic` of all values with its 95% interval, by a bootstrap over topics (see `bootstrap_mean`).

    `values_by_topic` maps each topic to an array-like [m] or [m, k]; `statistic` takes those of all topics,
    concatenated along the first axis.
    """
    groups = [np.asarray(values_by_topic[topic], np.float64) for topic in sorted(values_by_topic)]
    value = float(statistic(np.concatenate(groups)))
    if len(groups) == 1:
        return Interval(value, math.nan, math.nan)
    drawn = np.random.Generator(np.random.Philox(SEED)).integers(len(groups), size=(n, len(groups)))
    resampled = [statistic(np.concatenate([groups[i] for i in draw])) for draw in drawn]
    low, high = np.quantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(value, float(low), float(high))


def ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the rank of each value from 1, the smallest; tied values share the mean of their ranks.

    >>> ranks([5, 7, 7]).tolist()
    [1.0, 2.5, 2.5]
    """
    _, inverse, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Return Spearman's rank correlation of two equally long sequences, -1 to 1: Pearson's of their ranks.

    This form holds with ties, where the short one (1 - 6 sum d^2 / (n^3 - n)) does not (Kendall and Gibbons 1990,
    section 3.8). If either sequence is constant, the result is 0. Raises ValueError for empty sequences and for
    different lengths.
    """
    if len(x) != len(y) or not len(x):
        raise ValueError(f"need two sequences of the same length, not {len(x)} and {len(y)}")
    a, b = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2  # the mean rank is (n + 1) / 2, ties or not
    scale = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale else 0.0


def strictly_rising(values: Sequence[float]) -> bool:
    """Return whether each value is greater than the one before it."""
    return all(a < b for a, b in pairwise(values))


def page_trend(rows: Sequence[Sequence[float]]) -> Trend:
    """Test whether the columns of `rows` (topics x levels, 2 or more of each) rise from left to right.

    Page (1963), "Ordered Hypotheses for Multiple Treatments": each row is ranked on its own, L = sum of j R_j over the
    columns' rank sums, and z = (L - m k (k+1)^2 / 4) / sqrt(m k^2 (k+1) (k^2 - 1) / 144) for m rows of k columns. Ties
    share ranks, which makes z slightly too small. Raises ValueError for fewer rows or columns, and for uneven rows.
    """
    m, k = len(rows), len(rows[0]) if rows else 0
    if m < 2 or k < 2 or any(len(row) != k for row in rows):
        raise ValueError(f"need two rows or more, each of two columns or more, not {m} rows of {k}")
    totals = np.sum([ranks(row) for row in rows], axis=0)
    statistic = float(totals @ np.arange(1, k + 1))
    z = (statistic - m * k * (k + 1) ** 2 / 4) / math.sqrt(m * k**2 * (k + 1) * (k**2 - 1) / 144)
    return Trend(statistic, z, math.erfc(z / math.sqrt(2)) / 2)


def auc(lower: Sequence[float], upper: Sequence[float]) -> float:
    """Return the probability, 0 to 1, that a value of `upper` is greater than one of `lower`; ties count half.

    It is Mann and Whitney's U over its maximum, and the area under the ROC curve (Hanley and McNeil 1982):
    U = R - m(m + 1) / 2, with R the sum of the ranks of the m values of `upper` among all. Raises ValueError if either
    sample is empty.
    """
    if not len(lower) or not len(upper):
        raise ValueError("each sample needs a value")
    m = len(upper)
    u = ranks([*lower, *upper])[len(lower) :].sum() - m * (m + 1) / 2
    return float(u / (m * len(lower)))


def adjacent_auc(samples: Sequence[Sequence[float]]) -> list[float]:
    """Return `auc` of each sample and the next one: four figures for five levels."""
    return [auc(a, b) for a, b in pairwise(samples)]
