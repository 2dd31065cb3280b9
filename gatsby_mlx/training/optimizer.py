"""Muon for the hidden matrices, AdamW for the rest, and the learning rate as a function of characters seen."""

import math

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

from gatsby_mlx.config import TrainConfig
from gatsby_mlx.model.gpt import flat

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024, "Muon", the quintic's coefficients
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(g: mx.array) -> mx.array:
    """Return the matrix nearest to `g` [rows, columns] whose singular values are about 1 (0.7 to 1.2), in float32.

    Newton-Schulz iteration of degree five (Jordan et al. 2024, "Muon: an optimizer for hidden layers"): a step
    multiplies x by p = aI + bs + cs^2, where s is x's Gram matrix. The factors are gathered on the short side and meet
    x once, at the end, since the next Gram matrix is psp: a third less work for the matrices of a layer, and the same
    result within 1e-3 of its largest element (tested).
    """
    a, b, c = NEWTON_SCHULZ
    tall = g.shape[0] > g.shape[1]
    x = (g.T if tall else g).astype(mx.float32)
    x = x / (mx.linalg.norm(x) + 1e-7)
    s, factors = x @ x.T, mx.eye(min(g.shape))
    for step in range(NEWTON_SCHULZ_STEPS):
        p = mx.addmm(s, s, s, c, b)  # without aI, which the products below add
        factors = mx.addmm(factors, p, factors, 1, a)
        if step < NEWTON_SCHULZ_STEPS - 1:
            half = mx.addmm(s, p, s, 1, a)
            s = mx.addmm(half, half, p, 1, a)
    x = factors @ x
    return x.T if tall else x


class Muon(optim.Optimizer):
    """Momentum, orthogonalised, with decoupled weight decay, for matrices only.

    The update is scaled by 0.2 sqrt(max(rows, columns)), which gives it the root mean square of an AdamW update (Liu
    et al. 2025, "Muon is scalable", section 2.2). MLX's own Muon couples the decay to the gradient, scales otherwise.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.95, weight_decay: float = 0.1):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.momentum, self.weight_decay = momentum, weight_decay

    def init_single(self, parameter: mx.array, state: dict) -> None:
        state["m"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        m = self.momentum * state["m"] + gradient
        state["m"] = m
        update = orthogonalise(gradient + self.momentum * m)  # Nesterov's form
        scale = 0.2 * math.sqrt(max(parameter.shape))
        lr = self.learning_rate
        return parameter * (1 - lr * self.weight_decay) - lr * scale * update


def build(config: TrainConfig) -> optim.MultiOptimizer:
    """Return the optimiser of `config`: matrices decay, vectors (norms, biases) do not, as in nanoGPT.

    With "muon" the hidden matrices go to Muon; the two embedding tables stay with AdamW (bias correction on).
    """

    def adamw(decay: float) -> optim.AdamW:
        betas = [config.beta1, config.beta2]
        return optim.AdamW(config.lr, betas=betas, weight_decay=decay, bias_correction=True)

    rest = [adamw(config.weight_decay), adamw(0.0)]

    def is_matrix(path: str, value: mx.array) -> bool:
        return value.ndim == 2

    if config.optimizer == "adamw":
        return optim.MultiOptimizer(rest, [is_matrix])

    def is_hidden(path: str, value: mx.array) -> bool:
        return value.ndim == 2 and path.startswith("h.")

    muon = Muon(config.muon_ratio * config.lr, config.muon_momentum, config.weight_decay)
    return optim.MultiOptimizer([muon, *rest], [is_hidden, is_matrix])


def set_learning_rate(optimizer: optim.MultiOptimizer, lr: float, muon_ratio: float) -> None:
    """Put `lr` in place in each part (Muon's times its ratio), as a 0-d array: a number would be frozen when traced."""
    for part in optimizer.optimizers:
        part.learning_rate = mx.array(lr * (muon_ratio if isinstance(part, Muon) else 1), mx.float32)


def learning_rate(config: TrainConfig, chars: int) -> float:
    """Return the rate after `chars` characters: linear warm-up, then a cosine to `min_lr_ratio` of the peak.

    The first step takes a step's worth of the warm-up, as nanoGPT's (it + 1) / (warmup_iters + 1) does.
    """
    if chars < config.warmup_chars:
        return config.lr * (chars + config.batch_chars) / (config.warmup_chars + config.batch_chars)
    progress = (chars - config.warmup_chars) / max(1, config.max_chars - config.warmup_chars)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


def clip(gradients, max_norm: float):
    """Return the gradients scaled so that their global norm is at most `max_norm`, and the norm before it (0-d)."""
    norm = mx.sqrt(sum((mx.square(g).sum() for g in flat(gradients).values()), mx.array(0.0)))
    scale = mx.minimum(max_norm / (norm + 1e-6), 1.0)
    return tree_map(lambda g: g * scale, gradients), norm


def updater(model: nn.Module, optimizer: optim.Optimizer, max_norm: float, compiled: bool):
    """Return update(gradients, n): apply gradients summed over `n` (0-d) targets, clipped; it returns their norm.

    Build it anew when the optimiser's state has been replaced, since a compiled one holds on to the arrays it was
    traced with.
    """
    state = [model.state, optimizer.state]

    def update(gradients, n_targets):
        gradients, norm = clip(tree_map(lambda g: g / n_targets, gradients), max_norm)
        optimizer.update(model, gradients)
        return norm

    return mx.compile(update, inputs=state, outputs=state) if compiled else update
