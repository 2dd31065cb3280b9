"""`gatsby publish`."""

import sys
import tempfile
from pathlib import Path

import click

from gatsby_mlx.cli.console import confirm, size


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Let everyone see a repository that is created (default: only you).")
@click.option("--license", "licence", default="mit", show_default=True, metavar="ID", help="Licence on the card.")
@click.option("--yes", is_flag=True, help="Do not ask; needed off a terminal.")
def command(folder: Path, repo: str, public: bool, licence: str, yes: bool) -> None:
    """Put a model (a checkpoint or run folder) or a corpus on the hub. Prints the repository and its commit.

    A model comes with its GPT-2 form for mlx-lm and transformers, a corpus with its stories as JSON lines, both with a
    card, unless the folder has a README.md of its own. A run's state is not uploaded. Log in first: hf auth login

    \b
    Examples:
      gatsby publish runs/story someone/green-light
      gatsby publish stories someone/green-light-stories --public --yes
    """
    from gatsby_mlx.errors import UsageError
    from gatsby_mlx.hub import publish
    from gatsby_mlx.hub.remote import Repo, parse

    given = parse(repo)
    if given.revision:
        cure = f"Say: gatsby publish {folder} {given.id}"
        raise UsageError("A repository is published to as it stands, not at a revision", cure)
    named = Repo(given.id, publish.kind_of(folder))
    with tempfile.TemporaryDirectory(prefix="gatsby-publish-") as temporary:
        staged = Path(temporary)
        names = publish.gather(folder, named, staged, licence)
        total = 0
        for name in names:
            n = (staged / name).stat().st_size
            total += n
            click.echo(f"{size(n):>9}  {name}", err=True)
        there = publish.find(named)
        who = "private" if (there.private if there else not public) else "public"
        deed = f"Add a commit to the {who} {named.kind}" if there else f"Create the {who} {named.kind}"
        confirm(f"{deed} {named.id} with {len(names)} files, {size(total)}?", yes)
        commit = publish.upload(staged, named, private=not public, progress=sys.stderr.isatty())
    click.echo(f"{named}@{commit}")
    click.echo(f"gatsby pull {named}", err=True)
