"""`gatsby train`."""

import contextlib
import json
import math
import os
import re
import shlex
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from gatsby_mlx.cli.console import (
    PATH,
    SEED,
    PresetName,
    Status,
    clock,
    force_option,
    going_on,
    json_option,
    long_command,
    make_room,
    obsession_option,
    warn_if_slow,
)
from gatsby_mlx.config import DTYPES
from gatsby_mlx.errors import UsageError
from gatsby_mlx.story.english import counted

if TYPE_CHECKING:
    from gatsby_mlx.config import TrainConfig
    from gatsby_mlx.training.loop import Run
    from gatsby_mlx.training.record import Validation


class Train(click.Command):
    """`--resume` is a flag, and the run's folder may follow it: `--resume runs/x` is `--resume --out runs/x`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [part for word in args for part in (word.split("=", 1) if word.startswith("--resume=") else [word])]
        if "--resume" in words:
            after = words.index("--resume") + 1
            if after < len(words) and not words[after].startswith("-"):
                if any(re.match(r"--out(=|$)|-o", word) for word in words):
                    raise UsageError("--resume and --out both name a folder", "Leave out --out")
                words.insert(after, "--out")
        return super().parse_args(ctx, words)


@click.command(cls=Train)
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
@click.option("--out", "-o", type=PATH, metavar="DIR", show_default="runs/PRESET", help="Run folder.")
@click.option(
    "--max-chars",
    type=click.IntRange(1),
    metavar="N",
    show_default="the preset's",
    help="Characters to see; with --resume, more of them.",
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
    help="Continue the run in --out, or in the folder that follows, bit for bit; one that version 0.1 began on a GPU, "
    "as exactly as two runs agree. Corpus and options come from the run.",
)
@force_option
@json_option
@click.pass_context
@long_command
def command(
    ctx,
    preset,
    corpus,
    start,
    out,
    max_chars,
    lr,
    dropout,
    dtype,
    micro_chars,
    seed,
    sequences,
    obsession,
    resume,
    force,
    as_json,
) -> None:
    """Train a model on a corpus. Ctrl-C saves and stops; --resume continues as if there had been no interruption.

    \b
    Examples:
      gatsby train --preset pocket --corpus stories
      gatsby train --resume runs/pocket
      gatsby train --resume runs/pocket --max-chars 6000000
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
    if force and not resume and ranks.first:
        make_room(out or api.RUNS / (preset or ("tune" if start else "story")))
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
    if not resume and (start or run.name == "tune"):
        click.echo(f"from {api.find_start(start)}", err=True)
    click.echo(describe(run), err=True)
    for problem in problems(run.corpus.documents):
        click.echo(f"note: {problem}", err=True)
    go_on = resume_command(run)
    if resume:
        click.echo(resumed_line(run), err=True)
    with going_on(go_on):
        announce_time(run)
        stopped = train_with_status(run)
    progress = run.progress
    if progress.best_step:
        api.TrainedRun(run.out).plot(run.out / "loss.svg")
        line = f"best {run.criterion} {progress.best_loss:.4f} nats per character, at step {progress.best_step}"
        click.echo(line, err=True)
    if stopped:
        click.echo(f"stopped and saved; go on with: {go_on}", err=True)
        ctx.exit(130)
    if as_json:
        click.echo(json.dumps(to_json(run), indent=1))
    click.echo(f"gatsby tell {example(run)} --model {shlex.quote(str(run.out))}", err=True)


def example(run: "Run") -> str:
    """Return what to ask the run's model for: a topic that it was not trained on, or for plain text a beginning."""
    if run.corpus.is_prose:
        words = run.data.split.validation_text.split()[:3]
        return f"--prompt {shlex.quote(' '.join(words))}"
    own = "imported" in run.corpus.manifest
    topic = run.data.split.validation[0].topic if own else "a dog and a balloon"
    return f'"{topic}" --level 3'


def resume_command(run: "Run") -> str:
    """Return the command that continues a run: all but the folder, and the number of processes, comes from the run."""
    launch = ["mlx.launch", "-n", str(run.ranks.size)] if run.ranks.size > 1 else []
    return shlex.join([*launch, "gatsby", "train", "--resume", str(run.out)])


def resumed_line(run: "Run") -> str:
    """Return where a resumed run stands, and what its extension changes."""
    p, c = run.progress, run.config
    line = f"resumed at step {p.step:,}, {p.chars:,} of {c.max_chars:,} characters"
    if p.chars >= c.max_chars:
        return f"{line}: it is finished. To extend it, add --max-chars {2 * c.max_chars}"
    if c.extended_at == p.chars:
        line += f"; the learning rate goes from {c.extended_lr:.2g} to {highest_rate(c):.2g} and falls again to the end"
    return line


def highest_rate(config: "TrainConfig") -> float:
    """Return the highest learning rate of an extended run from its extension on."""
    from gatsby_mlx.training import optim

    return max(config.extended_lr, optim.learning_rate(config, config.extended_at + optim.ramp_chars(config)))


def announce_time(run: "Run") -> None:
    """Say on stderr how long a long run takes here, by real steps on a throwaway model. They take some seconds."""
    from gatsby_mlx.training.speed import is_long, seconds_left

    if run.ranks.size == 1 and is_long(run):  # other processes would wait, and not for long
        run.save_first()
        click.echo("measuring the speed of this machine ...", err=True)
        seconds, speed = seconds_left(run)
        click.echo(f"about {clock(seconds)} here, at {speed:,.0f} characters per second as measured now", err=True)


def to_json(run: "Run") -> dict[str, Any]:
    """Return the JSON document of a run that has ended."""
    p = run.progress
    return {
        "run": str(run.out),
        "preset": run.name,
        "parameters": run.model.n_params(),
        "steps": p.step,
        "characters": p.chars,
        "seconds": p.seconds,
        "best_loss": p.best_loss if p.best_step else None,
        "best_step": p.best_step,
        "best_dial_step": p.best_dial_step,
    }


def describe(run: "Run") -> str:
    """Return the model and the split of the corpus, in two lines."""
    split = run.data.split
    if run.corpus.is_prose:
        n, n_validation = len(split.train_text), len(split.validation_text)
        sides = f"plain text, without a dial: {n:,} characters to train on, the last {n_validation:,} for validation"
        return f"{_shape(run)}\n{sides}"
    given = any(d.split for d in run.corpus.documents)
    by = "split as they came" if given else f"split by {run.config.split}"
    sides = f"{counted(len(split.train), 'training story')}, {len(split.validation):,} for validation ({by})"
    return f"{_shape(run)}\n{sides}"


def _shape(run: "Run") -> str:
    c, m = run.model_config, run.model
    size = f"{m.n_params():,} parameters, {m.n_params(positions=False):,} without the position table"
    shape = f"{counted(c.n_layer, 'layer')}, {counted(c.n_head, 'head')}, {c.n_embd} wide"
    return f"{run.name}: {shape}, context {c.block_size}; {size}"


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
