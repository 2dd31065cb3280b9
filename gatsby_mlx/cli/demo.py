"""`gatsby demo`: the whole way, from nothing to a page about the model that was just made."""

import json
import platform
import time
from pathlib import Path

import click

from gatsby_mlx.cli.console import clock, glow

WRITER = "house-small"  # in few words: the whole of the house's is more than a model learns in five minutes
STORIES = 2000
SECONDS = 285.0  # for all of it: five minutes, less a margin
AFTER_SECONDS = 25.0  # of which telling, the dial and the page take about so much
EVALUATING = 0.04  # share of the training time that evaluations take
LATE_SECONDS = 10.0  # by which training may overrun before it is stopped, on a machine that got busy meanwhile
TOPIC = "a puppy and a balloon"
DIAL_TOPICS = 20
MIN_CHARS, MAX_CHARS = 150_000, 12_000_000
TEMP = 0.5  # a model of five minutes speaks more clearly a little cool
LR = 1.5e-3  # half as much again as the preset: few words bear it (see benchmarks/RESULTS.md)
SHORT = 0.15  # share of the characters that are seen on short rows


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder for it all."
)
@click.option("--topic", default=TOPIC, show_default=True, help="What the five stories are about.")
@click.option("--n", default=STORIES, show_default=True, help="Stories to write and learn from.")
@click.option("--seconds", default=SECONDS, show_default=True, help="How long the whole may take, about.")
@click.option("--seed", default=1925, show_default=True, help="Seed of the stories and of the training.")
def command(out: Path, topic: str, n: int, seconds: float, seed: int) -> None:
    """Write stories, train on them, tell five, read the dial: five minutes on two CPU cores, less on a Mac.

    The stories keep to a small world, and so should --topic: cat, kitten, dog, puppy, bunny, pony, cow, horse, lamb,
    pig, hen, duck, doll, kite, balloon, bubble, moon, sun, star, cloud.

    \b
    Example:
      gatsby demo --topic "a bunny who wanted a kite"
    """
    from gatsby_mlx.corpus.load import load
    from gatsby_mlx.corpus.plan import WriteConfig
    from gatsby_mlx.errors import OutputError
    from gatsby_mlx.prime import fold_topic

    topic = fold_topic(topic)
    config = WriteConfig(n, seed)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not empty", f"Remove it (rm -r {out}), or choose another --out")
    begun = time.monotonic()
    heading("1  Writing stories with the house writer")
    write(config, out / "corpus")
    corpus = load(out / "corpus")
    show_corpus(corpus)
    heading("2  Training a small model on them")
    run = train(corpus, out / "run", begun + seconds - AFTER_SECONDS, seed)
    heading(f"3  Telling: {topic}")
    stories = tell(run, topic, seed)
    heading("4  Reading the dial")
    dial = read_dial(run, seed, out)
    page = out / "index.html"
    write_page(page, topic, corpus, run, dial, stories, time.monotonic() - begun)
    farewell(out, page, time.monotonic() - begun)


def heading(line: str) -> None:
    click.echo("\n" + click.style(line, bold=True))


def write(config, folder: Path) -> None:
    from gatsby_mlx.cli.write import write_house

    write_house(config, folder, WRITER)


def show_corpus(corpus) -> None:
    from gatsby_mlx.cli.corpus import dial_table
    from gatsby_mlx.evaluation.corpus_dial import corpus_dials

    first = min((d for d in corpus.documents if d.level == 2), key=lambda d: len(d.story))
    click.echo(f"{len(corpus.documents):,} stories, {corpus.n_chars:,} characters. One of them, at level 2:\n")
    click.echo(glow(first.header + first.story) + "\n")
    click.echo(dial_table(corpus_dials(corpus.documents)))


