"""`gatsby demo`: from nothing to a page about the model that was just made."""

import json
import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import (
    PATH,
    SEED,
    clock,
    glow,
    going_on,
    long_command,
    make_room,
    same_command,
)
from gatsby_mlx.errors import OutputError
from gatsby_mlx.story.english import counted

if TYPE_CHECKING:
    from gatsby_mlx.api import DialReading, ToldStory
    from gatsby_mlx.corpus.load import Corpus
    from gatsby_mlx.corpus.plan import WriteConfig
    from gatsby_mlx.training.loop import Run

WRITER = "house-small"  # a small vocabulary: a model learns the full one in hours, not in minutes
STORIES = 2000
SECONDS = 285.0  # for everything: five minutes, less a margin
AFTER_TRAINING = 25.0  # seconds for the stories, the dial and the page
MAX_DELAY = 10.0  # seconds of training beyond the plan, on a machine that has become busy
TOPIC = "a puppy and a balloon"
DIAL_TOPICS = 20
TEMP = 0.5  # a model of five minutes tells clearer stories at a low temperature


@click.command()
@click.option("--out", "-o", type=PATH, metavar="DIR", default=Path("demo"), show_default=True, help="Output folder.")
@click.option("--topic", metavar="TOPIC", default=TOPIC, show_default=True, help="Topic of the five stories.")
@click.option("--n", metavar="N", default=STORIES, show_default=True, help="Stories to write and train on.")
@click.option("--seconds", metavar="X", default=SECONDS, show_default=True, help="About how long the demo takes.")
@click.option(
    "--seed", type=SEED, metavar="N", default=1925, show_default=True, help="Seed of the stories and of the training."
)
@click.option("--again", is_flag=True, help="Start over: remove what an earlier demo left in --out.")
@click.pass_context
@long_command
def command(ctx: click.Context, out: Path, topic: str, n: int, seconds: float, seed: int, again: bool) -> None:
    """Write stories, train on them, tell five, measure the dial: five minutes on two CPU cores, less on a Mac.

    A demo that was stopped goes on. After one that is finished, another --topic is told by the same model, in seconds.

    The stories are about a small world, so choose a --topic in it: cat, kitten, dog, puppy, bunny, pony, cow, horse,
    lamb, pig, hen, duck, doll, kite, balloon, bubble, moon, sun, star, cloud.

    \b
    Example:
      gatsby demo --topic "a bunny who wanted a kite"
    """
    from gatsby_mlx.cli.write import write_house
    from gatsby_mlx.corpus.load import load
    from gatsby_mlx.corpus.plan import WriteConfig
    from gatsby_mlx.story.prime import fold_topic

    topic = fold_topic(topic)
    config = WriteConfig(n, seed)
    if again:
        make_room(out)
    check_earlier(out, config)
    started = time.monotonic()
    with going_on(same_command(ctx, without=("again",))):
        heading("1  Writing stories with the house writer")
        write_house(config, out / "corpus", WRITER)
        corpus = load(out / "corpus")
        show_corpus(corpus)
        heading("2  Training a small model on them")
        run = train(corpus, out / "run", started + seconds - AFTER_TRAINING, seed)
        heading(f"3  Telling: {topic}")
        stories = tell(run, topic, seed)
        heading("4  Measuring the dial")
        dial = measure_dial(run, seed, out)
        page = out / "index.html"
        write_page(page, topic, run, dial, stories, time.monotonic() - started)
    show_next_steps(out, page, time.monotonic() - started)


def check_earlier(out: Path, config: "WriteConfig") -> None:
    """Check that an earlier demo in `out` can go on: it has the same stories. Raises OutputError for anything else."""
    from gatsby_mlx import api
    from gatsby_mlx.files import check_free

    if not (out / "corpus").is_dir():
        return check_free(out, "Choose another --out")
    try:
        api.plan_writing(api.as_blend(WRITER), config, out / "corpus").is_finished()
    except OutputError:
        hint = f"Start over with: gatsby demo --again --out {shlex.quote(str(out))}"
        raise OutputError(f"{out} has a demo with another --n or --seed", hint) from None


def heading(line: str) -> None:
    click.echo("\n" + click.style(line, bold=True))


def show_corpus(corpus: "Corpus") -> None:
    """Show the size of the corpus, its shortest story at level 2, and its dial."""
    from gatsby_mlx.cli.corpus import dial_table
    from gatsby_mlx.corpus.levels import corpus_dials

    shortest = min((d for d in corpus.documents if d.level == 2), key=lambda d: len(d.story))
    click.echo(f"{counted(len(corpus.documents), 'story')}, {corpus.n_chars:,} characters. One of them, at level 2:\n")
    click.echo(glow(shortest.header + shortest.story) + "\n")
    click.echo(dial_table(corpus_dials(corpus.documents)))


