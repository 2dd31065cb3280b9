"""A small model that babbles: random weights, so large that its stories depend on prime and seed."""

from pathlib import Path
from typing import Any

import gatsby_mlx.model  # noqa: F401  loads a fast BLAS before MLX

# isort: split
import mlx.core as mx
from mlx.utils import tree_map

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story.prime import ALPHABET
from gatsby_mlx.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer(ALPHABET)


def babbler(seed: int = 3, **shape: Any) -> Checkpoint:
    """Return a checkpoint with large random weights: its stories depend on prime and seed, and rarely end."""
    mx.random.seed(seed)
    config = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 300, "vocab_size": len(ALPHABET)}
    model = GPT(GPTConfig(**{**config, **shape}))
    model.update(tree_map(lambda p: 6 * p if p.ndim == 2 else p, model.parameters()))
    mx.eval(model.parameters())
    return Checkpoint(Path("none"), model.eval(), TOKENIZER, {"preset": "babble"})
