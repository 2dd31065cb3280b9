"""The baseline's corpus, split and loss: how many characters does our recipe need to reach the baseline's loss?

    python benchmarks/baseline_split.py PATH/gatsby-2.raw.txt runs/baseline-wide --size 6/5/320 --flat 2.5e6 --passes

The baseline is gatsby-nanogpt-2. This script trains on random windows of 512 characters, as the baseline does, from
the first nine tenths of the corpus, and prints the loss on random windows of the last tenth, with its standard error.
It writes curve.json and curve.svg to the run's folder. Call it again to resume a run that was stopped.

With `--late`, dropout starts after so many characters, since it slows learning down while the text is new. With
`--flat`, the learning rate is constant after so many characters, and the result is a mean of the weights after each
step: over the last evaluations, as many as give the lowest loss. With `--passes`, the windows of a pass cover the text
once. The baseline draws each window independently, so some characters come often and some late.
"""

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx import files
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import load
from gatsby_mlx.evaluation.plots import legend, plot, short_count, style_axes
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.optim import learning_rate
from gatsby_mlx.training.parallel import Workers
from gatsby_mlx.training.record import Step, Validation, check_out, read_metrics
from gatsby_mlx.training.sequences import MicroBatch, WindowSequences
from gatsby_mlx.training.step import mean_losses

MODEL = GPTConfig(n_layer=6, n_head=4, n_embd=256, block_size=512, position_init="waves")
RECIPE = TrainConfig(
    rows="window",
    split="tail",
    lr=8e-4,
    min_lr_ratio=0.01,
    max_chars=9_998_336,
    batch_chars=4_096,
    micro_chars=2_048,
    eval_every_chars=500_000,
    dial_topics=0,
)
PUBLISHED = {8.2: 1.47, 16.4: 0.91, 32.8: 0.687, 49.2: 0.633, 65.5: 0.622}  # by the baseline: M characters, nats
WINDOWS = 2_000
STRETCHES = (1, 3)  # evaluations to average over, in the output during training


def options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--size", default="6/4/256", help="layers/heads/width")
    arguments.add_argument("--dropout", type=float, default=MODEL.dropout)
    arguments.add_argument("--late", type=float, default=0, help="characters seen before dropout starts")
    arguments.add_argument("--decay", type=float, default=RECIPE.weight_decay)
    arguments.add_argument("--batch", type=int, default=RECIPE.batch_chars)
    arguments.add_argument("--lr", type=float, default=RECIPE.lr)
    arguments.add_argument("--passes", action="store_true", help="windows that cover the text once per pass")
    arguments.add_argument(
        "--flat", type=float, default=0, help="characters seen when the learning rate becomes constant"
    )
    arguments.add_argument(
        "--chars", type=int, default=RECIPE.max_chars, help="characters to see; a run with --flat can continue beyond"
    )
    return arguments.parse_args()


