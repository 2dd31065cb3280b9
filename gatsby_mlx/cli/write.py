"""`gatsby write`."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import click

from gatsby_mlx.cli.console import SEED, Status
from gatsby_mlx.errors import UsageError
from gatsby_mlx.prime import LEVELS

MAX = 100_000  # stories: 20,000 topics are sure to be distinct, and composed in seconds


@click.command()
@click.option("--writer", type=click.Choice(["house"]), default="house", show_default=True, help="Who writes.")
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
    "--topics", type=click.Path(path_type=Path), help="Topics of yours, one a line, in place of composed ones."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for raw.txt and manifest.json.")
def command(writer: str, n: int | None, seed: int, topics: Path | None, out: Path) -> None:
    """Write a corpus: every topic at the five levels of the dial, each story judged before it enters.

    A finished corpus is left alone, and --out holds nothing else; nothing is written before all stories are.

    \b
    Examples:
      gatsby write --n 1000 --out stories
      gatsby write --n 4000 --seed 1925 --out corpus
    """
    from gatsby_mlx.corpus.write import WriteConfig, is_finished
    from gatsby_mlx.evaluation.topics import read_topics
    from gatsby_mlx.writers import house
    from gatsby_mlx.writers.embedded import HouseWriter

    author, own = HouseWriter(), read_topics(topics) if topics else ()
    config = WriteConfig(n or len(LEVELS) * len(own) or 1000, seed)
    chosen = first_of(own, config.n, topics) if topics else house.compose_topics(config.n // len(LEVELS), seed)
    if is_finished(out, author, config, chosen):
        click.echo(f"{out} holds this corpus already; nothing to do", err=True)
        return
    write_with_status(author, config, out, chosen)
    click.echo(f"gatsby corpus show {shlex.quote(str(out))}", err=True)


def write_with_status(author, config, out: Path, topics: list[str]) -> None:
    """Write the corpus, showing progress on stderr, and say what was done."""
    from gatsby_mlx.corpus.write import write_corpus
    from gatsby_mlx.writers import house

    status, begun, done, refused = Status(), time.monotonic(), 0, 0
    for written in write_corpus(author, topics, house.NAMES, config, out):
        done += not written.failed
        refused += bool(written.failed)
        if done % 50 == 0:
            status(f"{done} of {config.n} stories, {refused} refused, {done / (time.monotonic() - begun):.0f} a second")
    status.clear()
    spent = time.monotonic() - begun
    told = f"{out}: {done} stories on {len(topics)} topics in {spent:.1f} s"
    click.echo(told + (f"; {refused} attempts refused" if refused else ""), err=True)
    if done < config.n:
        click.echo(f"{config.n - done} places stay empty: see `rejected` in {out / 'manifest.json'}", err=True)


def first_of(topics: Sequence[str], n: int, path: Path) -> list[str]:
    """Return as many of the topics read from `path` as `n` stories need; raise UsageError if there are fewer."""
    wanted = n // len(LEVELS)
    if len(topics) < wanted:
        told = f"{path} has {len(topics)} topics, and {n} stories need {wanted}"
        raise UsageError(told, f"Try --n {len(LEVELS) * len(topics)}")
    return list(topics[:wanted])
