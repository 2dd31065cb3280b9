"""`gatsby train`."""

import contextlib
import math
import os
import shlex
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import PATH, SEED, PresetName, Status, clock, long_command, obsession_option, warn_if_slow
from gatsby_mlx.config import DTYPES

if TYPE_CHECKING:
    from gatsby_mlx.training.loop import Run
    from gatsby_mlx.training.record import Validation


@click.command()
@click.option("--preset", type=PresetName(), show_default="story; tune with --from", help="Model and recipe.")
@click.option("--corpus", type=PATH, metavar="DIR", show_default="the one that ships", help="Corpus file or folder.")
@click.option(
    "--from",
    "start",
    type=PATH,
    metavar="DIR",
    show_default="the one that ships, with --preset tune",
    help="A checkpoint to continue from; the model keeps its shape.",
)
@click.option("--out", type=PATH, metavar="DIR", show_default="runs/PRESET", help="Run folder.")
@click.option(
    "--max-chars", type=click.IntRange(1), metavar="N", show_default="the preset's", help="Characters to see."
)
@click.option("--lr", type=float, metavar="X", show_default="the preset's", help="Peak learning rate.")
@click.option("--dropout", type=float, metavar="X", show_default="the preset's", help="Dropout.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    show_default="the preset's, float32",
    help="Type that a step computes in, for a GPU; the weights stay in float32.",
)
@click.option(
    "--micro-chars",
    type=click.IntRange(1),
    metavar="N",
    show_default="the preset's on a CPU, by memory on a GPU",
    help="Characters of a step that go through the model at once; fewer take less memory.",
)
@click.option("--seed", type=SEED, metavar="N", show_default="the preset's", help="Seed of weights, order and dropout.")
@click.option(
    "--sequences",
    type=click.Choice(["stories", "windows"]),
    show_default="the preset's",
    help="What the model sees at a time: a story from its start, or a window of the text. With windows, --corpus may "
    "be plain text, such as a novel; the model then has no dial.",
)
@obsession_option
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run in --out bit for bit; one that version 0.1 began on a GPU, as exactly as two runs agree.",
)
@click.pass_context
@long_command
def command(
    ctx, preset, corpus, start, out, max_chars, lr, dropout, dtype, micro_chars, seed, sequences, obsession, resume
) -> None:
    """Train a model on a corpus. Ctrl-C saves and stops; --resume continues as if there had been no interruption.

    \b
    Examples:
      gatsby train --preset pocket --corpus stories
      gatsby train --preset story --out runs/story --resume
      gatsby train --preset tune --corpus stories
      gatsby train --preset pocket --corpus book.txt --sequences windows
      mlx.launch -n 2 gatsby train --preset story
    """
    from gatsby_mlx import api
    from gatsby_mlx.corpus.levels import problems
    from gatsby_mlx.device.ranks import RESUME_HINT, Ranks

    ranks = Ranks()
    if ranks.size > 1:
        message = f"mlx.launch ended process {ranks.rank} of {ranks.size}, as it does when another process has failed"
        exit_on_sigterm(f"gatsby: {message}. {RESUME_HINT}")
    run = api.plan_training(
        corpus,
        preset,
        out,
        start=start,
        max_chars=max_chars,
        lr=lr,
        dropout=dropout,
        dtype=dtype,
        micro_chars=micro_chars,
        seed=seed,
        sequences=sequences,
        obsession=obsession,
        resume=resume,
        ranks=ranks,
    )
    if not ranks.first:  # only the first process writes files and messages
        ctx.exit(130 if train_silently(run) else 0)
    if start or run.name == "tune":
        click.echo(f"from {api.find_start(start)}", err=True)
    click.echo(describe(run), err=True)
    for problem in problems(run.corpus.documents):
        click.echo(f"note: {problem}", err=True)
    stopped = train_with_status(run)
    progress = run.progress
    if progress.best_step:
        api.TrainedRun(run.out).plot(run.out / "loss.svg")
        line = f"best {run.criterion} {progress.best_loss:.4f} nats per character, at step {progress.best_step}"
        click.echo(line, err=True)
    if stopped:
        click.echo(f"stopped and saved; continue with: {same_command(ctx)} --resume", err=True)
        ctx.exit(130)
    click.echo(f"gatsby tell {example(run)} --model {shlex.quote(str(run.out))}", err=True)


