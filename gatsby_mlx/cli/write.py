"""`gatsby write`."""

import json
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import (
    PATH,
    SEED,
    Status,
    clock,
    force_option,
    glow,
    going_on,
    json_option,
    make_room,
    obsession_option,
    printable,
)
from gatsby_mlx.errors import without_passwords
from gatsby_mlx.story.english import counted
from gatsby_mlx.story.obsession import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatsby_mlx.corpus.blend import Blend
    from gatsby_mlx.corpus.ledger import Attempt
    from gatsby_mlx.corpus.plan import WriteConfig
    from gatsby_mlx.corpus.write import WriteRun

MANY = 2_000  # stories: the house writer takes less than ten seconds for fewer
MAX = 100_000  # stories: 20,000 distinct topics can be composed in seconds
REFRESH_S = 0.2


@click.command()
@click.option(
    "--blend",
    "--writer",
    metavar="NAME[=X],...",
    default="house",
    show_default=True,
    help="Writers with their shares, or a .toml file. Names: four (olmo, ministral, gemma, granite), house, "
    "house-plain, house-tales, house-small, server:URL#MODEL, a repository of the hub, a folder with a model.",
)
@click.option(
    "--n",
    type=click.IntRange(5, MAX),
    metavar="N",
    show_default="1000, or 5 for each of --topics",
    help="Number of stories, a multiple of 5: every topic at five levels.",
)
@click.option(
    "--seed", type=SEED, metavar="N", default=1925, show_default=True, help="The same seed gives the same corpus."
)
@obsession_option
@click.option("--topics", type=PATH, metavar="FILE", help="Your topics, one a line, instead of the writers' topics.")
@click.option(
    "--api-key-env", metavar="NAME", help="Environment variable that holds the API key of the blend's servers."
)
@click.option(
    "--guide/--no-guide",
    default=True,
    show_default=True,
    help="Hold models in this process to the mentions of the level, the topic and the length while they write.",
)
@click.option(
    "--examples",
    type=PATH,
    metavar="FILE",
    help="A corpus whose stories a base model is shown, three of each level.  [default: by the house writer]",
)
@click.option(
    "--out", "-o", type=PATH, metavar="DIR", help="Output folder, for raw.txt and manifest.json. Needed to write."
)
@click.option("--smoke", is_flag=True, help="Write one topic with each writer, to test that they all work here.")
@click.option("--dry-run", is_flag=True, help="Print the plan: shares, downloads, memory and time. Writes nothing.")
@click.option("--assemble", is_flag=True, help="Make a corpus of the stories that a stopped or running --out has.")
@click.option(
    "--wired",
    is_flag=True,
    help="On a Mac, keep a model's memory resident and use more of it: faster for one that nearly fills the memory. "
    "Kernel panics are reported with it.",
)
@click.option("--print", "show", is_flag=True, help="Print every accepted story.")
@force_option
@json_option
def command(
    blend,
    n,
    seed,
    obsession,
    topics,
    api_key_env,
    guide,
    examples,
    out,
    smoke,
    dry_run,
    assemble,
    wired,
    show,
    force,
    as_json,
) -> None:
    """Write a corpus: every topic at the five levels of the dial. Each story is checked before it is accepted.

    After an interruption, the same command resumes. A finished corpus is left as it is.

    \b
    Examples:
      gatsby write --n 1000 --out stories
      gatsby write --blend four --smoke --out smoke
      gatsby write --blend olmo=.4,gemma=.5,house=.1 --n 2000 --out mixed
      gatsby write --blend server:http://localhost:1234 --n 100 --out served
      gatsby write --blend gemma --obsession whale.toml --n 500 --out whales
    """
    from gatsby_mlx import api
    from gatsby_mlx.corpus.blend import with_api_keys, with_guide
    from gatsby_mlx.corpus.compose import assemble as assemble_corpus
    from gatsby_mlx.device.ranks import Ranks
    from gatsby_mlx.evaluation.topics import read_topics

    if out is None:
        if not dry_run:
            raise click.MissingParameter(param_hint="'--out'", param_type="option")
        out = Path("stories")  # for the command that the plan prints
    if as_json and (show or dry_run):
        raise click.UsageError("--json is for a corpus that is written: leave out --print and --dry-run")
    if assemble:
        stories = assemble_corpus(out)
        click.echo(f"{out}: {counted(stories, 'story')} so far", err=True)
        if as_json:
            click.echo(to_json(out))
        return
    chosen = api.as_blend(blend)
    if obsession is not None:
        chosen = api.about(chosen, api.as_obsession(obsession))
    if api_key_env is not None:
        chosen = with_api_keys(chosen, api_key_env)
    if examples or not guide:
        chosen = with_guide(chosen, guide, str(examples or ""))
    given = read_topics(topics) if topics else None
    config = api.write_config(chosen, n, seed, given, smoke=smoke, source=topics or "")
    more = ["--no-guide"] if not guide else []
    more += ["--examples", examples] if examples else []
    line = command_line(blend, config, topics, smoke, out, api_key_env, wired, obsession, more)
    if dry_run:
        from gatsby_mlx.cli.write_plan import plan_table

        click.echo(plan_table(chosen, config, line))
        return
    run = api.plan_writing(chosen, config, out, line, Ranks(), wired)
    if force and run.ranks.rank == 0:
        make_room(out)
    if run.is_finished():
        click.echo(f"{out} holds this corpus already; nothing to do", err=True)
        if as_json:
            click.echo(to_json(out))
        return
    api.check_machine(chosen)
    quiet_hub(chosen)
    announce_time(run)
    with going_on(run.command):
        write_with_status(run, show)
    if run.ranks.rank == 0:
        if as_json:
            click.echo(to_json(out))
        click.echo(f"gatsby corpus show {shlex.quote(str(out))}", err=True)


