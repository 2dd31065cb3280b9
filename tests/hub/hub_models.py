"""A small random model in the forms that the hub's tests need."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from torch_writer import nanogpt

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.model.gpt import GPT

ASCII = "\n !\"',-.0123456789:=ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz"  # sorted, as a corpus gives it
UNICODE = "\n .[]:=12345abcdefghijklmnopqrstuvwxyz\u2014\u2026"
INFO = {"preset": "tiny", "step": 7, "corpus": {"sha256": "c0ffee", "documents": 50}, "evaluation": {"loss": 1.25}}
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 256}


def random_model(alphabet: str = ASCII, seed: int = 5, **changes: Any) -> GPT:
    """Return a model whose weights are far from its initial ones, so that forms that agree do not agree by chance."""
    mx.random.seed(seed)
    model = GPT(GPTConfig(**{**SHAPE, "vocab_size": len(alphabet), **changes}))
    model.apply(lambda w: w + 0.2 * mx.random.normal(w.shape))
    return model.eval()


def nanogpt_names(model: GPT) -> dict[str, np.ndarray]:
    """Return a model's weights by the names of nanoGPT, the tied output matrix among them."""
    weights = {f"transformer.{name}": np.array(value) for name, value in model.named().items()}
    return {**weights, "lm_head.weight": weights["transformer.wte.weight"]}


def nanogpt_args(model: GPT) -> dict[str, Any]:
    c = model.config
    names = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout")
    return {name: getattr(c, name) for name in names}


def save_nanogpt(path: Path, model: GPT, **args: Any) -> Path:
    return nanogpt(path, nanogpt_names(model), {**nanogpt_args(model), **args})
