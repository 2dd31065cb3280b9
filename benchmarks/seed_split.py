"""The seed's corpus, split and loss: how many characters does this project's recipe need to get where the seed got?

    python benchmarks/seed_split.py PATH/gatsby-2.raw.txt runs/seed-wide --size 6/5/320 --flat 2.5e6 --passes

Trains on the first nine tenths of the characters, on random windows of 512 as the seed does, and prints the loss on
random windows of the last tenth, with its standard error; leaves curve.json and curve.svg in the run's folder. With
`--late` the dropout begins only after so many characters: while the text is new it slows learning down. With `--flat`
the rate falls no further after so many characters, and what counts is the mean of the weights after each step since one
of the evaluations, the one that does best. With `--passes` the windows of a pass cover the text once; the seed
draws each anew, so that some characters come often and some late. A run that was stopped goes on when called again.
"""

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx import files
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import load
from gatsby_mlx.evaluation.plots import dress, legend, plot, short_count
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.optimizer import learning_rate
from gatsby_mlx.training.record import Evaluation, Step, check_out, read_metrics
from gatsby_mlx.training.rows import MicroBatch, WindowRows
from gatsby_mlx.training.workers import Workers

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
PUBLISHED = {8.2: 1.47, 16.4: 0.91, 32.8: 0.687, 49.2: 0.633, 65.5: 0.622}  # the seed's own: M characters, nats
WINDOWS = 2_000
STRETCHES = (1, 3)  # evaluations; what is shown along the way


def options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--size", default="6/4/256", help="layers/heads/width")
    arguments.add_argument("--dropout", type=float, default=MODEL.dropout)
    arguments.add_argument("--late", type=float, default=0, help="characters seen before the dropout begins")
    arguments.add_argument("--decay", type=float, default=RECIPE.weight_decay)
    arguments.add_argument("--batch", type=int, default=RECIPE.batch_chars)
    arguments.add_argument("--lr", type=float, default=RECIPE.lr)
    arguments.add_argument("--passes", action="store_true", help="windows that cover the text once a pass")
    arguments.add_argument("--flat", type=float, default=0, help="characters seen when the rate stops falling")
    arguments.add_argument("--chars", type=int, default=RECIPE.max_chars, help="with --flat a run can go on to more")
    return arguments.parse_args()


