"""Train the pocket preset within a number of seconds: the speed of this machine decides how many characters it sees."""

from pathlib import Path

from gatsby_mlx.config import TrainConfig, changed, preset
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.speed import measure_speed

PRESET = "pocket"
EVALUATION_SHARE = 0.04  # of the training time
MIN_CHARS, MAX_CHARS = 150_000, 12_000_000
LR = 1.5e-3  # above the preset's: a small vocabulary bears it (see docs/results.md)
SHORT_SHARE = 0.15  # of the characters, seen in short sequences


def characters_in(seconds: float, chars_per_s: float) -> int:
    """Return how many characters to train on in `seconds`, in thousands, from 150,000 to 12 million.

    >>> characters_in(250, 5_000)
    1200000
    """
    chars = chars_per_s * seconds * (1 - EVALUATION_SHARE)
    return int(min(MAX_CHARS, max(MIN_CHARS, chars)) // 1000 * 1000)


def recipe(chars: int, seed: int) -> TrainConfig:
    """Return the pocket preset's recipe for `chars` characters; it reads no dial during training."""
    return changed(
        preset(PRESET).training,
        lr=LR,
        max_chars=chars,
        short_chars=int(SHORT_SHARE * chars),
        warmup_chars=chars // 25,
        eval_every_chars=chars // 6 + 1,
        dial_topics=0,
        seed=seed,
    )


def speed_of(corpus: Corpus) -> float:
    """Return how many characters per second the pocket preset trains on here. The measurement takes some 10 s."""
    chosen = preset(PRESET)
    return measure_speed(corpus, chosen.model, chosen.training, SHORT_SHARE)


def timed_run(corpus: Corpus, out: Path, seconds: float, chars_per_s: float, seed: int = 1925) -> Run:
    """Return the run that trains the pocket preset on `corpus` for about `seconds`, at the speed `chars_per_s`."""
    config = recipe(characters_in(seconds, chars_per_s), seed)
    return Run(corpus, preset(PRESET).model, config, out, PRESET)