def to_json(out: Path) -> str:
    """Return the JSON document of a corpus that was written: what its manifest says, without its stories."""
    from gatsby_mlx.corpus import manifest

    content = manifest.read(out / "manifest.json")
    known = ("plan", "blend", "finished", "counts", "attempts", "timings")
    return json.dumps({"path": str(out)} | {k: content[k] for k in known if k in content}, indent=1)


def announce_time(run: "WriteRun") -> None:
    """Say on stderr how long the house writer takes here, from some stories that it writes now, if it takes long.

    What a model or a server takes is known once it has written; the status line says it then.
    """
    from gatsby_mlx.writers.estimate import measure

    if run.config.n < MANY or len(run.writers) > 1 or run.writers[0].about.get("kind") != "house":
        return
    story_s, basis = measure(run.writers[0])
    click.echo(f"about {clock(story_s * run.config.n)} here ({basis})", err=True)


def command_line(
    blend: str,
    config: "WriteConfig",
    topics: Path | None,
    smoke: bool,
    out: Path,
    api_key_env: str | None = None,
    wired: bool = False,
    obsession: Path | None = None,
    more: "Sequence[str | Path]" = (),
) -> str:
    """Return the command that writes or resumes this corpus, without a password that is in a server's address."""
    key = ["--api-key-env", api_key_env] if api_key_env else []
    words = ["gatsby", "write", "--blend", without_passwords(blend), *key, "--n", config.n, "--seed", config.seed]
    words += ["--obsession", obsession] if obsession else []
    words += ["--topics", topics] if topics else []
    words += [flag for flag, given in (("--smoke", smoke), ("--wired", wired)) if given]
    return shlex.join(map(str, [*words, *more, "--out", out]))


def quiet_hub(blend: "Blend") -> None:
    """Turn the hub's warnings off, and off a terminal its progress bars, if `blend` has a model."""
    from gatsby_mlx.writers.specs import ModelSpec

    if not any(isinstance(spec, ModelSpec) for spec in blend.specs.values()):
        return
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()