def main() -> None:
    args = options()
    out, resume = args.out, (args.out / "last").exists()
    check_out(out, resume)
    steps = {"batch_chars": args.batch, "micro_chars": min(args.batch // 2, RECIPE.micro_chars)}
    recipe = replace(RECIPE, weight_decay=args.decay, lr=args.lr, max_chars=args.chars, **steps)
    layers, heads, width = map(int, args.size.split("/"))
    model = replace(MODEL, n_layer=layers, n_head=heads, n_embd=width, dropout=0.0 if args.late else args.dropout)
    if resume:  # dropout or the rate may have changed already
        saved = checkpoint.read_json(out / "last" / "state.json")["run"]
        model = replace(model, dropout=saved["dropout"])
        recipe = replace(recipe, **{key: saved[key] for key in ("lr", "min_lr_ratio", "max_chars")})
    run = Run(load(args.corpus), model, recipe, out, "baseline-split")
    # The same windows for any step size, so that runs can be compared.
    block_size, split = MODEL.block_size, run.data.split
    spread = WindowSequences(split.validation_text, run.tokenizer, block_size, RECIPE.micro_chars, recipe.seed)
    run.data.validation = spread.all()
    if args.passes:
        passes = Passes(split.train_text, run.tokenizer, block_size, recipe.micro_chars, recipe.seed)
        run.data.sequences = run.data.short = passes
    if resume:
        run.resume()
        if recipe.min_lr_ratio == 1:  # a constant rate does not depend on the last step
            run.config = replace(recipe, max_chars=args.chars)
    say(f"{run.model.n_params(positions=False):,} parameters without the position table; the baseline has 10,652,544")
    means = Means(run)
    for event in events(run, args.dropout, args.late, args.flat):
        flat = args.flat and event.chars > args.flat
        if isinstance(event, Step):
            if flat:
                means.add()
            continue
        say(f"{event.chars / 1e6:6.2f} M characters  {event.loss:.4f} nats per character on spread windows")
        if flat:
            means.save()
            losses = (f"{n}: {loss:.4f}" for n, loss in means.latest(STRETCHES).items())
            say(f"{'':20} with the mean of the weights over the last evaluations, {', '.join(losses)}")
    chosen, averaged = checkpoint.load(run.best_folder).model.parameters(), []
    if args.flat:
        losses = means.latest(range(1, len(means.saved()) + 1))
        length = min(losses, key=losses.__getitem__)
        say(f"the mean over the last {length} evaluations has the lowest loss: {losses[length]:.4f}")
        averaged = [(chars, round(loss, 4)) for chars, loss in means.curve(length)]
        chosen = means.mean(slice(-length, None))
        run.model.update(chosen)
        checkpoint.save(out / "average", run.model, run.tokenizer, {"averaged_evaluations": length})
    mean, error = on_random_windows(run, chosen)
    say(f"result: {mean:.4f} +- {error:.4f} nats on {WINDOWS} random windows, {run.progress.chars:,} seen")
    say(f"the baseline's published curve, M characters: {PUBLISHED}")
    evaluations = [event for event in read_metrics(out / "metrics.jsonl") if event["event"] == "eval"]
    curve = [(event["chars"], round(event["loss"], 4)) for event in evaluations]
    settings = {k: v for k, v in vars(args).items() if k not in ("corpus", "out")}
    result = {"parameters": run.model.n_params(positions=False), **settings, "curve": curve, "averaged": averaged}
    result |= {"loss": mean, "standard_error": error}
    files.write_atomic(out / "curve.json", json.dumps(result, indent=1) + "\n")
    draw(curve, averaged, out / "curve.svg")


def events(run: Run, dropout: float, late: float, flat: float) -> Iterator[Step | Validation]:
    """Train `run` to its end, with `dropout` after `late` characters and a constant learning rate after `flat`."""
    if run.model_config.dropout != dropout:
        yield from run.events(lambda: run.progress.chars >= late)
        run.model_config = replace(run.model_config, dropout=dropout)
        model = GPT(run.model_config)
        model.update(run.model.parameters())
        run.model = model
    if flat and run.config.min_lr_ratio != 1:
        yield from run.events(lambda: run.progress.chars >= flat)
        run.config = replace(run.config, lr=learning_rate(run.config, run.progress.chars), min_lr_ratio=1.0)
    yield from run.events()


class Passes(WindowSequences):
    """Adjacent windows in random order. Each pass over the text, as a ring, starts at another character."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.n = len(self.data)
        self.data = np.resize(self.data, self.n + self.block_size)  # the start follows the end

    def micro_batch(self, k: int) -> MicroBatch:
        return self._windows(np.array([self._start(k * self.n_windows + i) for i in range(self.n_windows)]))

    def _start(self, index: int) -> int:
        number, index = divmod(index, self.n // self.block_size)
        draws = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        order = draws.permutation(self.n // self.block_size)
        return (int(draws.integers(self.n)) + self.block_size * int(order[index])) % self.n


class Means:
    """The means of the weights after each step between two evaluations, saved in the run's folder.

    After a resumption between two evaluations, the mean is over the steps since then.
    """

    def __init__(self, run: Run):
        self.run, self.folder = run, run.out / "means"
        self.sums, self.n = None, 0

    def add(self) -> None:
        import mlx.core as mx  # not before gatsby_mlx, which finds it a fast BLAS
        from mlx.utils import tree_map

        now = self.run.model.parameters()
        self.sums = tree_map(mx.add, self.sums, now) if self.n else now
        self.n += 1
        mx.eval(self.sums)

    def save(self) -> None:
        """Save the mean since the last evaluation, and start the next one."""
        from mlx.utils import tree_map

        self.folder.mkdir(exist_ok=True)
        model = GPT(self.run.model_config)
        model.update(tree_map(lambda p: p / self.n, self.sums))
        checkpoint.save(self.folder / f"{self.run.progress.chars:09d}", model, self.run.tokenizer, {"steps": self.n})
        self.n = 0

    def saved(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def mean(self, part: slice) -> Any:
        """Return the mean of some of the saved means."""
        from mlx.utils import tree_map

        parts = [checkpoint.load(path).model.parameters() for path in self.saved()[part]]
        return tree_map(lambda *ps: sum(ps) / len(ps), *parts)

    def latest(self, lengths: Iterable[int]) -> dict[int, float]:
        """Return the loss on spread windows of the mean over the last n saved means, for each n of `lengths` so far."""
        possible = [n for n in lengths if n <= len(self.saved())]
        return dict(zip(possible, self._losses([slice(-n, None) for n in possible]), strict=True))

    def curve(self, n: int) -> list[tuple[int, float]]:
        """Return (characters seen, loss on spread windows) of the mean over `n` saved means, fewer at the beginning."""
        saved = self.saved()
        losses = self._losses([slice(max(0, k - n), k) for k in range(1, len(saved) + 1)])
        return [(int(path.name), loss) for path, loss in zip(saved, losses, strict=True)]

    def _losses(self, spans: list[slice]) -> list[float]:
        return [losses_of(self.run, self.mean(span), [self.run.data.validation or []])[0] for span in spans]


def losses_of(run: Run, parameters: Any, sets: Iterable[Sequence[MicroBatch]]) -> list[float]:
    """Return the loss of `parameters` on each set of micro-batches, in nats per character, without dropout."""
    model = GPT(run.model_config)
    model.update(parameters)
    with Workers(model) as workers:
        return [mean_losses(workers.losses(batches), batches)[0] for batches in sets]


def on_random_windows(run: Run, parameters: Any) -> tuple[float, float]:
    """Return the mean loss of `parameters` over random windows of the validation text, and its standard error."""
    block = MODEL.block_size
    windows = WindowSequences(run.data.split.validation_text, run.tokenizer, block, block, seed=7)
    losses = losses_of(run, parameters, ([windows.micro_batch(k)] for k in range(WINDOWS)))
    return float(np.mean(losses)), float(np.std(losses, ddof=1) / math.sqrt(WINDOWS))


def draw(curve: list[tuple[int, float]], averaged: list[tuple[int, float]], path: Path) -> None:
    """Plot our losses and the baseline's published ones over characters seen, both axes logarithmic."""

    def paint(axes: Any, c: Any, *_: Any) -> None:
        published = [(1e6 * x, y) for x, y in PUBLISHED.items()]
        axes.plot(*zip(*published, strict=True), "s--", color=c.ink, linewidth=1, markersize=4, label="the baseline")
        label, width = ("here, each step", 1) if averaged else ("here", 1.8)
        axes.plot(*zip(*curve, strict=True), "o-", color=c.light, linewidth=width, markersize=3, label=label)
        if averaged:
            style = {"color": c.light, "linewidth": 1.8, "markersize": 3, "label": "here, the mean"}
            axes.plot(*zip(*averaged, strict=True), "D-", **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_yticks([0.6, 0.8, 1, 1.5, 2], ["0.6", "0.8", "1", "1.5", "2"])
        axes.set_yticks([], minor=True)
        ticks = [5e5, 1e6, 2e6, 5e6, 1e7, 2e7, 5e7]
        axes.set_xticks(ticks, [short_count(x) for x in ticks])
        axes.set_xticks([], minor=True)
        style_axes(axes, c, "loss on the baseline's split, nats per character", "characters seen")
        legend(axes, c, "lower left")

    plot("baseline-split", paint, "Loss on the baseline's split over characters seen, here and as published.", path)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
