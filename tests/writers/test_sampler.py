"""The sampler: the nucleus is exact without a sort of the vocabulary, and a row's draws are its own."""

import mlx.core as mx
import numpy as np
import pytest

from gatsby_mlx.writers.sampler import BLOCK, BLOCKS, Sampler, draw


def logprobs(n_rows: int, size: int, scale: float, seed: int = 0) -> np.ndarray:
    raw = np.random.default_rng(seed).standard_normal((n_rows, size)).astype(np.float32) * scale
    return raw - np.log(np.exp(raw).sum(-1, keepdims=True))


def sorted_draw(row: np.ndarray, temp: float, top_p: float, point: float) -> int:
    """The nucleus by a full sort, in float64."""
    order = np.argsort(-row, kind="stable")
    p = np.exp(row[order].astype(np.float64))
    inside = np.cumsum(p) - p < top_p * p.sum()
    weights = np.where(inside, np.exp(row[order].astype(np.float64) / temp), 0)
    cumulative = np.cumsum(weights)
    return int(order[np.searchsorted(cumulative, point * cumulative[-1])])


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        (50, 1.0),
        (BLOCK * BLOCKS * 4, 4.0),  # a nucleus of a few tokens
        (BLOCK * BLOCKS * 4 + 7, 2.0),  # of thousands, more than the shortlist
        (BLOCK * BLOCKS * 3 + 1, 0.01),  # of nearly all
    ],
)
def test_the_nucleus_is_that_of_a_full_sort(size, scale):
    rows = logprobs(6, size, scale)
    for i in range(12):
        points = [(0.37 + 0.083 * i + 0.159 * j) % 1.0 for j in range(6)]
        found = draw(mx.array(rows), 0.8, 0.9, points)
        for row, point, token in zip(rows, points, found, strict=True):
            expected = sorted_draw(row, 0.8, 0.9, point)
            # float32 sums may fall on the other side of a border between two tokens of nearly equal likelihood
            assert token == expected or abs(row[token] - row[expected]) < 1e-3 * max(1, abs(row[expected]))


def test_draws_follow_the_probabilities_inside_the_nucleus():
    rows = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]] * 400))
    sampler = Sampler(1.0, 0.75)
    row = sampler.row(3)
    counts = np.bincount(draw(rows, 1.0, 0.75, [row.random.random() for _ in range(400)]), minlength=4)
    assert counts[2] == counts[3] == 0
    assert abs(counts[0] / 400 - 0.5 / 0.8) < 0.08


def test_ruled_out_tokens_are_never_drawn():
    rows = np.full((2, BLOCK * BLOCKS * 2), -np.inf, np.float32)
    rows[0, 3000], rows[1, 5], rows[1, 4001] = -20.0, -30.0, -30.5
    for i in range(20):
        first, second = draw(mx.array(rows), 0.8, 0.95, [i / 20, i / 20])
        assert first == 3000
        assert second in (5, 4001)


def test_a_row_depends_on_its_own_seed_only():
    step = logprobs(3, 300, 2.0)

    def texts(seeds: list[int]) -> list[list[int]]:
        sampler = Sampler(0.8, 0.95)
        rows = [sampler.row(seed) for seed in seeds]
        out = []
        for _ in range(8):
            for row in rows:
                row(mx.array([0]), mx.array(0))
            out.append(sampler(mx.array(step[: len(rows)] * 0 + step[0])).tolist())
        return [list(column) for column in zip(*out, strict=True)]

    together = texts([1, 2, 3])
    assert together[1] == texts([2])[0]
    assert together[0] != together[1]


def test_greedy():
    assert draw(mx.log(mx.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])), 0, 1.0, [0.9, 0.9]) == [1, 0]
