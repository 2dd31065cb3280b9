"""Settings as small frozen values: the model's shape, a training recipe, and the presets that pair them.

>>> preset("seed").model.n_head, preset("seed").training.lr
(6, 0.001)
"""

import math
from dataclasses import dataclass, replace

from gatsby_mlx.errors import UsageError


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. `block_size` is the context in characters; `gelu` is `tanh` or `erf`."""

    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    block_size: int = 1024
    vocab_size: int = 96
    dropout: float = 0.0
    bias: bool = False
    gelu: str = "tanh"

    def __post_init__(self):
        sizes = (self.n_layer, self.n_head, self.n_embd, self.block_size, self.vocab_size)
        if min(sizes) < 1 or self.n_embd % self.n_head:
            told = f"A model needs sizes of 1 or more and n_embd a multiple of n_head, not {self}"
            raise UsageError(told, f"Take a preset: {', '.join(PRESETS)}")
        if self.gelu not in ("tanh", "erf") or not 0 <= self.dropout < 1:
            raise UsageError(f"gelu is tanh or erf and dropout in [0, 1), not {self.gelu!r} and {self.dropout}")


@dataclass(frozen=True)
class TrainConfig:
    """A recipe. Schedules run in characters seen, so a step's size may change without changing the curve.

    `rows` is `story` (a row is one document from its first character) or `window` (the seed's random windows);
    `split` is `topic` or `tail` (the seed's last tenth). `batch_chars` is about how many characters one optimiser step
    sees, `micro_chars` how many go through the model at once (gradients are accumulated over them), padding included.
    `optimizer` is `muon` (hidden matrices; AdamW on the rest) or `adamw`; both take `lr` as their peak.
    """

    rows: str = "story"
    split: str = "topic"
    optimizer: str = "muon"
    lr: float = 3e-3
    min_lr_ratio: float = 0.1
    warmup_chars: int = 200_000
    max_chars: int = 8_000_000
    batch_chars: int = 8_192
    micro_chars: int = 4_096
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    muon_momentum: float = 0.95
    grad_clip: float = 1.0
    eval_every_chars: int = 400_000
    seed: int = 1925

    def __post_init__(self):
        choices = {"rows": ("story", "window"), "split": ("topic", "tail"), "optimizer": ("muon", "adamw")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")
        for name in ("max_chars", "batch_chars", "micro_chars", "eval_every_chars"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is 1 or more, not {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"A learning rate is a number above 0, not {self.lr}", "Try --lr 0.001")


@dataclass(frozen=True)
class Preset:
    name: str
    model: GPTConfig
    training: TrainConfig


PRESETS = {
    p.name: p
    for p in (
        # The best that this project knows at the seed's size.
        Preset("story", GPTConfig(dropout=0.1), TrainConfig()),
        # The largest that two CPU cores bring to readable text within the demo's minutes (benchmarks/RESULTS.md).
        Preset(
            "pocket",
            GPTConfig(n_layer=4, n_head=4, n_embd=128),
            TrainConfig(max_chars=3_000_000, warmup_chars=100_000, eval_every_chars=300_000),
        ),
        # gatsby-nanogpt-2 as published: nanoGPT's recipe to the letter.
        Preset(
            "seed",
            GPTConfig(block_size=512, dropout=0.2, gelu="erf"),
            TrainConfig(
                rows="window",
                split="tail",
                optimizer="adamw",
                lr=1e-3,
                warmup_chars=100 * 64 * 512,
                max_chars=5000 * 64 * 512,
                batch_chars=64 * 512,
                eval_every_chars=250 * 64 * 512,
            ),
        ),
    )
}


def preset(name: str) -> Preset:
    """Return the preset called `name`; raise UsageError, naming those there are, if there is none."""
    if name not in PRESETS:
        raise UsageError(f"There is no preset {name!r}", f"Choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def changed(config, **values):
    """Return `config` with every value that is not None put in place of its own."""
    return replace(config, **{k: v for k, v in values.items() if v is not None})