def main() -> None:
    asked = options()
    out, resume = asked.out, (asked.out / "last").exists()
    check_out(out, resume)
    steps = {"batch_chars": asked.batch, "micro_chars": min(asked.batch // 2, RECIPE.micro_chars)}
    recipe = replace(RECIPE, weight_decay=asked.decay, lr=asked.lr, max_chars=asked.chars, **steps)
    layers, heads, width = map(int, asked.size.split("/"))
    model = replace(MODEL, n_layer=layers, n_head=heads, n_embd=width, dropout=0.0 if asked.late else asked.dropout)
    if resume:  # it may be past the change
        begun = checkpoint.read_json(out / "last" / "state.json")["run"]
        model = replace(model, dropout=begun["dropout"])
        recipe = replace(recipe, **{key: begun[key] for key in ("lr", "min_lr_ratio", "max_chars")})
    run = Run(load(asked.corpus), model, recipe, out, "seed-split")
    # the same windows whatever a step's size, so that runs can be compared as they go
    held = WindowRows(run.split.validation_text, run.tokenizer, MODEL.block_size, RECIPE.micro_chars, recipe.seed)
    run.validation = held.all()
    if asked.passes:
        run.rows = Passes(run.split.train_text, run.tokenizer, MODEL.block_size, recipe.micro_chars, recipe.seed)
    if resume:
        run.resume()
        if recipe.min_lr_ratio == 1:  # the rate does not depend on where it ends
            run.config = replace(recipe, max_chars=asked.chars)
    say(f"{run.model.n_params(positions=False):,} parameters as the seed counts them; the seed has 10,652,544")
    means = Means(run)
    for event in events(run, asked.dropout, asked.late, asked.flat):
        flat = asked.flat and event.chars > asked.flat
        if isinstance(event, Step):
            if flat:
                means.add()
            continue
        say(f"{event.chars / 1e6:6.2f} M characters  {event.loss:.4f} nats a character on spread windows")
        if flat:
            means.save()
            told = (f"{n}: {loss:.4f}" for n, loss in means.latest(STRETCHES).items())
            say(f"{'':20} with the mean of the weights since so many evaluations, {', '.join(told)}")
    chosen, averaged = checkpoint.load(run.best_folder).model.parameters(), []
    if asked.flat:
        losses = means.latest(range(1, len(means.kept()) + 1))
        length = min(losses, key=losses.__getitem__)
        say(f"the mean since {length} evaluations does best: {losses[length]:.4f}")
        averaged = [(chars, round(loss, 4)) for chars, loss in means.curve(length)]
        chosen = means.mean(slice(-length, None))
        run.model.update(chosen)
        checkpoint.save(out / "average", run.model, run.tokenizer, {"averaged_evaluations": length})
    mean, error = on_random_windows(run, chosen)
    say(f"what counts: {mean:.4f} +- {error:.4f} nats on {WINDOWS} random windows, {run.progress.chars:,} seen")
    say(f"the seed's published curve, M characters: {PUBLISHED}")
    rows = [row for row in read_metrics(out / "metrics.jsonl") if row["event"] == "eval"]
    curve = [(row["chars"], round(row["loss"], 4)) for row in rows]
    told = {k: v for k, v in vars(asked).items() if k not in ("corpus", "out")}
    found = {"parameters": run.model.n_params(positions=False), **told, "curve": curve, "averaged": averaged}
    found |= {"loss": mean, "standard_error": error}
    files.write_atomic(out / "curve.json", json.dumps(found, indent=1) + "\n")
    draw(curve, averaged, out / "curve.svg")


def events(run: Run, dropout: float, late: float, flat: float) -> Iterator[Step | Evaluation]:
    """Train `run` to its end, with `dropout` once `late` characters were seen, at one rate once `flat` were."""
    if run.model_config.dropout != dropout:
        yield from run.events(lambda: run.progress.chars >= late)
        run.model_config = replace(run.model_config, dropout=dropout)
    if flat and run.config.min_lr_ratio != 1:
        yield from run.events(lambda: run.progress.chars >= flat)
        run.config = replace(run.config, lr=learning_rate(run.config, run.progress.chars), min_lr_ratio=1.0)
    yield from run.events()


class Passes(WindowRows):
    """Windows side by side, in random order; each pass over the text, a ring here, begins at another character."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.n = len(self.data)
        self.data = np.resize(self.data, self.n + self.block_size)  # begins again at its end

    def micro_batch(self, k: int) -> MicroBatch:
        return self._windows(np.array([self._start(k * self.n_rows + row) for row in range(self.n_rows)]))

    def _start(self, place: int) -> int:
        number, place = divmod(place, self.n // self.block_size)
        draws = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        order = draws.permutation(self.n // self.block_size)
        return (int(draws.integers(self.n)) + self.block_size * int(order[place])) % self.n


class Means:
    """The mean of the weights after each step between two evaluations, kept in the run's folder for each.

    A run that goes on in the middle has the mean of the steps since.
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
        """Keep the mean since the evaluation before, and begin the next."""
        from mlx.utils import tree_map

        self.folder.mkdir(exist_ok=True)
        model = GPT(self.run.model_config)
        model.update(tree_map(lambda p: p / self.n, self.sums))
        checkpoint.save(self.folder / f"{self.run.progress.chars:09d}", model, self.run.tokenizer, {"steps": self.n})
        self.n = 0

    def kept(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def mean(self, stretches: slice) -> Any:
        """Return the parameters' mean over some of the `kept` stretches."""
        from mlx.utils import tree_map

        parts = [checkpoint.load(path).model.parameters() for path in self.kept()[stretches]]
        return tree_map(lambda *ps: sum(ps) / len(ps), *parts)

    def latest(self, lengths: Iterable[int]) -> dict[int, float]:
        """Return the loss on spread windows of the mean over each of `lengths` that there is, up to now."""
        there = [n for n in lengths if n <= len(self.kept())]
        return dict(zip(there, self._losses([slice(-n, None) for n in there]), strict=True))

    def curve(self, n: int) -> list[tuple[int, float]]:
        """Return (characters seen, loss on spread windows) of the mean over `n` stretches, fewer at the beginning."""
        kept = self.kept()
        losses = self._losses([slice(max(0, k - n), k) for k in range(1, len(kept) + 1)])
        return [(int(path.name), loss) for path, loss in zip(kept, losses, strict=True)]

    def _losses(self, spans: list[slice]) -> list[float]:
        with Workers(self.run.model_config) as workers:
            return [workers.losses(self.mean(span), self.run.validation or [])[0] for span in spans]


def on_random_windows(run: Run, parameters) -> tuple[float, float]:
    """Return the mean loss of `parameters` over random windows of the held-out text, and its standard error."""
    block = MODEL.block_size
    rows = WindowRows(run.split.validation_text, run.tokenizer, block, block, seed=7)
    with Workers(run.model_config) as workers:
        losses = [workers.losses(parameters, [rows.micro_batch(k)])[0] for k in range(WINDOWS)]
    return float(np.mean(losses)), float(np.std(losses, ddof=1) / math.sqrt(WINDOWS))


def draw(curve: list[tuple[int, float]], averaged: list[tuple[int, float]], path: Path) -> None:
    """Plot our losses over characters seen beside the seed's published ones, both axes logarithmic."""

    def paint(axes, c) -> None:
        theirs = [(1e6 * x, y) for x, y in PUBLISHED.items()]
        axes.plot(*zip(*theirs, strict=True), "s--", color=c.ink, linewidth=1, markersize=4, label="the seed")
        told = "here" if not averaged else "here, each step"
        axes.plot(
            *zip(*curve, strict=True), "o-", color=c.light, linewidth=1 if averaged else 1.8, markersize=3, label=told
        )
        if averaged:
            axes.plot(
                *zip(*averaged, strict=True), "D-", color=c.light, linewidth=1.8, markersize=3, label="here, the mean"
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_yticks([0.6, 0.8, 1, 1.5, 2], ["0.6", "0.8", "1", "1.5", "2"])
        axes.set_yticks([], minor=True)
        ticks = [5e5, 1e6, 2e6, 5e6, 1e7, 2e7, 5e7]
        axes.set_xticks(ticks, [short_count(x) for x in ticks])
        axes.set_xticks([], minor=True)
        dress(axes, c, "loss on the seed's split, nats per character", "characters seen")
        legend(axes, c, "lower left")

    plot("seed-split", paint, "Loss on the seed's split over characters seen, here and as published.", path)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
