"""Compare the speed of two checkouts of this project, in alternation: decoding, and a training step.

    git worktree add ../before e4d914e
    python benchmarks/before_after.py ../before . --pairs 7

Each checkout computes in its own process, with one BLAS thread. The ratios are taken pair by pair: how many times as
fast the second checkout is, by the clock and by the processor's time. On a machine with other work only the latter
means something.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click

from gatsby_mlx.bench.timing import ratio

WORK = ("one story", "16 stories", "sweep", "training step")
TOPICS = ("a dog and a balloon", "a lost kitten", "the clock that lost its tick")


def child(chars: int) -> None:
    """Answer each line on stdin, the name of a work, with its [seconds, processor seconds] on stdout."""
    import gatsby_mlx.model  # noqa: F401  a fast BLAS before MLX

    import mlx.core as mx  # isort: skip
    import numpy as np

    from gatsby_mlx.config import GPTConfig, TrainConfig
    from gatsby_mlx.model.decode import decode
    from gatsby_mlx.model.gpt import GPT
    from gatsby_mlx.story.obsession import LEVELS
    from gatsby_mlx.story.prime import ALPHABET, build
    from gatsby_mlx.story.sampling import Job, Sampling
    from gatsby_mlx.tokenizer import CharTokenizer
    from gatsby_mlx.training import optim
    from gatsby_mlx.training.parallel import Workers
    from gatsby_mlx.training.sequences import MicroBatch
    from gatsby_mlx.training.step import TrainingStep

    mx.random.seed(0)
    tokenizer = CharTokenizer(ALPHABET)
    model = GPT(GPTConfig(vocab_size=len(tokenizer), dropout=0.1))
    sweep = [Job(build(topic, level), seed) for topic in TOPICS for level in LEVELS for seed in range(6)]
    jobs = {"one story": sweep[:1], "16 stories": sweep[:16], "sweep": sweep}
    trained = GPT(model.config)
    optimizer = optim.build(TrainConfig(), trained)
    ids = np.random.default_rng(0).integers(0, len(tokenizer), (8, 257)).astype(np.int32)
    ones = np.ones((4, 256), np.float32)
    pairs = [(i, MicroBatch(ids[4 * i :][:4, :-1], ids[4 * i :][:4, 1:], ones, ones)) for i in range(2)]
    with Workers(trained) as workers:
        step = TrainingStep(trained, optimizer, workers)

        def compute(name: str, n: int) -> None:
            if name == "training step":
                step(pairs)
            else:
                list(decode(model, tokenizer, jobs[name], Sampling(), n, len(jobs[name]), past_end=True))

        for name in WORK:
            compute(name, 4)
        print("ready", flush=True)
        for line in sys.stdin:
            start, used = time.perf_counter(), time.process_time()
            compute(line.strip(), chars)
            print(json.dumps([time.perf_counter() - start, time.process_time() - used]), flush=True)


def started(checkout: Path, chars: int) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--child", "--chars", str(chars), ".", "."]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd="/")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@click.command()
@click.argument("before", type=click.Path(path_type=Path, file_okay=False))
@click.argument("after", type=click.Path(path_type=Path, file_okay=False))
@click.option("--pairs", type=click.IntRange(1), default=7, show_default=True)
@click.option("--chars", type=click.IntRange(1), default=480, show_default=True, help="Characters of a story.")
@click.option("--work", type=click.Choice(WORK), multiple=True, help="Default: all of it.")
@click.option("--child", "is_child", is_flag=True, hidden=True)
def main(before: Path, after: Path, pairs: int, chars: int, work: tuple[str, ...], is_child: bool) -> None:
    """Compare the speed of two checkouts."""
    if is_child:
        child(chars)
        return
    both = [started(checkout, chars) for checkout in (before, after)]
    for name in work or WORK:
        times: list[list[tuple[float, float]]] = [[], []]
        for _ in range(pairs):
            for process, measured in zip(both, times, strict=True):
                assert process.stdin and process.stdout
                process.stdin.write(name + "\n")
                process.stdin.flush()
                measured.append(tuple(json.loads(process.stdout.readline())))
        for i, clock in enumerate(("clock", "processor")):
            of = ratio([t[i] for t in times[0]], [t[i] for t in times[1]])
            click.echo(f"{name}, by the {clock}: {of['median']:.2f} [{of['low']:.2f} to {of['high']:.2f}]")
    for process in both:
        process.communicate("")


if __name__ == "__main__":
    main()
