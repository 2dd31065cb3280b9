"""`gatsby checkpoint list|show|verify|rm`."""

import json
from datetime import datetime
from pathlib import Path

import click

from gatsby_mlx.cli.console import confirm, printable, size, table

FOLDER = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """List, show, verify and remove checkpoints.

    \b
    Example:
      gatsby checkpoint list
    """


@command.command("list")
@click.argument("places", metavar="[FOLDER]...", nargs=-1, type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(places: tuple[Path, ...], as_json: bool) -> None:
    """List checkpoints: in runs/, models/ and demo/ and those that ship, or in the folders named.

    \b
    Examples:
      gatsby checkpoint list
      gatsby checkpoint list runs/story --json
    """
    from gatsby_mlx.errors import CheckpointError
    from gatsby_mlx.hub import shelf
    from gatsby_mlx.model.checkpoint import CURE

    for place in places:
        if not place.exists():
            raise CheckpointError(f"There is no folder {place}", CURE)
    found = list(shelf.find(places))
    if as_json:
        click.echo(json.dumps([shelf.to_json(one) for one in found], indent=1))
    elif not found:
        click.echo(f"no checkpoints here. {CURE}", err=True)
    else:
        click.echo(
            table(["checkpoint", "shape", "context", "step", "loss", "size", "written"], [_row(f) for f in found])
        )


def _row(one) -> list[str]:
    shape = "/".join(str(one.architecture.get(k, "?")) for k in ("n_layer", "n_head", "n_embd"))
    written = datetime.fromtimestamp(one.written).strftime("%Y-%m-%d %H:%M")
    step = one.info.get("step")
    told = ["" if step is None else str(step), "" if one.loss is None else f"{one.loss:.4f}"]
    return [str(one.path), shape, str(one.architecture.get("block_size", "?")), *told, size(one.n_bytes), written]


@command.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--card", "with_card", is_flag=True, help="Print its card as well: its own, or the one it would get.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(folder: Path, with_card: bool, as_json: bool) -> None:
    """Print a checkpoint's facts, and its files with sizes and sha256.

    \b
    Examples:
      gatsby checkpoint show runs/story
      gatsby checkpoint show models/seed --card
    """
    from gatsby_mlx.hub import card, shelf
    from gatsby_mlx.model import checkpoint

    one = shelf.facts(checkpoint.resolve(folder))
    listed = shelf.contents(one.path)
    if as_json:
        told = shelf.to_json(one) | {"files": [vars(f) for f in listed]}
        click.echo(json.dumps(told, indent=1))
        return
    click.echo(printable(f"{one.path}\n\n{_facts(one)}\n"))
    click.echo(table(["file", "size", "sha256"], [[f.name, size(f.n_bytes), f.sha256] for f in listed]))
    if with_card:
        own = card.own_card(one.path)
        click.echo("\n" + printable(own or card.model_card(checkpoint.load(one.path), "native", folder.resolve().name)))


def _facts(one) -> str:
    """Return everything that config.json tells, nested names joined by dots."""
    rows: list[list[str]] = []

    def take(name: str, value) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                take(f"{name}.{key}" if name else key, inner)
        else:
            rows.append([name, f"{value:.6g}" if isinstance(value, float) else str(value)])

    take("", {"architecture": one.architecture, "weights": one.weights, **one.info})
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


@command.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
def verify(folder: Path) -> None:
    """Read a whole checkpoint and check it: hash, shapes, finite weights, finite logits.

    \b
    Example:
      gatsby checkpoint verify models/seed
    """
    from gatsby_mlx.hub import shelf
    from gatsby_mlx.model import checkpoint

    folder = checkpoint.resolve(folder)
    for line in shelf.verify(folder):
        click.echo(f"ok  {line}")
    click.echo(f"{folder} is sound")


@command.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--yes", is_flag=True, help="Do not ask; needed off a terminal.")
def rm(folder: Path, yes: bool) -> None:
    """Remove a checkpoint or a whole run. Refused for a folder that holds anything gatsby does not write.

    \b
    Example:
      gatsby checkpoint rm runs/story/last --yes
    """
    from gatsby_mlx.hub import shelf

    n_bytes = shelf.removable(folder)
    confirm(f"Remove {folder} ({size(n_bytes)})?", yes)
    shelf.remove(folder)
    click.echo(f"removed {folder}, {size(n_bytes)}", err=True)
