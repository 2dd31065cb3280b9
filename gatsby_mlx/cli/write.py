"""`gatsby write`."""

import shlex
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import click

from gatsby_mlx.cli.console import SEED, Status, clock, glow, printable
from gatsby_mlx.errors import UsageError, WriterError
from gatsby_mlx.prime import LEVELS

MAX = 100_000  # stories: 20,000 topics are sure to be distinct, and composed in seconds
REFRESH_S = 0.2


@click.command()
@click.option(
    "--blend",
    "--writer",
    metavar="BLEND",
    default="house",
    show_default=True,
    help="Who writes: NAME=SHARE,... or a .toml file. Names: four (olmo, ministral, gemma, granite), house, "
    "house-plain, house-small, server:URL#MODEL, a repository, a folder.",
)
@click.option(
    "--n",
    type=click.IntRange(5, MAX),
    metavar="N",
    show_default="1000, or 5 for each of --topics",
    help="Stories, a multiple of 5: every topic at five levels.",
)
@click.option(
    "--seed", type=SEED, metavar="N", default=1925, show_default=True, help="Same seed, same corpus, byte for byte."
)
@click.option(
    "--topics",
    type=click.Path(path_type=Path),
    help="Topics of yours, one a line, in place of theirs or composed ones.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for raw.txt and manifest.json.")
@click.option("--smoke", is_flag=True, help="One topic for each writer: does all of it work here?")
@click.option("--dry-run", is_flag=True, help="Print the plan: shares, downloads, memory, time. Nothing is written.")
@click.option("--assemble", is_flag=True, help="Make a corpus of what a stopped or running --out has so far.")
@click.option("--print", "show", is_flag=True, help="Print every accepted story.")
def command(blend, n, seed, topics, out, smoke, dry_run, assemble, show) -> None:
    """Write a corpus: every topic at the five levels of the dial, each story judged before it enters.

    Whatever stops it, the same command goes on; a finished corpus is left alone, and --out holds nothing else.

    \b
    Examples:
      gatsby write --n 1000 --out stories
      gatsby write --blend four --smoke --out smoke
      gatsby write --blend olmo=.4,gemma=.5,house=.1 --n 2000 --out mixed
      gatsby write --blend server:http://localhost:1234 --n 100 --out served
    """
    from gatsby_mlx.corpus import blend as blends
    from gatsby_mlx.corpus.assemble import assemble as assemble_corpus

    if assemble:
        stories = assemble_corpus(out)
        click.echo(f"{out}: {stories} stories so far", err=True)
        return
    chosen = blends.parse(blend)
    config = configure(chosen, n, seed, topics, smoke)
    run = prepare(chosen, config, out, command_line(blend, config, topics, smoke, out))
    if dry_run:
        from gatsby_mlx.cli.write_plan import plan_table

        click.echo(plan_table(chosen, config, run.command))
        return
    if run.is_finished():
        click.echo(f"{out} holds this corpus already; nothing to do", err=True)
        return
    check_machine(chosen)
    write_with_status(run, show)
    if run.ranks.rank == 0:
        click.echo(f"gatsby corpus show {shlex.quote(str(out))}", err=True)


def configure(chosen, n: int | None, seed: int, topics: Path | None, smoke: bool):
    """Return the WriteConfig that the options mean."""
    from gatsby_mlx.corpus.plan import WriteConfig
    from gatsby_mlx.evaluation.topics import read_topics

    own = read_topics(topics) if topics else ()
    n = n or (len(LEVELS) * len(chosen.specs) if smoke else len(LEVELS) * len(own) or 1000)
    WriteConfig(n, seed)  # a number that is none is said first
    given = tuple(first_of(own, n, topics)) if topics else None
    return WriteConfig(n, seed, chosen.bands, given)


def first_of(topics: Sequence[str], n: int, path: Path) -> list[str]:
    """Return as many of the topics read from `path` as `n` stories need; raise UsageError if there are fewer."""
    wanted = n // len(LEVELS)
    if len(topics) < wanted:
        told = f"{path} has {len(topics)} topics, and {n} stories need {wanted}"
        raise UsageError(told, f"Try --n {len(LEVELS) * len(topics)}")
    return list(topics[:wanted])


def command_line(blend: str, config, topics: Path | None, smoke: bool, out: Path) -> str:
    """Return the command that goes on with this corpus."""
    words = ["gatsby", "write", "--blend", blend, "--n", config.n, "--seed", config.seed]
    words += ["--topics", topics] if topics else []
    return shlex.join(map(str, [*words, *(["--smoke"] if smoke else []), "--out", out]))


def prepare(chosen, config, out: Path, command: str):
    """Return the Run of a blend."""
    from gatsby_mlx.corpus.write import Run
    from gatsby_mlx.device.ranks import ranks
    from gatsby_mlx.evaluation.topics import unseen_nouns
    from gatsby_mlx.writers.house import compose_topics
    from gatsby_mlx.writers.make import make, world

    shares, own = chosen.shares, world(chosen.specs.values())
    writers = [make(spec) for spec in chosen.specs.values()]
    return Run(
        writers,
        shares,
        own.names,
        config,
        out,
        bank=partial(compose_topics, world=own),
        kept_out=unseen_nouns(),
        command=command,
        ranks=ranks(),
    )


