"""A GPT over characters: nanoGPT's base architecture in mlx.nn, and nothing else.

Pre-norm LayerNorm, learned positions, tied embeddings, a 4x MLP, dropout on the embeddings, the attention weights and
the two residual projections (Radford et al. 2019; nanoGPT, MIT, for the arrangement and the initialisation).
"""

import math
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.model import ops

LAYER_NORM_EPS = 1e-5
INIT_STD = 0.02
WAVES_RMS = 0.1


GELU = {"tanh": ops.gelu_tanh, "erf": ops.gelu_erf}


class Dropout(nn.Dropout):
    """MLX's dropout with the mask that suits the device."""

    def __call__(self, x: mx.array) -> mx.array:
        share = self._p_1
        return x if share == 1 or not self.training else x * ops.keep(x.shape, share) * (1 / share)


class CausalSelfAttention(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)
        self.attention_dropout = config.dropout

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        B, T, C = x.shape
        qkv = self.c_attn(x).reshape(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # three of [B, H, T, D]
        if cache is None:
            y = ops.causal_attention(q, k, v, self.attention_dropout if self.training else 0.0)
        else:
            y = cache.attend(q, k, v)
        return self.dropout(self.c_proj(y.swapaxes(1, 2).reshape(B, T, C)))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)
        self.gelu = GELU[config.gelu]

    def __call__(self, x: mx.array) -> mx.array:
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, LAYER_NORM_EPS, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, LAYER_NORM_EPS, bias=config.bias)
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


def flat(tree: Any) -> dict[str, mx.array]:
    """Return a tree of arrays (parameters, gradients, an optimiser's state) as one dictionary with dotted names."""
    return cast(dict[str, mx.array], tree_flatten(tree, destination={}))


def waves(T: int, C: int) -> mx.array:
    """Return a position table [T, C]: sines, then cosines, of C/2 frequencies falling from 1 to 1/10,000.

    Vaswani et al. 2017, section 3.5, at a root mean square that AdamW's first noisy steps do not drown.
    """
    frequencies = 10_000 ** (-mx.arange(0, C, 2) / C)
    angles = mx.arange(T)[:, None] * frequencies
    return (WAVES_RMS * math.sqrt(2) * mx.concatenate([mx.sin(angles), mx.cos(angles)], axis=1))[:, :C]


class GPT(nn.Module):
    """The model. Draws its weights from MLX's global generator: call `mx.random.seed` first."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = Dropout(config.dropout)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.n_embd, LAYER_NORM_EPS, bias=config.bias)
        self.update(tree_map_with_path(self._initial, self.parameters()))

    def _initial(self, path: str, value: mx.array) -> mx.array:
        if path == "wpe.weight" and self.config.position_init == "waves":
            return waves(*value.shape)
        if value.ndim < 2:
            return value if path.endswith("weight") else mx.zeros_like(value)
        residual = math.sqrt(2 * self.config.n_layer) if path.endswith("c_proj.weight") else 1
        return mx.random.normal(value.shape, scale=INIT_STD / residual)

    def __call__(self, ids: mx.array, caches=None, positions: mx.array | None = None) -> mx.array:
        """Return logits [B, T, V] for `ids` [B, T] (integers below vocab_size).

        `positions` [B, T] or [T], below block_size, is 0..T-1 when not given. `caches` holds one object a layer whose
        `attend(q, k, v)` keeps the keys and values it sees (see `decode`).
        """
        if positions is None:
            positions = mx.arange(ids.shape[1])
        x = self.dropout(self.wte(ids) + self.wpe(positions))  # [B, T, C]
        for layer, block in enumerate(self.h):
            x = block(x, caches[layer] if caches else None)
        return self.wte.as_linear(self.ln_f(x))

    def named(self) -> dict[str, mx.array]:
        """Return the parameters by their dotted names, as they stand in a checkpoint."""
        return flat(self.parameters())

    def n_params(self, positions: bool = True) -> int:
        """Count the parameters, tied ones once; `positions=False` leaves the position table out, as nanoGPT counts."""
        total = sum(v.size for v in self.named().values())
        return total if positions else total - self.wpe.weight.size
