"""The speed of training on this machine, measured before a run that has little time."""

import time
from dataclasses import replace

from gatsby_mlx import device
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import optim
from gatsby_mlx.training.loop import TrainingData
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.sequences import TrainingSequences
from gatsby_mlx.training.step import TrainingStep

WARM_UP_BATCHES = 256  # among so many micro-batches there is one of every width


def measure_speed(corpus: Corpus, shape: GPTConfig, config: TrainConfig, short: float, seconds: float = 4.0) -> float:
    """Return the characters per second that training sees here, a share `short` (0 to 1) of them on short sequences.

    Run real steps on a throwaway model, `seconds` on each kind of sequence. The first step of each width, which traces
    and compiles, is not counted.
    """
    tokenizer = CharTokenizer(corpus.alphabet)
    data = TrainingData(corpus, tokenizer, shape.block_size, replace(config, short_chars=1))
    model = GPT(replace(shape, vocab_size=len(tokenizer)))
    optimizer = optim.build(config, model)
    n_micro = max(1, config.batch_chars // config.micro_chars)

    def speed(step: TrainingStep, workers: Workers, sequences: TrainingSequences) -> float:
        for batch in {b.ids.shape: b for b in map(sequences.micro_batch, range(WARM_UP_BATCHES))}.values():
            workers.gradients([(0, batch)] * workers.n)
        chars, k = 0, 0
        step([(0, sequences.micro_batch(0))] * n_micro)
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            batches = [(k + i, sequences.micro_batch(k + i)) for i in range(n_micro)]
            step(batches)
            chars += sum(batch.n_targets for _, batch in batches)
            k += n_micro
        return chars / (time.monotonic() - start)

    with device.limited_cache(), Workers(model, dtype=config.dtype) as workers:
        step = TrainingStep(model, optimizer, workers, config.grad_clip)
        speeds = [speed(step, workers, sequences) for sequences in (data.short, data.sequences)]
    return 1 / (short / speeds[0] + (1 - short) / speeds[1])
