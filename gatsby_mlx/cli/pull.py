"""`gatsby pull`."""

import json
import shlex
import sys
from pathlib import Path

import click

from gatsby_mlx.cli.console import (
    PATH,
    check_room,
    force_option,
    json_option,
    long_command,
)


@click.command()
@click.argument("repo", metavar="OWNER/NAME[@REVISION]")
@click.option(
    "--out",
    "-o",
    type=PATH,
    metavar="DIR",
    show_default="models/NAME or corpora/NAME",
    help="Output folder, a new one.",
)
@click.option("--corpus", type=PATH, metavar="FILE", help="A text with the characters of a nanoGPT checkpoint.")
@force_option
@json_option
@long_command
def command(repo: str, out: Path | None, corpus: Path | None, force: bool, as_json: bool) -> None:
    """Download a model or, as datasets/OWNER/NAME, a corpus from the hub. Prints its folder.

    A ckpt.pt of nanoGPT, such as the baseline that this project started from, is converted without PyTorch. With
    HF_HUB_OFFLINE=1 only the hub's cache is used.

    \b
    Examples:
      gatsby pull someone/green-light
      gatsby pull someone/green-light@v2 --out models/second
      gatsby pull datasets/someone/stories
      gatsby pull sup-computer/gatsby-nanogpt-2 --corpus raw.txt
    """
    from gatsby_mlx.hub.pull import pull
    from gatsby_mlx.hub.remote import parse

    named = parse(repo)
    is_corpus = named.kind == "dataset"
    out = out or Path("corpora" if is_corpus else "models") / named.name
    if force:
        check_room(out, force)
    commit = pull(named, out, corpus, progress=sys.stderr.isatty(), replace=force)
    facts = {"path": str(out), "repository": str(named), "commit": commit}
    click.echo(json.dumps(facts, indent=1) if as_json else out)
    click.echo(f"{named}@{commit}", err=True)
    folder = shlex.quote(str(out))
    next_step = f"gatsby corpus show {folder}" if is_corpus else f'gatsby tell "a lost kitten" --model {folder}'
    click.echo(next_step, err=True)
