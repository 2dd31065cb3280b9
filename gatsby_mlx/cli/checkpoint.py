"""`gatsby checkpoint list|show|verify|rm`."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import PATH, confirm, json_option, printable, size, table
from gatsby_mlx.cli.group import Group

if TYPE_CHECKING:
    from gatsby_mlx.hub.local import Facts


@click.group(cls=Group)
def command() -> None:
    """List, show, verify and remove checkpoints.

    \b
    Example:
      gatsby checkpoint list
    """


@command.command("list")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=PATH)
@json_option
def list_(folders: tuple[Path, ...], as_json: bool) -> None:
    """List the checkpoints in the folders DIR, by default runs/, models/, demo/ and those that ship.

    \b
    Examples:
      gatsby checkpoint list
      gatsby checkpoint list runs/story --json
    """
    from gatsby_mlx.errors import CheckpointError
    from gatsby_mlx.hub import local
    from gatsby_mlx.model.checkpoint import HINT

    for folder in folders:
        if not folder.exists():
            raise CheckpointError(f"There is no folder {folder}", HINT)
    checkpoints = list(local.find(folders))
    if as_json:
        click.echo(json.dumps([local.to_json(one) for one in checkpoints], indent=1))
    elif not checkpoints:
        click.echo(f"no checkpoints here. {HINT}", err=True)
    else:
        head = ["checkpoint", "shape", "context", "step", "loss", "size", "written"]
        click.echo(table(head, [_row(one) for one in checkpoints]))


def _row(one: "Facts") -> list[str]:
    shape = "/".join(str(one.architecture.get(k, "?")) for k in ("n_layer", "n_head", "n_embd"))
    context = str(one.architecture.get("block_size", "?"))
    step = one.info.get("step")
    loss = "" if one.loss is None else f"{one.loss:.4f}"
    written = datetime.fromtimestamp(one.written).strftime("%Y-%m-%d %H:%M")
    return [str(one.path), shape, context, "" if step is None else str(step), loss, size(one.n_bytes), written]


@command.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--card", "with_card", is_flag=True, help="Also print its card, or the one that publishing would write.")
@json_option
def show(folder: Path, with_card: bool, as_json: bool) -> None:
    """Print a checkpoint's facts, and its files with sizes and sha256.

    \b
    Examples:
      gatsby checkpoint show runs/story
      gatsby checkpoint show models/baseline --card
    """
    from gatsby_mlx.hub import card, local
    from gatsby_mlx.model import checkpoint

    one = local.facts(checkpoint.resolve(folder))
    listed = local.contents(one.path)
    if as_json:
        click.echo(json.dumps(local.to_json(one) | {"files": [vars(f) for f in listed]}, indent=1))
        return
    click.echo(printable(f"{one.path}\n\n{_facts(one)}\n"))
    click.echo(table(["file", "size", "sha256"], [[f.name, size(f.n_bytes), f.sha256] for f in listed]))
    if with_card:
        written = card.own_card(one.path)
        click.echo(
            "\n" + printable(written or card.model_card(checkpoint.load(one.path), "native", folder.resolve().name))
        )


def _facts(one: "Facts") -> str:
    """Return the content of config.json as lines, nested keys joined by dots."""
    rows: list[list[str]] = []

    def add(name: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name}.{key}" if name else key, inner)
        else:
            rows.append([name, f"{value:.6g}" if isinstance(value, float) else str(value)])

    add("", {"architecture": one.architecture, "weights": one.weights, **one.info})
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


@command.command()
@click.argument("folder", metavar="DIR", type=PATH)
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Check a checkpoint in full: hash, shapes, finite weights, finite logits.

    \b
    Example:
      gatsby checkpoint verify models/baseline
    """
    from gatsby_mlx.hub import local
    from gatsby_mlx.model import checkpoint

    folder = checkpoint.resolve(folder)
    lines = local.verify(folder)
    if as_json:
        click.echo(json.dumps({"path": str(folder), "checked": lines, "sound": True}, indent=1))
        return
    for line in lines:
        click.echo(f"ok  {line}")
    click.echo(f"{folder} is sound")


@command.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--yes", is_flag=True, help="Do not ask; needed off a terminal.")
def rm(folder: Path, yes: bool) -> None:
    """Remove a checkpoint or a run. Refused for a folder with any file that gatsby does not write.

    \b
    Example:
      gatsby checkpoint rm runs/story/last --yes
    """
    from gatsby_mlx.hub import local

    n_bytes = local.removable(folder)
    confirm(f"Remove {folder} ({size(n_bytes)})?", yes)
    local.remove(folder)
    click.echo(f"removed {folder}, {size(n_bytes)}", err=True)
