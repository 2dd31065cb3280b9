"""How fast training is on this machine, measured before a run whose time is short."""

import time
from dataclasses import replace
from pathlib import Path

from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.workers import Workers


def measure_speed(corpus: Corpus, model: GPTConfig, config: TrainConfig, short: float, seconds: float = 4.0) -> float:
    """Return how many characters a second training sees here, `short` (0 to 1) of them on short rows.

    Runs real steps of a throwaway run, `seconds` on each kind of row; a first step for each width of row, which traces
    and compiles, is left out.
    """
    run = Run(corpus, model, replace(config, short_chars=1, dial_topics=0), Path("unused"))
    run.progress.chars = 1
    speeds = []
    with Workers(run.model_config, dtype=config.dtype) as workers:
        for rows in (run.short_rows, run.rows):
            run.rows = rows
            shapes = {rows.micro_batch(k).ids.shape: k for k in range(256)}
            for k in shapes.values():
                pair = [(0, rows.micro_batch(k))] * workers.n
                workers.gradients(run.model.trainable_parameters(), pair)
            run._step(workers, 0.0)
            first, begun = run.progress.chars, time.monotonic()
            while time.monotonic() - begun < seconds:
                run._step(workers, begun)
            speeds.append((run.progress.chars - first) / (time.monotonic() - begun))
    return 1 / (short / speeds[0] + (1 - short) / speeds[1])