def train(corpus: "Corpus", folder: Path, until: float, seed: int) -> "Run":
    """Train the pocket preset until about `until` (monotonic seconds), or go on with the run in `folder`."""
    from gatsby_mlx import api
    from gatsby_mlx.cli.train import describe, resumed_line, train_with_status
    from gatsby_mlx.training.timed import speed_of, timed_run

    if (folder / "last").exists():
        run = api.plan_training(corpus, resume=folder)
        done = run.progress.chars >= run.config.max_chars
        click.echo(f"{describe(run)}\n{'trained by an earlier demo' if done else resumed_line(run)}")
        if not done and train_with_status(run):
            raise KeyboardInterrupt
        return run
    click.echo("measuring the speed of this machine ...", err=True)
    speed = speed_of(corpus)
    run = timed_run(corpus, folder, until - time.monotonic(), speed, seed)
    chars = run.config.max_chars
    click.echo(describe(run))
    click.echo(f"{chars:,} characters at about {speed:,.0f} per second: {clock(chars / speed)}")
    if train_with_status(run, until + MAX_DELAY):
        raise KeyboardInterrupt
    return run


def tell(run: "Run", topic: str, seed: int) -> "list[ToldStory]":
    """Tell one story at each level with the best checkpoint, all with the same seed."""
    from gatsby_mlx import api

    stories = api.load(run.out).tell_many([topic], seeds=[seed], temp=TEMP)
    for story in stories:
        click.echo(click.style(f"\n{story.obsession.tag}={story.level}", bold=True))
        click.echo(glow(story.text, story.obsession))
    return stories


def unused_topics(corpus: "Corpus", seed: int) -> list[str]:
    """Return topics of the small world that no story of the corpus is about."""
    from gatsby_mlx.house import SMALL, compose_topics

    used = {document.topic for document in corpus.documents}
    return [topic for topic in compose_topics(10 * DIAL_TOPICS, seed + 1, SMALL) if topic not in used][:DIAL_TOPICS]


def measure_dial(run: "Run", seed: int, out: Path) -> "DialReading":
    """Measure the dial on new topics, and keep the topics and the figures in `out`."""
    from gatsby_mlx import api, files
    from gatsby_mlx.cli.dial import render
    from gatsby_mlx.cli.story_options import ProgressLine
    from gatsby_mlx.evaluation.stories import StoryPlan
    from gatsby_mlx.story.sampling import Sampling

    model, topics = api.load(run.out), unused_topics(run.corpus, seed)
    files.write_atomic(out / "topics.txt", "\n".join(topics) + "\n")
    plan = StoryPlan(tuple(topics), 1, Sampling(TEMP), batch=100, run_on=3, obsession=model.obsession)
    dial = api.dial_of(api.tell_stories(model, plan, on_progress=ProgressLine()), run.corpus)
    click.echo(render(dial))
    files.write_atomic(out / "dial.json", json.dumps(dial.to_json(), indent=1) + "\n")
    return dial


def write_page(
    page: Path, topic: str, run: "Run", dial: "DialReading", stories: "Sequence[ToldStory]", seconds: float
) -> None:
    """Write the page about the demo's model."""
    from gatsby_mlx import files
    from gatsby_mlx.corpus.levels import corpus_dials
    from gatsby_mlx.evaluation.page import PageStory, Report, render
    from gatsby_mlx.training.record import read_metrics

    c, m, corpus = run.model_config, run.model, run.corpus
    facts = (
        ("Corpus", f"{len(corpus.documents):,} stories by the house writer, {corpus.n_chars:,} characters"),
        ("Model", f"pocket: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, context {c.block_size}"),
        ("Parameters", f"{m.n_params():,}, {m.n_params(positions=False):,} without the position table"),
        ("Trained on", f"{run.progress.chars:,} characters in {clock(run.progress.seconds)}"),
        ("Duration of the demo", clock(seconds)),
        ("Machine", f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"),
    )
    report = Report(
        title=topic.capitalize(),
        facts=facts,
        metrics=read_metrics(run.out / "metrics.jsonl"),
        corpus=corpus_dials(corpus.documents),
        dial=dial,
        stories=[PageStory(s.level, s.topic, s.seed, s.text, s.finish) for s in stories],
        next_steps=next_steps(run.out),
    )
    files.write_atomic(page, render(report))


def next_steps(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return commands to try with the model in `folder`, each with what it does."""
    return (
        (f'gatsby tell "a pig and a kite" --level 5 --model {folder}', "a story of the model that you just made"),
        (f'gatsby tell "a duck who wanted a star" --all-levels --model {folder}', "five levels side by side"),
        (
            f"gatsby dial --model {folder} --topics {folder.parent / 'topics.txt'} --seeds 6",
            "the dial, measured on more stories",
        ),
        ("gatsby train --preset story --out runs/story", "a far larger model, on the corpus that ships: hours"),
    )


def show_next_steps(out: Path, page: Path, seconds: float) -> None:
    heading(f"Done in {clock(seconds)}. Everything is in {out}/: open {page}")
    click.echo("\nTry next:")
    for line, what in next_steps(out / "run"):
        click.echo(f"  {line}\n      {what}")
