"""`gatsby publish`."""

import json
import sys
import tempfile
from pathlib import Path

import click

from gatsby_mlx.cli.console import (
    PATH,
    confirm,
    json_option,
    long_command,
    size,
)


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Make a new repository public (default: private).")
@click.option("--license", default="mit", show_default=True, metavar="NAME", help="License on the card.")
@click.option("--language", metavar="CODE", help="Language on the card, needed for a text that you brought: en, de.")
@click.option("--yes", is_flag=True, help="Do not ask; needed off a terminal.")
@json_option
@click.pass_context
@long_command
def command(
    ctx: click.Context,
    folder: Path,
    repo: str,
    public: bool,
    license: str,
    language: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Upload a model (a checkpoint or run folder) or a corpus to the hub. Prints the repository and its commit.

    A model comes with a GPT-2 version for mlx-lm and transformers, a corpus with its stories as JSON lines, and both
    with a card, unless the folder has a README.md. The state of a run is not uploaded. For a text that you brought,
    give its --license and --language: none is assumed. Log in first: hf auth login

    \b
    Examples:
      gatsby publish runs/story someone/green-light
      gatsby publish stories someone/green-light-stories --public --yes
      gatsby publish tales someone/tales --license cc-by-4.0 --language en
    """
    from gatsby_mlx.errors import UsageError
    from gatsby_mlx.hub import publish
    from gatsby_mlx.hub.remote import Repo, parse

    given = parse(repo)
    if given.revision:
        hint = f"Try: gatsby publish {folder} {given.id}"
        raise UsageError("A revision cannot be published to", hint)
    named = Repo(given.id, publish.kind_of(folder))
    with tempfile.TemporaryDirectory(prefix="gatsby-publish-") as temporary:
        staged = Path(temporary)
        given = ctx.get_parameter_source("license") is click.core.ParameterSource.COMMANDLINE
        names = publish.gather(folder, named, staged, license if given else None, language)
        total = 0
        for name in names:
            n = (staged / name).stat().st_size
            total += n
            click.echo(f"{size(n):>9}  {name}", err=True)
        existing = publish.find(named)
        access = "private" if (existing.private if existing else not public) else "public"
        action = f"Add a commit to the {access} {named.kind}" if existing else f"Create the {access} {named.kind}"
        confirm(f"{action} {named.id} with {len(names)} files, {size(total)}?", yes)
        commit = publish.upload(staged, named, private=not public, progress=sys.stderr.isatty())
    facts = {"repository": str(named), "commit": commit, "files": names}
    click.echo(json.dumps(facts, indent=1) if as_json else f"{named}@{commit}")
    click.echo(f"gatsby pull {named}", err=True)
