"""The speed of training on this machine, measured before a run: real steps on a throwaway model."""

import time
from dataclasses import replace

from gatsby_mlx import device
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import optim
from gatsby_mlx.training.loop import Run, TrainingData
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.sequences import MicroBatch, TrainingSequences
from gatsby_mlx.training.step import TrainingStep

WARM_UP_BATCHES = 256  # among so many micro-batches there is one of every width
FORWARD_SHARE = 1 / 3  # of a training step's work is its forward pass, which is what a validation does
LONG_FLOP = 1e12  # a run of fewer operations takes less than a minute or two, which is not worth measuring


def measure_speed(corpus: Corpus, shape: GPTConfig, config: TrainConfig, short: float, seconds: float = 4.0) -> float:
    """Return the characters per second that training sees here, a share `short` (0 to 1) of them on short sequences.

    Run real steps on a throwaway model, `seconds` on each kind of sequence. The first step of each width, which traces
    and compiles, is not counted.
    """
    tokenizer = CharTokenizer(corpus.alphabet)
    data = TrainingData(corpus, tokenizer, shape.block_size, replace(config, short_chars=1))
    model = GPT(replace(shape, vocab_size=len(tokenizer)))
    with device.limited_cache(), Workers(model, dtype=config.dtype) as workers:
        step = TrainingStep(model, optim.build(config, model), workers, config.grad_clip)
        speeds = [
            _speed(step, workers, _one_of_each_width(sequences), sequences, config, seconds)
            for sequences in (data.short, data.sequences)
        ]
    return 1 / (short / speeds[0] + (1 - short) / speeds[1])


def _one_of_each_width(sequences: TrainingSequences) -> list[MicroBatch]:
    return list({b.ids.shape: b for b in map(sequences.micro_batch, range(WARM_UP_BATCHES))}.values())


def _speed(
    step: TrainingStep,
    workers: Workers,
    warm_up: list[MicroBatch],
    sequences: TrainingSequences,
    config: TrainConfig,
    seconds: float,
) -> float:
    """Return characters per second over `seconds` of real steps, after a first step on each batch of `warm_up`.

    Only batches of a width that was warmed up are timed.
    """
    n_micro = max(1, config.batch_chars // config.micro_chars)
    widths = {batch.ids.shape for batch in warm_up}
    for batch in warm_up:
        workers.gradients([(0, batch)] * workers.n)
    step([(0, warm_up[0])] * n_micro)
    timed = [b for b in map(sequences.micro_batch, range(WARM_UP_BATCHES)) if b.ids.shape in widths]
    chars, k, start = 0, 0, time.monotonic()
    while time.monotonic() - start < seconds:
        batches = [(k + i, timed[(k + i) % len(timed)]) for i in range(n_micro)]
        step(batches)
        chars += sum(batch.n_targets for _, batch in batches)
        k += n_micro
    return chars / (time.monotonic() - start)


def is_long(run: Run) -> bool:
    """Return whether what `run` has left is worth measuring: about 6 operations for each parameter and character."""
    return 6 * run.model.n_params() * (run.config.max_chars - run.progress.chars) > LONG_FLOP


def seconds_left(run: Run, seconds: float = 2.0) -> tuple[float, float]:
    """Return about how many seconds `run` takes here from where it stands, and the characters per second.

    Real steps with the run's own sequences on a throwaway model, `seconds` for each kind of sequence; of those of many
    widths, the median one is timed. Validations are added as forward passes. The small dial is not.
    """
    c, data = run.config, run.data
    model = GPT(run.model_config)
    left = c.max_chars - run.progress.chars
    short = max(0, min(c.short_chars - run.progress.chars, left))
    with device.limited_cache(), Workers(model, dtype=c.dtype) as workers:
        step = TrainingStep(model, optim.build(c, model), workers, c.grad_clip)

        def speed(sequences: TrainingSequences) -> float:
            batches = sorted(_one_of_each_width(sequences), key=lambda batch: batch.ids.shape[1])
            return _speed(step, workers, batches[len(batches) // 2 :][:1], sequences, c, seconds)

        slow = speed(data.sequences)
        training_s = short / speed(data.short) + (left - short) / slow if short else left / slow
    n_evaluations = left // c.eval_every_chars + 1
    targets = sum(batch.n_targets for batch in data.story_validation)
    return training_s + FORWARD_SHARE * n_evaluations * targets / slow, left / training_s