def train(corpus, folder: Path, until: float, seed: int):
    """Train the pocket preset until about `until` (monotonic seconds): its speed here decides how much it sees."""
    from gatsby_mlx.cli.train import describe, train_with_status
    from gatsby_mlx.config import preset
    from gatsby_mlx.training.loop import Run
    from gatsby_mlx.training.speed import measure_speed

    chosen = preset("pocket")
    click.echo("measuring this machine ...", err=True)
    speed = measure_speed(corpus, chosen.model, chosen.training, SHORT)
    chars = speed * (until - time.monotonic()) * (1 - EVALUATING)
    chars = int(min(MAX_CHARS, max(MIN_CHARS, chars)) // 1000 * 1000)
    run = Run(corpus, chosen.model, recipe(chars, seed), folder, "pocket")
    click.echo(describe(run))
    click.echo(f"{chars:,} characters at about {speed:,.0f} a second: {clock(chars / speed)}")
    if train_with_status(run, until + LATE_SECONDS):
        raise KeyboardInterrupt
    return run


def recipe(chars: int, seed: int):
    """Return how the pocket preset is trained here on so many characters."""
    from gatsby_mlx.config import changed, preset

    return changed(
        preset("pocket").training,
        lr=LR,
        max_chars=chars,
        short_chars=int(SHORT * chars),
        warmup_chars=chars // 25,
        eval_every_chars=chars // 6 + 1,
        dial_topics=0,  # the dial is read at the end, and with more stories
        seed=seed,
    )


def best(run):
    from gatsby_mlx.model import checkpoint

    return checkpoint.load(run.out)  # the best, or the last of a run that was stopped before it had one


def tell(run, topic: str, seed: int) -> list:
    """Tell one story at each level from the best checkpoint, all five from the same draws."""
    from gatsby_mlx.model.decode import Job, Sampling, decode
    from gatsby_mlx.prime import LEVELS, build

    ready = best(run)
    jobs = [Job(build(topic, level, alphabet=ready.tokenizer.alphabet), seed, level) for level in LEVELS]
    stories = sorted(decode(ready.model, ready.tokenizer, jobs, Sampling(TEMP)), key=lambda s: s.job.key)
    for story in stories:
        click.echo(click.style(f"\ngreen={story.job.key}", bold=True))
        click.echo(glow(story.text))
    return stories


def other_topics(corpus, seed: int) -> list[str]:
    """Return topics of the same world that no story of the corpus is about."""
    from gatsby_mlx.writers.house import SMALL, compose_topics

    told = {d.topic for d in corpus.documents}
    return [topic for topic in compose_topics(10 * DIAL_TOPICS, seed + 1, SMALL) if topic not in told][:DIAL_TOPICS]


def read_dial(run, seed: int, out: Path):
    from gatsby_mlx import files
    from gatsby_mlx.cli.dial import render
    from gatsby_mlx.cli.evaluating import progress_line
    from gatsby_mlx.evaluation.corpus_dial import corpus_dials
    from gatsby_mlx.evaluation.dial import measure
    from gatsby_mlx.evaluation.stories import Plan, tell
    from gatsby_mlx.model.decode import Sampling

    ready = best(run)
    topics = other_topics(run.corpus, seed)
    files.write_atomic(out / "topics.txt", "\n".join(topics) + "\n")
    plan = Plan(tuple(topics), 1, Sampling(TEMP), batch=100, run_on=3)
    told = tell(ready.model, ready.tokenizer, plan, progress=progress_line())
    dial = measure(told.stories, told.run_on, plan, corpus_dials(run.corpus.documents)[0].means)
    click.echo(render(dial))
    files.write_atomic(out / "dial.json", json.dumps(dial.to_json(), indent=1) + "\n")
    return dial


def write_page(page: Path, topic: str, corpus, run, dial, stories, seconds: float) -> None:
    from gatsby_mlx import files
    from gatsby_mlx.evaluation.corpus_dial import corpus_dials
    from gatsby_mlx.evaluation.page import Report, render, told
    from gatsby_mlx.training.record import read_metrics

    c, m = run.model_config, run.model
    facts = (
        ("Corpus", f"{len(corpus.documents):,} stories by the house writer, {corpus.n_chars:,} characters"),
        ("Model", f"pocket: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, context {c.block_size}"),
        ("Parameters", f"{m.n_params(positions=False):,}, and {m.n_params():,} with the position table"),
        ("Trained on", f"{run.progress.chars:,} characters in {clock(run.progress.seconds)}"),
        ("Whole demo", clock(seconds)),
        ("Machine", f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"),
    )
    report = Report(
        title=topic.capitalize(),
        facts=facts,
        metrics=read_metrics(run.out / "metrics.jsonl"),
        corpus=corpus_dials(corpus.documents),
        dial=dial,
        stories=[told(s) for s in stories],
        next_steps=next_steps(run.out),
    )
    files.write_atomic(page, render(report))


def next_steps(folder: Path) -> tuple[tuple[str, str], ...]:
    return (
        (f'gatsby tell "a pig and a kite" --green 5 --model {folder}', "a story from the model you just made"),
        (f'gatsby tell "a duck who wanted a star" --all-levels --model {folder}', "five levels side by side"),
        (
            f"gatsby dial --model {folder} --topics {folder.parent / 'topics.txt'} --seeds 6",
            "the dial, measured with care",
        ),
        ("gatsby train --preset story --out runs/story", "a far larger model, on the corpus that ships"),
    )


def farewell(out: Path, page: Path, seconds: float) -> None:
    heading(f"Done in {clock(seconds)}. Everything is in {out}/; open {page}")
    click.echo("\nTry next:")
    for line, what in next_steps(out / "run"):
        click.echo(f"  {line}\n      {what}")
