"""The optimizers, Muon for hidden matrices and AdamW for the rest, and the learning rate schedule."""

import math
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from gatsby_mlx.config import TrainConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024, "Muon", the quintic's coefficients
NEWTON_SCHULZ_STEPS = 5


def orthogonalize(g: mx.array) -> mx.array:
    """Return the matrix nearest to `g` [rows, columns] whose singular values are about 1 (0.7 to 1.2), in float32.

    This is the Newton-Schulz iteration of degree five (Jordan et al. 2024, "Muon: an optimizer for hidden layers"). A
    step multiplies x by p = aI + bs + cs^2, where s is x's Gram matrix. The next Gram matrix is psp, so the factors can
    be multiplied on the short side and applied to x once, at the end. That is a third less work for the matrices of a
    layer, and the same result within 1e-3 of its largest element (tested).
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
    """Orthogonalized momentum with decoupled weight decay, for matrices only.

    The update is scaled by 0.2 sqrt(max(rows, columns)), which gives it the root mean square of an AdamW update (Liu
    et al. 2025, "Muon is scalable", section 2.2). MLX's Muon couples the decay to the gradient and scales differently.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.95, weight_decay: float = 0.1):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self.momentum, self.weight_decay = momentum, weight_decay

    def init_single(self, parameter: mx.array, state: dict[str, mx.array]) -> None:
        """Set the momentum of a parameter to zero."""
        state["m"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        """Return the updated parameter; update its momentum in `state`."""
        m = self.momentum * state["m"] + gradient
        state["m"] = m
        update = orthogonalize(gradient + self.momentum * m)  # Nesterov's form
        scale = 0.2 * math.sqrt(max(parameter.shape))
        lr = self.learning_rate
        return parameter * (1 - lr * self.weight_decay) - lr * scale * update


def build(config: TrainConfig, model: nn.Module) -> optim.MultiOptimizer:
    """Return the optimizer of `config` for `model`, with its state initialized and a learning rate of 0.

    Matrices decay and vectors (norms, biases) do not, as in nanoGPT. With "muon", Muon updates the hidden matrices and
    AdamW, with bias correction, the two embedding tables and the vectors. Set the rate with `set_learning_rate`.
    """

    def adamw(decay: float) -> optim.AdamW:
        betas = [config.beta1, config.beta2]
        return optim.AdamW(config.lr, betas=betas, weight_decay=decay, bias_correction=True)

    rest = [adamw(config.weight_decay), adamw(0.0)]

    def is_matrix(path: str, value: mx.array) -> bool:
        return value.ndim == 2

    def is_hidden(path: str, value: mx.array) -> bool:
        return value.ndim == 2 and path.startswith("h.")

    if config.optimizer == "adamw":
        optimizer = optim.MultiOptimizer(rest, [is_matrix])
    else:
        muon = Muon(config.muon_ratio * config.lr, config.muon_momentum, config.weight_decay)
        optimizer = optim.MultiOptimizer([muon, *rest], [is_hidden, is_matrix])
    optimizer.init(model.trainable_parameters())
    set_learning_rate(optimizer, 0.0, config.muon_ratio)
    mx.eval(model.state, optimizer.state)
    return optimizer


def set_learning_rate(optimizer: optim.MultiOptimizer, lr: float, muon_ratio: float) -> None:
    """Set the learning rate of each part: `lr`, and `muon_ratio` times that for Muon.

    It is a 0-d array, because a compiled update would keep a number as the constant of its trace.
    """
    for part in optimizer.optimizers:
        part.learning_rate = mx.array(lr * (muon_ratio if isinstance(part, Muon) else 1), mx.float32)


def learning_rate(config: TrainConfig, chars: int) -> float:
    """Return the learning rate after `chars` characters: linear warm-up, then a cosine to `min_lr_ratio` of the peak.

    The first step has one step's part of the warm-up, not 0, like nanoGPT's (it + 1) / (warmup_iters + 1). After an
    extension the rate moves, within `ramp_chars`, from where it stood to where the longer schedule
    is: warming up again before the second decay (Ibrahim et al. 2024, "Simple and scalable strategies to continually
    pre-train large language models", section 4).
    """
    if chars < config.warmup_chars:
        return config.lr * (chars + config.batch_chars) / (config.warmup_chars + config.batch_chars)
    progress = (chars - config.warmup_chars) / max(1, config.max_chars - config.warmup_chars)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    lr = config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)
    since, ramp = chars - config.extended_at, ramp_chars(config)
    if config.extended_at and since < ramp:
        lr = config.extended_lr + (lr - config.extended_lr) * since / ramp
    return lr


def ramp_chars(config: TrainConfig) -> int:
    """Return in how many characters an extended run is on its schedule: a warm-up, at most a tenth of the rest."""
    return min(config.warmup_chars, (config.max_chars - config.extended_at) // 10)


def extended(config: TrainConfig, chars: int, max_chars: int) -> TrainConfig:
    """Return the recipe of a run that goes on to `max_chars`, its schedule laid anew from `chars`, where it stands.

    >>> config = TrainConfig(lr=0.01, max_chars=1_000_000)
    >>> longer = extended(config, chars=1_000_000, max_chars=3_000_000)
    >>> [round(learning_rate(longer, chars), 5) for chars in (1_000_000, 1_100_000, 1_200_000, 3_000_000)]
    [0.001, 0.00445, 0.00745, 0.001]
    """
    return replace(config, max_chars=max_chars, extended_at=chars, extended_lr=learning_rate(config, chars))