def write_house(config: "WriteConfig", out: Path, writer: str = "house") -> None:
    """Write a corpus with a house writer, showing progress."""
    from gatsby_mlx import api

    run = api.plan_writing(api.as_blend(writer), config, out, "gatsby write")
    if not run.is_finished():
        write_with_status(run)


def write_with_status(run: "WriteRun", show: bool = False) -> None:
    """Write the corpus, showing progress and a summary on stderr; raise WriterError if a writer stopped."""
    from gatsby_mlx import api
    from gatsby_mlx.corpus.write import Filling, Loading, Stopped, Thinking, Written
    from gatsby_mlx.device.awake import awake

    progress, reported = Progress(run), set()
    run.listen(lambda noted: progress.note(printable(f"{noted.writer}: {noted.text}")))
    with awake():
        for event in run:
            match event:
                case Written():
                    progress.written(event.attempt)
                    if show and not event.attempt.failed:
                        progress.status.clear()
                        click.echo(glow(f"{event.attempt.topic}, level {event.attempt.level}\n{event.attempt.story}\n"))
                case Thinking():
                    progress.say("choosing topics ...")
                case Loading():
                    progress.loading(event.writer, event.n)
                case Filling():
                    progress.say(f"{event.n} missing stories get new topics")
                case Stopped() if event.writer not in reported and len(run.writers) > 1:
                    reported.add(event.writer)
                    reason = printable(api.reason(event.error))
                    progress.note(f"{event.writer} stopped, the others continue: {reason}")
    progress.status.clear()
    if run.failed:
        raise api.unfinished(run, reported)
    if run.ranks.rank == 0:
        summary(run, progress)


def summary(run: "WriteRun", progress: "Progress") -> None:
    """Say on stderr how many stories were written and how many are missing."""
    ledger, seconds = run.ledger, time.monotonic() - progress.started
    done, rejected = len(ledger.filled), len(ledger.rejected())
    topics = counted(len({t for t, _ in ledger.filled}), "topic")
    line = f"{run.out}: {counted(done, 'story')} on {topics} in {seconds:.1f} s"
    click.echo(line + (f"; {counted(rejected, 'attempt')} rejected" if rejected else ""), err=True)
    missing = run.config.n - done
    if missing > 0:
        levels = ", ".join(f"level {k}: {n}" for k, n in ledger.open_by_level().items() if n)
        click.echo(f"{missing} of {run.config.n} stories are missing ({levels})", err=True)


class Progress:
    """The status line of a run: accepted stories by level, tokens per second, time left."""

    def __init__(self, run: "WriteRun"):
        self.run, self.status, self.started = run, Status(), time.monotonic()
        self.writer, self.target, self.since, self.tokens, self.shown = "", 0, self.started, 0, 0.0
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

    def written(self, attempt: "Attempt") -> None:
        self.attempts[self.writer] += 1
        self.tokens += attempt.tokens_out or 0
        now = time.monotonic()
        if not self.status.live or now - self.shown < REFRESH_S:
            return
        self.shown = now
        filled = [key for key, row in self.run.ledger.filled.items() if row.writer == self.writer]
        levels = Counter(level for _, level in filled)
        wanted = sum(slot.writer == self.writer for slot in self.run.ledger.slots.values())
        spent = now - self.since
        fresh = max(1, len(filled) - (wanted - self.target))
        left = (wanted - len(filled)) * spent / fresh
        by_level = " ".join(str(levels[k]) for k in LEVELS)
        speed = f", {self.tokens / spent:.0f} tokens/s" if self.tokens else ""
        line = f"{self.writer}: {len(filled)} of {wanted} accepted (levels {by_level})"
        self.status(f"{line}, {self.attempts[self.writer]} written{speed}, {clock(left)} left")
