"""`gatsby train`."""

import contextlib
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click

from gatsby_mlx.cli.console import RUNS, SEED, Status, clock, warn_if_slow
from gatsby_mlx.config import DTYPES, PRESETS


@click.command()
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    show_default="story; tune with --from",
    help="Model and recipe.",
)
@click.option(
    "--corpus", type=click.Path(path_type=Path), show_default="the one that ships", help="Corpus file or folder."
)
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path),
    metavar="DIR",
    show_default="the one that ships, with --preset tune",
    help="A checkpoint to go on from; it keeps its shape.",
)
@click.option("--out", type=click.Path(path_type=Path), show_default="runs/PRESET", help="Run folder.")
@click.option("--max-chars", type=click.IntRange(1), metavar="N", help="Characters to see, in place of the preset's.")
@click.option("--lr", type=float, metavar="X", help="Peak learning rate, in place of the preset's.")
@click.option("--dropout", type=float, metavar="X", help="Dropout, in place of the preset's.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    show_default="the preset's, float32",
    help="What a step computes in, for a GPU; the weights stay in float32.",
)
@click.option("--seed", type=SEED, metavar="N", help="Seed of weights, order and dropout.")
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped, exactly.")
@click.pass_context
def command(ctx, preset, corpus, start, out, max_chars, lr, dropout, dtype, seed, resume) -> None:
    """Train a model on a corpus. Ctrl-C saves and leaves; --resume goes on as if nothing had happened.

    \b
    Examples:
      gatsby train --preset pocket --corpus stories
      gatsby train --preset story --out runs/story --resume
      gatsby train --preset tune --corpus stories
      mlx.launch -n 2 gatsby train --preset story
    """
    from gatsby_mlx import shipped
    from gatsby_mlx.config import changed
    from gatsby_mlx.config import preset as find_preset
    from gatsby_mlx.corpus.load import load
    from gatsby_mlx.model import checkpoint
    from gatsby_mlx.training.loop import Run
    from gatsby_mlx.training.ranks import AGAIN, Ranks
    from gatsby_mlx.training.record import check_out

    preset = preset or ("tune" if start else "story")
    chosen = find_preset(preset)
    training = changed(chosen.training, max_chars=max_chars, lr=lr, dtype=dtype, seed=seed)
    model = changed(chosen.model, dropout=dropout)
    out = out or RUNS / preset
    ranks = Ranks()
    if ranks.size > 1:
        told = f"Process {ranks.rank} of {ranks.size} was told to end, as mlx.launch does when another one has failed"
        say_when_ended(f"gatsby: {told}. {AGAIN}")
    if ranks.first:
        check_out(out, resume)
    known = checkpoint.load(start or shipped_one()) if start or preset == "tune" else None
    run = Run(load(corpus or shipped.corpus()), model, training, out, preset, ranks, known)
    if resume:
        run.resume()
    if not ranks.first:  # the first process writes and speaks for all
        ctx.exit(130 if train_silently(run) else 0)
    if known:
        click.echo(f"from {known.path}", err=True)
    click.echo(describe(run), err=True)
    stopped = train_with_status(run)
    best = run.progress
    if best.best_step:
        plot_loss(out)
        click.echo(f"best {run.judged_by} {best.best_loss:.4f} nats a character, step {best.best_step}", err=True)
    if stopped:
        click.echo(f"stopped and saved; go on with: {same_command(ctx)} --resume", err=True)
        ctx.exit(130)
    click.echo(f'gatsby tell "a dog and a balloon" --green 3 --model {shlex.quote(str(out))}', err=True)


def shipped_one() -> Path:
    """Return the checkpoint that ships; raise UsageError where none does."""
    from gatsby_mlx import shipped
    from gatsby_mlx.errors import UsageError

    if found := shipped.checkpoint():
        return found
    raise UsageError("No checkpoint ships with this installation", "Name one to go on from: --from DIR")


def plot_loss(out: Path) -> None:
    """Write loss.svg into a run folder, from its metrics.jsonl."""
    from gatsby_mlx.evaluation.plots import loss_curve
    from gatsby_mlx.training.record import read_metrics

    loss_curve(read_metrics(out / "metrics.jsonl"), out / "loss.svg")


def same_command(ctx: click.Context) -> str:
    """Return the command line with the options that were given: a run resumes with those it began with."""
    given = [
        p for p in ctx.command.params if ctx.get_parameter_source(p.name) is click.core.ParameterSource.COMMANDLINE
    ]
    words = [word for p in given if p.name != "resume" for word in (p.opts[0], str(ctx.params[p.name]))]
    return shlex.join(["gatsby", "train", *words])


def describe(run) -> str:
    """Return what is about to be trained, in two lines."""
    c, m = run.model_config, run.model
    learn, judge = len(run.split.train), len(run.split.validation)
    sides = f"{learn} stories to learn, {judge} to judge by (split by {run.config.split})"
    size = f"{m.n_params(positions=False):,} parameters as the seed counts them, {m.n_params():,} in full"
    return f"{run.name}: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, context {c.block_size}; {size}\n{sides}"


def train_with_status(run, until: float = math.inf) -> bool:
    """Run to the end or to `until` (monotonic seconds), progress on stderr; return whether Ctrl-C stopped it."""
    warn_if_slow(compiles=True)
    status = Status()
    with interrupts() as stopped:
        for event in run.events(lambda: bool(stopped) or time.monotonic() > until):
            if event.event == "train":
                done = f"{event.chars / 1e6:.2f} of {run.config.max_chars / 1e6:.2f} M characters"
                pace = f"{event.chars_per_s:,.0f} characters/s, {clock(event.seconds_left)} left"
                status(f"step {event.step}, {done}, loss {event.loss:.3f}, {pace}")
            else:
                status.clear()
                click.echo(evaluation_line(event), err=True)
    status.clear()
    return bool(stopped) and run.progress.chars < run.config.max_chars


def train_silently(run) -> bool:
    """Run to the end as one of several processes; return whether Ctrl-C, here or in another, stopped it."""
    with interrupts() as stopped:
        for _ in run.events(lambda: bool(stopped)):
            pass
    return run.progress.chars < run.config.max_chars


def evaluation_line(event) -> str:
    """Return an evaluation in one line: characters seen, losses, the small dial, and what it is the best of."""
    told = f"{event.chars / 1e6:6.2f} M  validation loss {event.loss:.4f}, story {event.story_bpc:.3f} bits/char"
    if event.dial:
        off = "" if math.isnan(event.dial_error) else f" ({100 * event.dial_error:.0f}% off)"
        told += f", dial {' '.join(f'{m:.1f}' for m in event.dial)}{off}"
    best = [name for name, kept in (("best", event.best), ("best dial", event.best_dial)) if kept]
    return f"{told}  ({', '.join(best)})" if best else told


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect the first Ctrl-C in the list that is yielded, for a loop to look at; the second one interrupts."""
    seen: list[int] = []

    def handle(number, frame):
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        told = "\nfinishing this step, then saving (Ctrl-C again to leave at once)\n"
        with contextlib.suppress(OSError):  # past Python's buffer, which the signal may have found in use
            os.write(sys.stderr.fileno(), told.encode())

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def say_when_ended(line: str) -> None:
    """Say `line` and leave when SIGTERM comes, which mlx.launch sends to the others as soon as one process has failed.

    A thread waits for it, since the main thread may hang in a sum over processes, one of which is no more.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)

    def wait() -> None:
        while os.read(receiver, 1) != bytes([signal.SIGTERM]):
            pass
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{line}\n".encode())
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
