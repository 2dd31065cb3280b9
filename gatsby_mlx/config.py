"""Settings as small frozen values: the model's shape, a training recipe, and the presets that pair them.

>>> preset("seed").model.n_head, preset("seed").training.lr
(6, 0.001)
"""

import math
from dataclasses import dataclass, replace

from gatsby_mlx.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")
TEMP = 0.5  # the temperature of a story when none is named: what ships spells best a little cool


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. `block_size` is the context in characters; `gelu` is `tanh` or `erf`.

    `position_init` is how the learned position table begins: `normal` as nanoGPT's, or `waves`, sines and cosines of
    falling frequency, from which a head finds "the character before" once for all positions.
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
            told = f"A model needs sizes of 1 or more and n_embd a multiple of n_head, not {self}"
            raise UsageError(told, f"Take a preset: {', '.join(PRESETS)}")
        if self.position_init not in ("normal", "waves"):
            raise UsageError(f"position_init is normal or waves, not {self.position_init!r}")
        if self.gelu not in ("tanh", "erf") or not 0 <= self.dropout < 1:
            raise UsageError(f"gelu is tanh or erf and dropout in [0, 1), not {self.gelu!r} and {self.dropout}")


@dataclass(frozen=True)
class TrainConfig:
    """A recipe. Schedules run in characters seen, so a step's size may change without changing the curve.

    `rows` is `story` (a row is one document from its first character) or `window` (the seed's random windows);
    `split` is `topic` or `tail` (the seed's last tenth). `batch_chars` is about how many characters one optimiser step
    sees, `micro_chars` how many go through the model at once (gradients are accumulated over them), padding included.
    `optimizer` is `muon` (hidden matrices, at `muon_ratio` times `lr`; AdamW on the rest) or `adamw`. The first
    `short_chars` characters are seen on rows cut to `short_width`: more steps for the same work while the model learns
    what stands next to what (sequence length warm-up, Li et al. 2021). In a share `swap` (0 to 1) of the story rows a
    topic word is swapped for a made-up one, in topic and story alike, which can only be copied. An evaluation reads
    about `eval_chars` characters of the validation side, the same ones each time, and a dial over `dial_topics` of its
    topics (0: none). `dtype` is what a step's forward and backward pass compute in; weights, their gradients' sums and
    the optimiser stay in float32, and so do evaluations.
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
    name: str
    model: GPTConfig
    training: TrainConfig


SMALL = GPTConfig(n_layer=6, n_head=4, n_embd=256, position_init="waves")
PRESETS = {
    p.name: p
    for p in (
        # The best that this project knows at the seed's size.
        Preset(
            "story",
            GPTConfig(dropout=0.1, position_init="waves"),
            TrainConfig(batch_chars=4_096, micro_chars=2_048, short_chars=800_000),
        ),
        # What ships: under half of `story`, so that two CPU cores train it in two hours and tell with it at once.
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
        # To go on from a checkpoint, whose shape it keeps, on stories of another kind: low rates, few passes.
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
        # What two CPU cores bring furthest within the demo's minutes (benchmarks/RESULTS.md).
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
