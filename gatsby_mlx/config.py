"""Settings as small frozen values: the model's shape, a training recipe, and the presets that pair them.

>>> preset("baseline").model.n_head, preset("baseline").training.lr
(6, 0.001)
>>> preset("seed") is preset("baseline")
True
"""

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gatsby_mlx.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. `block_size` is the context in characters; `gelu` is `tanh` or `erf`.

    `position_init` is how the learned position table is initialized. `normal` is nanoGPT's way. `waves` are sines and
    cosines of falling frequency: a head can learn "the previous character" for all positions at once.
    Raises UsageError for values that are not a model.
    """

    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    block_size: int = 1024
    vocab_size: int = 96
    dropout: float = 0.0
    bias: bool = False
    gelu: str = "tanh"
    position_init: str = "normal"

    def __post_init__(self):
        sizes = (self.n_layer, self.n_head, self.n_embd, self.block_size, self.vocab_size)
        if min(sizes) < 1 or self.n_embd % self.n_head:
            message = f"A model needs sizes of 1 or more and n_embd a multiple of n_head, not {self}"
            raise UsageError(message, f"Use a preset: {', '.join(PRESETS)}")
        if self.position_init not in ("normal", "waves"):
            raise UsageError(f"position_init is normal or waves, not {self.position_init!r}")
        if self.gelu not in ("tanh", "erf") or not 0 <= self.dropout < 1:
            raise UsageError(f"gelu is tanh or erf and dropout in [0, 1), not {self.gelu!r} and {self.dropout}")

    def activation_bytes(self, context: int) -> int:
        """Estimate the bytes that a training step takes for each character of sequences of `context`: an upper bound.

        In float32, where attention is not fused and nothing is compiled, a layer keeps about 21 numbers for each
        channel and 3 for each pair of a head and a position for the backward pass; dropout adds 3 and 1.5, its masks
        among them. The backward pass of one layer needs 16 and 2 more, the logits 4 for each id of the vocabulary.
        """
        wide, square = (24, 4.5) if self.dropout else (21, 3)
        channels, pairs = self.n_embd, self.n_head * context
        kept = self.n_layer * (wide * channels + square * pairs)
        return int(4 * (kept + 16 * channels + 2 * pairs + 4 * self.vocab_size))


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe. Schedules count characters seen, so they do not depend on the batch size.

    - `rows`: `story` (each sequence is one document from its first character) or `window` (random windows of the text,
      as the baseline has them).
    - `split`: `topic` (no topic is on both sides) or `tail` (the last tenth of the text, as the baseline has it).
    - `optimizer`: `muon` (hidden matrices at `muon_ratio` times `lr`, AdamW for the rest) or `adamw`.
    - `batch_chars` and `micro_chars`: about how many characters an optimizer step and one forward pass take, padding
      included. Gradients are accumulated over the forward passes of a step.
    - `short_chars`, `short_width`: the first `short_chars` characters are in sequences cut to `short_width`, for more
      steps in the same time while the model learns local patterns (sequence length warm-up, Li et al. 2021).
    - `swap`: in this share (0 to 1) of story sequences a made-up word replaces a topic word, in topic and story alike,
      so that the model has to copy it (word substitution).
    - `eval_chars`, `dial_topics`: a validation reads about `eval_chars` characters, the same ones each time, and
      measures the dial over `dial_topics` topics (0: no dial).
    - `extended_at`, `extended_lr`: the characters that a run had seen when it was extended, and its learning rate then.
      From there the rate rises to what the schedule to `max_chars` has (see `optim`).
    - `dtype`: of a step's forward and backward pass. Weights, accumulated gradients, the optimizer and validations are
      in float32.

    Raises UsageError for a value out of range.
    """

    rows: str = "story"
    split: str = "topic"
    optimizer: str = "muon"
    lr: float = 1.5e-3
    muon_ratio: float = 8.0
    min_lr_ratio: float = 0.1
    warmup_chars: int = 200_000
    max_chars: int = 8_000_000
    batch_chars: int = 8_192
    micro_chars: int = 4_096
    short_chars: int = 0
    short_width: int = 256
    swap: float = 0.0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    muon_momentum: float = 0.9
    grad_clip: float = 1.0
    eval_every_chars: int = 400_000
    eval_chars: int = 200_000
    dial_topics: int = 6
    seed: int = 1925
    dtype: str = "float32"
    extended_at: int = 0
    extended_lr: float = 0.0

    def __post_init__(self):
        choices = {"rows": ("story", "window"), "split": ("topic", "tail"), "optimizer": ("muon", "adamw")}
        for name, known in {**choices, "dtype": DTYPES}.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")
        for name in ("max_chars", "batch_chars", "micro_chars", "eval_every_chars", "eval_chars"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is 1 or more, not {getattr(self, name)}")
        if not 0 <= self.swap <= 1:
            raise UsageError(f"swap is a share from 0 to 1, not {self.swap}")
        if self.dial_topics < 0:
            raise UsageError(f"dial_topics is 0 or more, not {self.dial_topics}")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"A learning rate is a number above 0, not {self.lr}", "Try --lr 0.001")


