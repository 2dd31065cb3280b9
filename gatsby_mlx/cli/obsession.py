"""`gatsby obsession new` and `gatsby obsession show`."""

import json
import shlex
from pathlib import Path

import click

from gatsby_mlx.cli.console import PATH, json_option, printable
from gatsby_mlx.story.obsession import LEVELS, Obsession, tag_of, template


@click.group()
def command() -> None:
    """Begin an obsession of your own, or show a model's.

    \b
    Example:
      gatsby obsession new "white whale"
    """


@command.command()
@click.argument("phrase", metavar="PHRASE")
@click.option("--out", type=PATH, metavar="FILE", show_default="the tag, as in whale.toml", help="File to write.")
def new(phrase: str, out: Path | None) -> None:
    """Write a commented TOML file for an obsession with PHRASE, the words that count as a mention.

    \b
    Example:
      gatsby obsession new "white whale" --out whale.toml
    """
    from gatsby_mlx import files
    from gatsby_mlx.errors import OutputError, UsageError

    try:
        text = template(phrase)
    except UsageError as error:
        raise UsageError(str(error), 'Try: gatsby obsession new "white whale"') from None
    path = out or Path(f"{tag_of(phrase)}.toml")
    if path.exists():
        raise OutputError(f"{path} exists", "Choose another --out, or edit it")
    files.write_atomic(path, text)
    click.echo(path)
    name = shlex.quote(str(path))
    click.echo(f"gatsby corpus import SOURCE --obsession {name} --out stories     # your stories", err=True)
    click.echo(f"gatsby write --blend OWNER/NAME --obsession {name} --out stories  # a model's", err=True)


@command.command()
@click.argument("which", metavar="[FILE/MODEL]", required=False)
@json_option
def show(which: str | None, as_json: bool) -> None:
    """Show the obsession of a TOML file, a corpus or a model; by default the green light.

    \b
    Examples:
      gatsby obsession show whale.toml
      gatsby obsession show small --json
    """
    from gatsby_mlx import api

    obsession = api.obsession_of(which)
    click.echo(json.dumps(obsession.to_json(), indent=1) if as_json else printable(describe(obsession)))


def describe(obsession: Obsession) -> str:
    """Return an obsession as lines: its phrase, the control line of each level, and what prompts are made of."""
    lines = [f"phrase  {obsession.phrase}", f"title   {obsession.title}", ""]
    for level in LEVELS:
        low, high = obsession.band[level]
        mentions = f"{low} mention{'s' if low > 1 else ''}" if low == high else f"{low} or more mentions"
        if high is not None and high != low:
            mentions = f"{low} to {high} mentions"
        lines.append(f"{obsession.control_line(level)}   {mentions}")
    lists = {name: getattr(obsession, name) for name in ("places", "looks", "pulls", "leads")}
    return "\n".join([*lines, *(f"{name.ljust(6)}  {', '.join(texts)}" for name, texts in lists.items() if texts)])
