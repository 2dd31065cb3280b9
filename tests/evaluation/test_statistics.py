"""statistics: known values, and properties of any data."""

import math

import numpy as np
import pytest

from gatsby_mlx.evaluation import statistics
from gatsby_mlx.strict_json import plain


def data(seed: int = 0, topics: int = 40, repeats: int = 3) -> dict[str, list[float]]:
    """Return values whose topics differ more than the stories within one."""
    rng = np.random.Generator(np.random.Philox(seed))
    return {f"topic {i}": list(3 + rng.normal(0, 2) + rng.normal(0, 0.5, repeats)) for i in range(topics)}


def test_bootstrap_mean_is_the_mean_and_is_in_its_interval():
    values = data()
    mean, low, high = statistics.bootstrap_mean(values)
    assert mean == pytest.approx(np.mean([v for group in values.values() for v in group]))
    assert low < mean < high


def test_bootstrap_mean_has_the_width_of_the_cluster_formula():
    values = data(topics=100)
    _, low, high = statistics.bootstrap_mean(values, n=4000)
    topic_means = [np.mean(group) for group in values.values()]
    expected = 2 * 1.96 * np.std(topic_means) / math.sqrt(len(values))
    assert high - low == pytest.approx(expected, rel=0.06)
    # An interval that treats the stories as independent would be far too narrow.
    pooled = [v for group in values.values() for v in group]
    assert high - low > 1.5 * 2 * 1.96 * np.std(pooled) / math.sqrt(len(pooled))


def test_bootstrap_mean_covers_the_truth_about_19_times_in_20():
    covered = [low <= 3 <= high for _, low, high in (statistics.bootstrap_mean(data(s), n=400) for s in range(200))]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_bootstrap_mean_ignores_the_order_and_changes_with_the_seed():
    values = data()
    backwards = dict(reversed(values.items()))
    assert statistics.bootstrap_mean(values) == statistics.bootstrap_mean(backwards)
    assert statistics.bootstrap_mean(values) != statistics.bootstrap_mean(values, seed=1)


def test_bootstrap_mean_weights_stories_not_topics():
    assert statistics.bootstrap_mean({"a": [0.0], "b": [3.0, 3.0, 3.0]}).mean == 2.25


def test_bootstrap_mean_of_one_topic_has_no_interval_and_of_equal_topics_no_width():
    mean, low, high = statistics.bootstrap_mean({"a": [1, 2, 3]})
    assert mean == 2 and math.isnan(low) and math.isnan(high)
    assert statistics.bootstrap_mean({"a": [2], "b": [2, 2]}) == (2, 2, 2)


@pytest.mark.parametrize("values", [{}, {"a": []}])
def test_bootstrap_mean_of_nothing_raises_an_error(values):
    with pytest.raises(ValueError, match="one topic or more"):
        statistics.bootstrap_mean(values)


def test_tied_ranks_share_their_mean():
    assert statistics.ranks([30, 10, 20, 20, 20]).tolist() == [5, 1, 3, 3, 3]
    assert statistics.ranks([7, 5, 7]).tolist() == [2.5, 1, 2.5]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1, 2, 3, 4, 5], [2, 4, 8, 16, 32], 1),
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], -1),
        # Wikipedia's example of IQ and hours of television: -29/165.
        ([106, 100, 86, 101, 99, 103, 97, 113, 112, 110], [7, 27, 2, 50, 28, 29, 20, 12, 6, 17], -29 / 165),
        # With ties: ranks 1.5 1.5 3.5 3.5 and 1 2.5 2.5 4; 3 / sqrt(4 * 4.5).
        ([1, 1, 2, 2], [0, 1, 1, 3], 3 / math.sqrt(18)),
        ([1, 2, 3], [4, 4, 4], 0),
    ],
)
def test_spearman_of_known_values(x, y, expected):
    assert statistics.spearman(x, y) == pytest.approx(expected)


def test_spearman_depends_on_order_alone():
    rng = np.random.Generator(np.random.Philox(3))
    x, y = rng.integers(1, 6, 200), rng.integers(0, 12, 200)
    rho = statistics.spearman(list(x), list(y))
    assert -1 <= rho <= 1
    assert statistics.spearman(list(y), list(x)) == pytest.approx(rho)
    assert statistics.spearman(list(x), list(np.exp(y / 3))) == pytest.approx(rho)
    assert statistics.spearman(list(x), list(-y)) == pytest.approx(-rho)
    with pytest.raises(ValueError, match="same length"):
        statistics.spearman([1, 2], [1])


def test_auc_is_the_share_of_greater_pairs_with_ties_half():
    rng = np.random.Generator(np.random.Philox(5))
    for _ in range(20):
        a, b = rng.integers(0, 6, 17).tolist(), rng.integers(1, 8, 11).tolist()
        pairs = [(y > x) + 0.5 * (y == x) for x in a for y in b]
        assert statistics.auc(a, b) == pytest.approx(np.mean(pairs))
        assert statistics.auc(a, b) + statistics.auc(b, a) == pytest.approx(1)
    assert statistics.auc([1, 1], [2, 3]) == 1 and statistics.auc([1, 2], [1, 2]) == 0.5
    with pytest.raises(ValueError, match="a value"):
        statistics.auc([], [1])


def test_adjacent_auc_and_strictly_rising():
    assert statistics.adjacent_auc([[1], [2], [2], [1]]) == [1, 0.5, 0]
    assert statistics.strictly_rising([1, 2, 3]) and not statistics.strictly_rising([1, 2, 2])
    assert not statistics.strictly_rising([1, math.nan, 3])


def test_bootstrap_ratio_is_of_sums_and_bootstrap_of_any_statistic():
    pairs = {"a": [(1, 2), (3, 4)], "b": [(0, 10)]}
    assert statistics.bootstrap_ratio(pairs).mean == 4 / 16
    values = data()
    mean = statistics.bootstrap(values, np.mean)
    assert mean == pytest.approx(statistics.bootstrap_mean(values))
    assert statistics.bootstrap({"a": [1, 5, 9]}, np.median).mean == 5


def test_page_trend_of_known_values():
    # Three rows that all rise: L = 3 (1 + 4 + 9 + 16), with mean 75 and variance 3 * 16 * 5 * 15 / 144 = 25.
    rising = statistics.page_trend([[1, 2, 3, 4]] * 3)
    assert rising.statistic == 90 and rising.z == pytest.approx(3)
    assert rising.p == pytest.approx(0.00135, rel=1e-2)
    assert statistics.page_trend([[4, 3, 2, 1]] * 3).p == pytest.approx(1 - rising.p)
    assert statistics.page_trend([[5, 5, 5]] * 4).z == 0
    for rows in ([], [[1, 2]], [[1], [2]], [[1, 2], [1]]):
        with pytest.raises(ValueError, match="two rows"):
            statistics.page_trend(rows)


def test_page_trend_of_noise_is_rarely_significant():
    rng = np.random.Generator(np.random.Philox(11))
    significant = [statistics.page_trend(rng.normal(size=(20, 5)).tolist()).p < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(significant) < 0.09


def test_plain_has_no_nan_and_no_tuple():
    assert plain({"a": (1.0, math.nan), "b": [{"c": math.nan}]}) == {"a": [1.0, None], "b": [{"c": None}]}
