"""A character-level GPT in mlx.nn, with the architecture of GPT-2 (Radford et al. 2019) as nanoGPT arranges it.

Learned positions, pre-norm LayerNorm, a 4x MLP, tied embeddings; dropout on the embeddings, the attention weights and
the two residual projections. The initialization is nanoGPT's, too (github.com/karpathy/nanoGPT, MIT).

Shapes: B sequences in a batch, T positions (time), C channels, H heads, D = C / H channels of a head, V characters in
the vocabulary.

>>> model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=32, block_size=64, vocab_size=96))
>>> model(mx.array([[1, 2, 3]])).shape
(1, 3, 96)
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path

from gatsby_mlx import kernels
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.model.cache import KVCache

LAYER_NORM_EPS = 1e-5
INIT_STD = 0.02
SINUSOIDAL_RMS = 0.1
GELU = {"tanh": kernels.gelu_tanh, "erf": kernels.gelu_erf}


class Dropout(nn.Dropout):
    """Dropout as in mlx.nn, with a mask that is fast on the device."""

    def __call__(self, x: mx.array) -> mx.array:
        keep = self._p_1
        return x if keep == 1 or not self.training else x * kernels.dropout_mask(x.shape, keep) * (1 / keep)


@mx.custom_function
def _rows(weight: mx.array, ids: mx.array) -> mx.array:
    return weight[ids]


@_rows.vjp
def _rows_vjp(primals, cotangent, output):
    weight, ids = primals
    one_hot = (ids.reshape(-1)[:, None] == mx.arange(len(weight))).astype(cotangent.dtype)  # [B T, V]
    return one_hot.T @ cotangent.reshape(-1, weight.shape[1]), mx.zeros_like(ids)


class Embedding(nn.Embedding):
    """An embedding whose gradient is a product with one-hot rows, which has the same bits each time on any device.

    MLX's own adds each row to the table's by a scatter; on a GPU these additions are atomic, in any order. For a
    vocabulary of a hundred characters the product costs about a thousandth of a training step. With `gradient` set to
    "scatter" it is MLX's own, for runs that began with it.
    """

    gradient = "product"

    def __call__(self, x: mx.array) -> mx.array:
        if self.gradient == "scatter" or not self.training:
            return self.weight[x]
        return cast(mx.array, _rows(self.weight, x))


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention, each position to itself and those before it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)
        self.attention_dropout = config.dropout

    def __call__(self, x: mx.array, cache: KVCache | None = None) -> mx.array:
        B, T, C = x.shape
        qkv = self.c_attn(x).reshape(B, T, 3, self.n_head, C // self.n_head)  # [B, T, 3, H, D]
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # [B, H, T, D] each
        if cache is None:
            y = kernels.causal_attention(q, k, v, self.attention_dropout if self.training else 0.0)
        else:
            y = cache.attend(q, k, v)
        y = y.swapaxes(1, 2).reshape(B, T, C)  # [B, H, T, D] -> [B, T, C]
        return self.dropout(self.c_proj(y))


class MLP(nn.Module):
    """The feed-forward layer: C -> 4C, GELU, 4C -> C."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)
        self.gelu = GELU[config.gelu]

    def __call__(self, x: mx.array) -> mx.array:
        x = self.gelu(self.c_fc(x))  # [B, T, 4C]
        return self.dropout(self.c_proj(x))  # [B, T, C]


class Block(nn.Module):
    """A transformer block: attention and MLP, each with LayerNorm before it and a residual connection around it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, LAYER_NORM_EPS, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, LAYER_NORM_EPS, bias=config.bias)
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, cache: KVCache | None = None) -> mx.array:
        x = x + self.attn(self.ln_1(x), cache)  # [B, T, C]
        return x + self.mlp(self.ln_2(x))


def flat(tree: Any) -> dict[str, mx.array]:
    """Return a tree of arrays (parameters, gradients, an optimizer's state) as one dictionary with dotted names."""
    return cast(dict[str, mx.array], tree_flatten(tree, destination={}))


def sinusoidal(T: int, C: int) -> mx.array:
    """Return a position table [T, C]: sines, then cosines, of C/2 frequencies falling from 1 to 1/10,000.

    Vaswani et al. 2017, section 3.5, scaled to a root mean square that the first noisy steps of AdamW do not overwrite.
    """
    frequencies = 10_000 ** (-mx.arange(0, C, 2) / C)  # [C / 2]
    angles = mx.arange(T)[:, None] * frequencies  # [T, C / 2]
    return (SINUSOIDAL_RMS * math.sqrt(2) * mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=1))[:, :C]


class GPT(nn.Module):
    """The model. Its weights are drawn from MLX's global generator: call `mx.random.seed` first."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = Dropout(config.dropout)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.n_embd, LAYER_NORM_EPS, bias=config.bias)
        self.update(tree_map_with_path(self._initial, self.parameters()))

    def _initial(self, path: str, value: mx.array) -> mx.array:
        """Return the initial value of the parameter at `path`."""
        if path == "wpe.weight" and self.config.position_init == "waves":
            return sinusoidal(*value.shape)
        if value.ndim < 2:
            return value if path.endswith("weight") else mx.zeros_like(value)
        residual = math.sqrt(2 * self.config.n_layer) if path.endswith("c_proj.weight") else 1
        return mx.random.normal(value.shape, scale=INIT_STD / residual)

    def __call__(
        self, ids: mx.array, caches: Sequence[KVCache] | None = None, positions: mx.array | None = None
    ) -> mx.array:
        """Return the logits [B, T, V] of the next character after each of `ids` [B, T], integers below vocab_size.

        `positions` [B, T] or [T], integers below block_size, are 0 to T-1 by default. `caches` has one cache for each
        layer; without caches, each position attends to the positions before it in `ids`.
        """
        at = self.wpe.weight[: ids.shape[1]] if positions is None else self.wpe(positions)  # [T, C] or [B, T, C]
        x = self.dropout(self.wte(ids) + at)  # [B, T, C]
        for layer, block in enumerate(self.h):
            x = block(x, caches[layer] if caches else None)
        return self.wte.as_linear(self.ln_f(x))  # [B, T, V], with the weights of the embedding

    def named(self) -> dict[str, mx.array]:
        """Return the parameters by their dotted names, as in a checkpoint."""
        return flat(self.parameters())

    def n_params(self, positions: bool = True) -> int:
        """Return the number of parameters, tied ones once; `positions=False` is nanoGPT's count, without `wpe`."""
        total = sum(v.size for v in self.named().values())
        return total if positions else total - self.wpe.weight.size
