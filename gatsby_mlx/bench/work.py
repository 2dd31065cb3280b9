"""What is measured, as plain values that are sent to both peers, and the arithmetic behind the figures.

>>> work = TrainWork()
>>> round(train_flops(work.model) / 1e6)  # MFLOP for a character of a training step, forward and backward
71
"""

from bisect import bisect_right
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gatsby_mlx.config import DTYPES, GPTConfig
from gatsby_mlx.errors import UsageError

DEVICES = ("gpu", "cpu", "mps", "cuda")
STORY_CHARS = 480  # the length in which the baseline counts mentions
SWEEP = (3, 5, 6)  # topics, levels and seeds of the baseline's dial sweep


@dataclass(frozen=True)
class Settings:
    """How to measure.

    `pairs` is the number of rounds of each peer and `round_s` about how long a round takes. `device` is "" for each
    framework's default. `against` is "torch", "none", or "auto", which is PyTorch if it is installed.
    Raises UsageError for a value out of range.
    """

    pairs: int = 10
    round_s: float = 2.0
    device: str = ""
    against: str = "auto"
    compile_torch: bool = False

    def __post_init__(self):
        if self.pairs < 1 or self.round_s <= 0:
            raise UsageError(f"A bench needs 1 or more pairs and more than 0 s, not {self.pairs} and {self.round_s} s")
        if self.device not in ("", *DEVICES):
            raise UsageError(f"The device must be one of {', '.join(DEVICES)}, not {self.device!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a bench document holds them."""
        content = asdict(self)
        content["turn_s"] = content.pop("round_s")
        return content


@dataclass(frozen=True)
class TrainWork:
    """Training steps of `model` on `batch` sequences of `context` characters: AdamW, gradients clipped at norm 1.

    Raises UsageError for a value out of range.
    """

    model: GPTConfig = field(default_factory=lambda: GPTConfig(block_size=512, dropout=0.2))
    batch: int = 4
    context: int = 512
    dtype: str = "float32"
    lr: float = 1e-3

    def __post_init__(self):
        if min(self.batch, self.context) < 1 or self.dtype not in DTYPES:
            given = f"{self.batch} x {self.context}, {self.dtype}"
            raise UsageError(f"Batch and context must be 1 or more, the dtype one of {', '.join(DTYPES)}, not {given}")
        if self.context > self.model.block_size:
            message = f"A sequence of {self.context} is longer than the model's context of {self.model.block_size}"
            raise UsageError(message, f"Try --context {self.model.block_size}")

    @property
    def chars(self) -> int:
        """Characters in a step."""
        return self.batch * self.context

    @property
    def name(self) -> str:
        """The name of its result in a document."""
        dropout = f"dropout {self.model.dropout:g}"
        return f"train {n_params(self.model) / 1e6:.1f} M, {self.batch} x {self.context}, {self.dtype}, {dropout}"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "TrainWork":
        """Return the work that `to_json` wrote."""
        return cls(**{**content, "model": GPTConfig(**content["model"])})


def n_params(c: GPTConfig) -> int:
    """Return the number of parameters without the position table and the norms, as the baseline counts them."""
    return c.n_layer * 12 * c.n_embd**2 + c.vocab_size * c.n_embd


def forward_flops(c: GPTConfig, context: int) -> float:
    """Return the floating-point operations for one character that attends to `context` characters before it.

    These are two for each parameter that multiplies it, and in each layer 2 C per attended character for the scores and
    as many for the values (Kaplan et al. 2020, section 2.1, who give the forward pass as 2N + 2 L T C for both).
    """
    return 2 * n_params(c) + 4 * c.n_layer * c.n_embd * context


def train_flops(c: GPTConfig, context: int | None = None) -> float:
    """Return the operations for one character of a training step: three forward passes over half a context."""
    return 3 * forward_flops(c, (context or c.block_size) // 2)


def step_bytes(work: TrainWork) -> int:
    """Estimate the bytes of a training step where attention is not fused and nothing is compiled: an upper bound.

    Besides the activations there are 6 copies of the weights, in the optimizer and the gradients. A test compares this
    with what MLX allocates.
    """
    return work.chars * work.model.activation_bytes(work.context) + 24 * n_params(work.model)


def check_fits(work: TrainWork, available_bytes: int, peers: int = 1) -> None:
    """Raise UsageError, with a batch that fits, if `work` needs more than `available_bytes` (0: unknown).

    Each of the `peers` keeps its memory while the other one is measured.
    """
    need = peers * step_bytes(work)
    if available_bytes and need > available_bytes:
        smaller = range(1, work.batch)
        fits = bisect_right(smaller, available_bytes, key=lambda b: peers * step_bytes(replace(work, batch=b)))
        hint = f"Try --batch {fits}" if fits else "Try a smaller --context or --preset"
        size, needed, free = f"{work.batch} x {work.context}", f"{need / 1e9:.1f} GB", f"{available_bytes / 1e9:.1f}"
        both = " for MLX and PyTorch together" if peers > 1 else ""
        message = f"{size} needs about {needed}{both} and {free} are free"
        raise UsageError(message, hint)
