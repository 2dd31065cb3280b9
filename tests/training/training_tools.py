"""Tools of the tests of gradients: a small model, micro-batches with padding, and comparisons."""

from collections.abc import Sequence
from typing import Any

import gatsby_mlx.model  # noqa: F401  a fast BLAS first

# isort: split
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.sequences import MicroBatch
from gatsby_mlx.training.step import GradientSource

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 160, "vocab_size": 30}
# The shape of test_resume's programs, so that its compiled kernels serve more than one test.
COMPILED_SHAPE = {"n_layer": 1, "block_size": 256, "dropout": 0.1}


def model_of(**changes: Any) -> GPT:
    """Return a model of SHAPE, the same one at each call."""
    mx.random.seed(1)
    model = GPT(GPTConfig(**{**SHAPE, **changes}))
    mx.eval(model.parameters())
    return model


def batches_of(n: int, T: int = 160, B: int = 2) -> list[MicroBatch]:
    """Return `n` micro-batches of `B` sequences; the last third of the second one is padding."""
    draws = np.random.default_rng(3)
    batches = []
    for _ in range(n):
        ids = draws.integers(0, 30, (B, T + 1)).astype(np.int32)
        weights = np.ones((B, T), np.float32)
        weights[1, 2 * T // 3 :] = 0
        story = weights.copy()
        story[:, :10] = 0
        batches.append(MicroBatch(ids[:, :-1], ids[:, 1:], weights, story))
    return batches


def flat(tree: Any) -> dict[str, np.ndarray]:
    """Return a tree of arrays as numpy arrays with dotted names."""
    return {k: np.array(v) for k, v in tree_flatten(tree)}


def computed(source: GradientSource, pairs: Sequence[tuple[int, MicroBatch]]) -> tuple[np.ndarray, dict]:
    """Return the loss sums and the gradients of a source, as numpy arrays."""
    sums, gradients = source.gradients(pairs)
    return np.array(sums), flat(gradients)


def gradients_of(model: GPT, pairs: Sequence[tuple[int, MicroBatch]], n: int) -> tuple[np.ndarray, dict]:
    """Return what `n` workers compute."""
    with Workers(model, n) as workers:
        return computed(workers, pairs)


def assert_close(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rel: float = 1e-5) -> None:
    """Compare two sets of gradients, each array relative to its largest element."""
    assert a.keys() == b.keys()
    for name in a:
        assert np.abs(a[name] - b[name]).max() <= rel * np.abs(a[name]).max() + 1e-7, name
