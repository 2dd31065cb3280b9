"""`gatsby write`."""

import time
from pathlib import Path

import click

from gatsby_mlx.cli.console import Status


@click.command()
@click.option("--writer", type=click.Choice(["house"]), default="house", show_default=True, help="Who writes.")
@click.option("--n", default=1000, show_default=True, help="Stories, a multiple of 5 (every topic at five levels).")
@click.option("--seed", default=1925, show_default=True, help="Same seed, same corpus, byte for byte.")
@click.option(
    "--topics", type=click.Path(path_type=Path), help="Topics of yours, one a line, in place of composed ones."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for raw.txt and manifest.json.")
def command(writer: str, n: int, seed: int, topics: Path | None, out: Path) -> None:
    """Write a corpus: every topic at the five levels of the dial, each story judged before it enters.

    \b
    Examples:
      gatsby write --n 1000 --out stories
      gatsby write --n 4000 --seed 1925 --out corpus
    """
    from gatsby_mlx.corpus.write import WriteConfig, is_finished
    from gatsby_mlx.writers.embedded import HouseWriter

    config = WriteConfig(n, seed)
    author = HouseWriter()
    if is_finished(out, author, config):
        click.echo(f"{out} holds this corpus already; nothing to do", err=True)
        return
    write_with_status(author, config, out, topics)
    click.echo(f"gatsby corpus show {out}", err=True)


def write_with_status(author, config, out: Path, topics: Path | None = None) -> None:
    """Write the corpus, showing progress on stderr, and say what was done."""
    from gatsby_mlx.corpus.write import write_corpus
    from gatsby_mlx.writers import house

    wanted = config.n // 5
    chosen = read_some(topics, wanted) if topics else house.compose_topics(wanted, config.seed)
    status, begun, done, refused = Status(), time.monotonic(), 0, 0
    for written in write_corpus(author, chosen, house.NAMES, config, out):
        done += not written.failed
        refused += bool(written.failed)
        if done % 50 == 0:
            status(f"{done} of {config.n} stories, {refused} refused, {done / (time.monotonic() - begun):.0f} a second")
    status.clear()
    spent = time.monotonic() - begun
    told = f"{out}: {done} stories on {wanted} topics in {spent:.1f} s"
    click.echo(told + (f"; {refused} attempts refused" if refused else ""), err=True)
    if done < config.n:
        click.echo(f"{config.n - done} places stay empty: see `rejected` in {out / 'manifest.json'}", err=True)


def read_some(path: Path, wanted: int) -> list[str]:
    """Return the first `wanted` topics of a file; raise UsageError if there are fewer."""
    from gatsby_mlx.errors import UsageError
    from gatsby_mlx.evaluation.topics import read_topics

    topics = read_topics(path)
    if len(topics) < wanted:
        raise UsageError(f"{path} has {len(topics)} topics, and {wanted} are needed", f"Try --n {5 * len(topics)}")
    return list(topics[:wanted])
