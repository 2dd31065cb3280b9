"""One process of a turn of `scale`: train as `gatsby train` does under mlx.launch, and write down the speed.

mlx.launch -n 2 --python PYTHON -- -m gatsby_mlx.bench.ranked JOB
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import gatsby_mlx.model  # noqa: F401  a fast BLAS first

# isort: split
import mlx.core as mx

from gatsby_mlx import device, shipped
from gatsby_mlx.bench.work import TrainWork, train_work
from gatsby_mlx.config import TrainConfig
from gatsby_mlx.corpus.load import load
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.ranks import Ranks

WARM = 2  # steps that are not counted: the first traces and compiles
NEVER = 1 << 50


def recipe(job: TrainWork, workers: int) -> TrainConfig:
    """Return a recipe of steps of the job's rows and no evaluation; a step has as many micro-batches as `workers`.

    At least two, and an even number that divides the rows, so that each of two processes has the same work.
    """
    n_micro = max(n for n in range(2, max(2, workers) + 1, 2) if job.batch % n == 0)
    return TrainConfig(
        rows="window",
        split="tail",
        lr=job.lr,
        batch_chars=job.chars,
        micro_chars=job.chars // n_micro,
        max_chars=NEVER,
        eval_every_chars=NEVER,
        dial_topics=0,
        dtype=job.dtype,
    )


def train(job: TrainWork, seconds: float, folder: Path) -> dict[str, Any]:
    """Train for `seconds` after warming up; return {chars_per_s of all, processes, workers of each, first}."""
    ranks = Ranks()
    run = Run(load(shipped.corpus()), job.model, recipe(job, device.n_workers()), folder, "bench", ranks)
    ends: list[tuple[float, int]] = []  # of each step: when, and the characters seen by then
    for _ in run.events(lambda: len(ends) > WARM + 1 and ends[-1][0] - ends[WARM - 1][0] >= seconds):
        ends.append((time.perf_counter(), run.progress.chars))
    (begun, seen), (ended, chars) = ends[WARM - 1], ends[-1]
    workers = max(1, device.n_workers() // ranks.local)
    speed = (chars - seen) / (ended - begun)
    return {"chars_per_s": speed, "processes": ranks.size, "workers": workers, "first": ranks.first}


def main(text: str) -> None:
    """Do what a JSON text says; the first process writes its answer to the file `out`."""
    told = json.loads(text)
    if told["device"] == "cpu":
        mx.set_default_device(mx.cpu)
    answer = train(train_work(told["job"]), told["seconds"], Path(told["folder"]))
    if answer.pop("first"):
        Path(told["out"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
