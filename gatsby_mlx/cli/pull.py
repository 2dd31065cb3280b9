"""`gatsby pull`."""

import shlex
import sys
from pathlib import Path

import click


@click.command()
@click.argument("repo", metavar="REPO[@REVISION]")
@click.option("--out", type=click.Path(path_type=Path), show_default="models/NAME or corpora/NAME", help="New folder.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Text with the characters of a nanoGPT checkpoint.")
def command(repo: str, out: Path | None, corpus: Path | None) -> None:
    """Bring a model or, as datasets/OWNER/NAME, a corpus from the hub. Prints the folder it is in.

    A ckpt.pt of nanoGPT, such as the one this project began from, is imported without PyTorch. HF_HUB_OFFLINE=1 takes
    what the cache holds.

    \b
    Examples:
      gatsby pull someone/green-light
      gatsby pull someone/green-light@v2 --out models/second
      gatsby pull datasets/someone/stories
      gatsby pull sup-computer/gatsby-nanogpt-2 --corpus raw.txt
    """
    from gatsby_mlx.hub.pull import pull
    from gatsby_mlx.hub.remote import parse

    found = parse(repo)
    out = out or Path("corpora" if found.kind == "dataset" else "models") / found.name
    commit = pull(found, out, corpus, progress=sys.stderr.isatty())
    click.echo(out)
    click.echo(f"{found}@{commit}", err=True)
    place = shlex.quote(str(out))
    then = f"gatsby corpus show {place}" if found.kind == "dataset" else f'gatsby tell "a lost kitten" --model {place}'
    click.echo(then, err=True)
