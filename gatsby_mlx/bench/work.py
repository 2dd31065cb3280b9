"""What is measured, as plain values that travel to both halves, and the arithmetic behind a figure.

>>> work = TrainWork()
>>> round(train_flops(work.model) / 1e6)  # a character of a training step, forward and backward
71
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from gatsby_mlx.config import DTYPES, GPTConfig
from gatsby_mlx.errors import UsageError

DEVICES = ("gpu", "cpu", "mps", "cuda")
STORY_CHARS = 480  # what the seed counts its mentions in
SWEEP = (3, 5, 6)  # topics, levels, seeds of the seed's own dial


@dataclass(frozen=True)
class Settings:
    """How to measure: how often, how long a turn lasts, where, and against what.

    `against` is "torch", "none", or "auto": PyTorch where it is installed.
    """

    pairs: int = 10
    turn_s: float = 2.0
    device: str = ""
    against: str = "auto"
    compile_torch: bool = False

    def __post_init__(self):
        if self.pairs < 1 or self.turn_s <= 0:
            raise UsageError(f"A bench needs a pair and time for it, not {self.pairs} and {self.turn_s} s")
        if self.device not in ("", *DEVICES):
            raise UsageError(f"A device is {', '.join(DEVICES)}, not {self.device!r}")


@dataclass(frozen=True)
class TrainWork:
    """Training steps of `model` on `batch` rows of `context` characters: AdamW, gradients clipped at 1."""

    model: GPTConfig = field(default_factory=lambda: GPTConfig(block_size=512, dropout=0.2))
    batch: int = 4
    context: int = 512
    dtype: str = "float32"
    lr: float = 1e-3

    def __post_init__(self):
        if min(self.batch, self.context) < 1 or self.dtype not in DTYPES:
            told = f"{self.batch} x {self.context}, {self.dtype}"
            raise UsageError(f"A batch and a context are 1 or more and a dtype {', '.join(DTYPES)}, not {told}")
        if self.context > self.model.block_size:
            told = f"A row of {self.context} is longer than the model's context of {self.model.block_size}"
            raise UsageError(told, f"Try --context {self.model.block_size}")

    @property
    def chars(self) -> int:
        """Characters in a step."""
        return self.batch * self.context

    @property
    def name(self) -> str:
        dropout = f"dropout {self.model.dropout:g}"
        return f"train {n_params(self.model) / 1e6:.1f} M, {self.batch} x {self.context}, {self.dtype}, {dropout}"


def plain(value: Any) -> dict[str, Any]:
    """Return a piece of work as a dictionary that JSON holds."""
    return asdict(value)


def train_work(content: dict[str, Any]) -> TrainWork:
    """Return what `plain` made of it."""
    return TrainWork(**{**content, "model": GPTConfig(**content["model"])})


def n_params(c: GPTConfig) -> int:
    """Count the parameters without the position table and the norms, as the seed counts."""
    return c.n_layer * 12 * c.n_embd**2 + c.vocab_size * c.n_embd


def forward_flops(c: GPTConfig, context: int) -> float:
    """Return the operations for one character with `context` characters before it in view.

    Two for each parameter that multiplies it, and in each layer 2 C a character in view for the scores and as much for
    the values (Kaplan et al. 2020, section 2.1, who give the forward pass as 2N + 2 L T C with both in a product).
    """
    return 2 * n_params(c) + 4 * c.n_layer * c.n_embd * context


def train_flops(c: GPTConfig, context: int | None = None) -> float:
    """Return the operations for one character of a training step: three forward passes, half a row in view."""
    return 3 * forward_flops(c, (context or c.block_size) // 2)


def step_bytes(work: TrainWork) -> int:
    """Return about how many bytes a training step needs: what the backward pass keeps, and four copies of the weights.

    A layer keeps some 20 arrays of [B, T, C] and, where attention is not fused, 3 of [B, H, T, T] (counted whole).
    """
    c = work.model
    kept = work.chars * (20 * c.n_embd + 3 * c.n_head * work.context) * c.n_layer + 3 * work.chars * c.vocab_size
    return 4 * (kept + 4 * n_params(c))


def check_fits(work: TrainWork, available_bytes: int) -> None:
    """Raise UsageError, naming the batch that would fit, for work that needs more memory than there is (0: unknown)."""
    need = step_bytes(work)
    if available_bytes and need > available_bytes:
        fits = next((b for b in range(work.batch - 1, 0, -1) if _with_batch(work, b) <= available_bytes), 0)
        cure = f"Try --batch {fits}" if fits else "Try a smaller --context or --preset"
        told = f"{work.batch} x {work.context} needs about {need / 1e9:.1f} GB and {available_bytes / 1e9:.1f} are free"
        raise UsageError(told, cure)


def _with_batch(work: TrainWork, batch: int) -> int:
    return step_bytes(TrainWork(work.model, batch, work.context, work.dtype))