def check_machine(chosen) -> None:
    """Refuse a blend that this machine cannot hold, before anything is downloaded; the house alone needs no look."""
    from gatsby_mlx.writers.specs import ModelSpec

    if any(isinstance(spec, ModelSpec) for spec in chosen.specs.values()):
        from gatsby_mlx.writers.machine import check

        check(chosen.specs, chosen.shares)
        quiet_hub()


def quiet_hub() -> None:
    """Let the hub's client speak through our errors alone, and draw its bars on a terminal only."""
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()


def write_house(config, out: Path, writer: str = "house") -> None:
    """Write a corpus with the house writer, or the small one, showing progress, and say what was done."""
    from gatsby_mlx.corpus.blend import parse

    write_with_status(prepare(parse(writer), config, out, "gatsby write"))


def write_with_status(run, show: bool = False) -> None:
    """Write the corpus, showing progress on stderr, and say what was done; raise WriterError if a writer stopped."""
    from gatsby_mlx.corpus.write import Filling, Loading, Stopped, Thinking, Written
    from gatsby_mlx.device.awake import awake

    progress, noted = Progress(run), set()
    with awake():
        for event in run:
            match event:
                case Written():
                    progress.written(event.attempt)
                    if show and not event.attempt.failed:
                        progress.status.clear()
                        click.echo(glow(f"{event.attempt.topic}, level {event.attempt.level}\n{event.attempt.story}\n"))
                case Thinking():
                    progress.say("thinking of topics ...")
                case Loading():
                    progress.loading(event.writer, event.n)
                case Filling():
                    progress.say(f"{event.n} empty places go to new topics")
                case Stopped() if event.writer not in noted and len(run.writers) > 1:
                    noted.add(event.writer)
                    progress.note(f"{event.writer} stopped, the others go on: {line_of(event.error)}")
    progress.status.clear()
    if run.failed:
        raise unfinished(run, noted)
    if run.ranks.rank == 0:
        summary(run, progress)


def unfinished(run, noted: Collection[str]) -> WriterError:
    """Return the error of a run whose writers could not go on; why is said of those that are not `noted` yet."""
    why = "; ".join(line_of(error) for name, error in run.failed.items() if name not in noted)
    told = f"{', '.join(run.failed)} could not go on" + (f" ({why})" if why else ", as said above")
    cure = f"The same command goes on; --assemble makes a corpus of what there is: {run.command}"
    return WriterError(f"{told}. {len(run.ledger.filled)} stories are kept", cure)


def line_of(error: Exception) -> str:
    """Return what to say of a writer's error, in one printable line."""
    from gatsby_mlx.errors import GatsbyError

    told = error.line() if isinstance(error, GatsbyError) else f"{type(error).__name__}: {error}"
    return printable(" ".join(told.split())).rstrip(".")


def summary(run, progress: "Progress") -> None:
    """Say on stderr what was written, and what is still short."""
    ledger, spent = run.ledger, time.monotonic() - progress.begun
    done, refused = len(ledger.filled), len(ledger.rejected())
    told = f"{run.out}: {done} stories on {len({t for t, _ in ledger.filled})} topics in {spent:.1f} s"
    click.echo(told + (f"; {refused} attempts refused" if refused else ""), err=True)
    short = run.config.n - done
    if short > 0:
        empty = ", ".join(f"level {k}: {n}" for k, n in ledger.open_by_level().items() if n)
        click.echo(f"{short} of {run.config.n} stories are missing (empty places at {empty})", err=True)


class Progress:
    """The status line of a run: stories accepted by level, tokens a second, time left."""

    def __init__(self, run):
        self.run, self.status, self.begun = run, Status(), time.monotonic()
        self.writer, self.target, self.since, self.tokens, self.shown = "", 0, self.begun, 0, 0.0
        self.attempts: Counter[str] = Counter()

    def say(self, line: str) -> None:
        self.status(line)

    def note(self, line: str) -> None:
        self.status.clear()
        click.echo(line, err=True)

    def loading(self, writer: str, n: int) -> None:
        self.writer, self.target, self.since, self.tokens = writer, n, time.monotonic(), 0
        self.attempts[writer] = 0
        self.status(f"{writer}: loading, {n} stories to write")

    def written(self, attempt) -> None:
        self.attempts[self.writer] += 1
        self.tokens += attempt.tokens_out or 0
        now = time.monotonic()
        if not self.status.live or now - self.shown < REFRESH_S:
            return
        self.shown = now
        filled = [key for key, row in self.run.ledger.filled.items() if row.writer == self.writer]
        levels = Counter(level for _, level in filled)
        wanted = sum(place.writer == self.writer for place in self.run.ledger.places.values())
        spent = now - self.since
        fresh = max(1, len(filled) - (wanted - self.target))
        left = (wanted - len(filled)) * spent / fresh
        by_level = " ".join(str(levels[k]) for k in LEVELS)
        speed = f", {self.tokens / spent:.0f} tokens/s" if self.tokens else ""
        told = f"{self.writer}: {len(filled)} of {wanted} accepted (levels {by_level})"
        self.status(f"{told}, {self.attempts[self.writer]} written{speed}, {clock(left)} left")