def example(run: "Run") -> str:
    """Return what to ask the run's model for: a topic that it was not trained on, or for plain text a beginning."""
    if run.corpus.is_prose:
        words = run.data.split.validation_text.split()[:3]
        return f"--prompt {shlex.quote(' '.join(words))}"
    own = "imported" in run.corpus.manifest
    topic = run.data.split.validation[0].topic if own else "a dog and a balloon"
    return f'"{topic}" --level 3'


def same_command(ctx: click.Context) -> str:
    """Return the command line with the options that were given: a resumed run needs the same ones."""
    given = [
        p for p in ctx.command.params if ctx.get_parameter_source(p.name) is click.core.ParameterSource.COMMANDLINE
    ]
    words = [word for p in given if p.name != "resume" for word in (p.opts[0], str(ctx.params[p.name]))]
    return shlex.join(["gatsby", "train", *words])


def describe(run: "Run") -> str:
    """Return the model and the split of the corpus, in two lines."""
    split = run.data.split
    if run.corpus.is_prose:
        n, n_validation = len(split.train_text), len(split.validation_text)
        sides = f"plain text, without a dial: {n:,} characters to train on, the last {n_validation:,} for validation"
        return f"{_shape(run)}\n{sides}"
    given = any(d.split for d in run.corpus.documents)
    by = "split as they came" if given else f"split by {run.config.split}"
    sides = f"{len(split.train)} training stories, {len(split.validation)} for validation ({by})"
    return f"{_shape(run)}\n{sides}"


def _shape(run: "Run") -> str:
    c, m = run.model_config, run.model
    size = f"{m.n_params():,} parameters, {m.n_params(positions=False):,} without the position table"
    return f"{run.name}: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, context {c.block_size}; {size}"


def train_with_status(run: "Run", until: float = math.inf) -> bool:
    """Train to the end or to `until` (monotonic seconds), progress on stderr; return whether Ctrl-C stopped it."""
    from gatsby_mlx.device.interrupts import interrupts
    from gatsby_mlx.training.record import Step

    warn_if_slow(compiles=True)
    status = Status()
    with interrupts(report_stopping) as stopped:
        for event in run.events(lambda: bool(stopped) or time.monotonic() > until):
            if isinstance(event, Step):
                done = f"{event.chars / 1e6:.2f} of {run.config.max_chars / 1e6:.2f} M characters"
                pace = f"{event.chars_per_s:,.0f} characters/s, {clock(event.seconds_left)} left"
                status(f"step {event.step}, {done}, loss {event.loss:.3f}, {pace}")
            else:
                status.clear()
                click.echo(evaluation_line(event), err=True)
    status.clear()
    return bool(stopped) and run.progress.chars < run.config.max_chars


def train_silently(run: "Run") -> bool:
    """Train to the end as one of several processes; return whether Ctrl-C in any of them stopped it."""
    from gatsby_mlx.device.interrupts import interrupts

    with interrupts(report_stopping) as stopped:
        for _ in run.events(lambda: bool(stopped)):
            pass
    return run.progress.chars < run.config.max_chars


def evaluation_line(event: "Validation") -> str:
    """Return an evaluation in one line: characters seen, losses, the small dial, and what it is best in."""
    line = f"{event.chars / 1e6:6.2f} M  validation loss {event.loss:.4f}"
    line += "" if math.isnan(event.story_bpc) else f", story {event.story_bpc:.3f} bits/char"
    if event.dial and event.dial_error is not None:
        off = "" if math.isnan(event.dial_error) else f" ({100 * event.dial_error:.0f}% off)"
        line += f", dial {' '.join(f'{m:.1f}' for m in event.dial)}{off}"
    best = [name for name, kept in (("best", event.best), ("best dial", event.best_dial)) if kept]
    return f"{line}  ({', '.join(best)})" if best else line


def report_stopping() -> None:
    """Report a first Ctrl-C on stderr. `os.write` avoids Python's buffer, which may be in use when the signal comes."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), b"\nfinishing this step, then saving (Ctrl-C again to stop at once)\n")


def exit_on_sigterm(line: str) -> None:
    """Print `line` on stderr and exit on SIGTERM, which mlx.launch sends to all processes when one has failed.

    A thread waits for the signal, because the main thread may hang in a sum over processes of which one is gone.
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