@dataclass(frozen=True)
class Preset:
    """A model and how to train it, under a name."""

    name: str
    model: GPTConfig
    training: TrainConfig


SMALL = GPTConfig(n_layer=6, n_head=4, n_embd=256, position_init="waves")
PRESETS = {
    p.name: p
    for p in (
        # The best recipe at the baseline's size.
        Preset(
            "story",
            GPTConfig(dropout=0.1, position_init="waves"),
            TrainConfig(batch_chars=4_096, micro_chars=2_048, short_chars=800_000),
        ),
        # The shipped model: under half the size of `story`. Two CPU cores train it in two hours, and it is fast to run.
        Preset(
            "small",
            SMALL,
            TrainConfig(
                lr=1.1e-3,
                max_chars=12_000_000,
                batch_chars=2_048,
                micro_chars=1_024,
                short_chars=800_000,
                swap=0.5,
                min_lr_ratio=0.02,
                eval_every_chars=500_000,
                eval_chars=60_000,
            ),
        ),
        # To continue from a checkpoint, in its shape, on other stories: a low learning rate and few passes.
        Preset(
            "tune",
            SMALL,
            TrainConfig(
                lr=5e-4,
                max_chars=4_000_000,
                batch_chars=2_048,
                micro_chars=1_024,
                swap=0.5,
                min_lr_ratio=0.02,
                eval_chars=60_000,
            ),
        ),
        # The model that gets best within the demo's minutes on two CPU cores (docs/results.md).
        Preset(
            "pocket",
            GPTConfig(n_layer=2, n_head=2, n_embd=128, position_init="waves"),
            TrainConfig(
                lr=1e-3,
                min_lr_ratio=0.02,
                max_chars=3_000_000,
                warmup_chars=120_000,
                batch_chars=1_024,
                micro_chars=512,
                short_chars=450_000,
                eval_every_chars=300_000,
                eval_chars=40_000,
                dial_topics=2,
            ),
        ),
        # gatsby-nanogpt-2 as published, with nanoGPT's recipe unchanged.
        Preset(
            "baseline",
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


ALIASES = {"seed": "baseline"}  # earlier names, which stay valid
PRESET_NAMES = (*PRESETS, *ALIASES)  # what a preset can be called: the choices of the command line

Config = TypeVar("Config", GPTConfig, TrainConfig)


def preset(name: str) -> Preset:
    """Return the preset with this name or alias; raise UsageError, with the valid names, if there is none."""
    known = ALIASES.get(name, name)
    if known not in PRESETS:
        raise UsageError(f"There is no preset {name!r}", f"Choose one of {', '.join(PRESETS)}")
    return PRESETS[known]


def changed(config: Config, **values: Any) -> Config:
    """Return a copy of `config` with these values; a value of None leaves the field unchanged.

    >>> changed(preset("pocket").training, lr=0.002, seed=None).lr
    0.002
    """
    return replace(config, **{k: v for k, v in values.items() if v is not None})
