"""One process of a round of `scale`: train under mlx.launch as `gatsby train` does, and write the speed to a file.

mlx.launch -n 2 --python PYTHON -- -m gatsby_mlx.bench.launched REQUEST
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import gatsby_mlx.model  # noqa: F401  loads a fast BLAS before MLX

# isort: split
import mlx.core as mx

from gatsby_mlx import device, shipped
from gatsby_mlx.bench.work import TrainWork
from gatsby_mlx.config import TrainConfig
from gatsby_mlx.corpus.load import load
from gatsby_mlx.device.ranks import Ranks
from gatsby_mlx.training.loop import Run

N_WARMUP = 2  # steps that are not counted: the first one traces and compiles
NEVER = 1 << 50  # characters


def recipe(job: TrainWork, workers: int) -> TrainConfig:
    """Return a training configuration for the job's steps, without evaluation.

    A step has one micro-batch per worker, if that is an even number that divides the batch, else the next smaller one,
    and at least two. So each of two processes gets the same work.
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
    """Train for `seconds` after the warmup; return {chars_per_s of all, processes, workers of each, first}."""
    ranks = Ranks()
    run = Run(load(shipped.corpus()), job.model, recipe(job, device.n_workers()), folder, "bench", ranks)
    ends: list[tuple[float, int]] = []  # of each step: the time, and the characters seen so far
    for _ in run.events(lambda: len(ends) > N_WARMUP + 1 and ends[-1][0] - ends[N_WARMUP - 1][0] >= seconds):
        ends.append((time.perf_counter(), run.progress.chars))
    (start, seen), (end, chars) = ends[N_WARMUP - 1], ends[-1]
    workers = max(1, device.n_workers() // ranks.local)
    speed = (chars - seen) / (end - start)
    return {"chars_per_s": speed, "processes": ranks.size, "workers": workers, "first": ranks.first}


def main(text: str) -> None:
    """Do what a JSON request says; the first process writes the answer to the file `out`."""
    request = json.loads(text)
    if request["device"] == "cpu":
        mx.set_default_device(mx.cpu)
    answer = train(TrainWork.from_json(request["job"]), request["seconds"], Path(request["folder"]))
    if answer.pop("first"):
        Path(request["out"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
