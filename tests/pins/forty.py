"""Forty stories by the checkpoint that ships, each told twice: among others in batches of 16, and alone.

    python tests/pins/forty.py OUT.json             # tell them with the gatsby_mlx that can be imported
    python tests/pins/forty.py --compare A.json B.json

Half of them are greedy and half are drawn at the default temperature. On one machine and one set of libraries two
versions of this package should give the same eighty texts; between machines kernels round differently.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "small"
TOPICS = ("a lost kitten", "a dog and a balloon", "the day the waffle ran away", "an astronaut and a star")
KINDS: dict[str, list[str]] = {"greedy": ["--temp", "0"], "drawn": []}


def gatsby(*words: object) -> str:
    """Run `gatsby` in this process and return its stdout."""
    from gatsby_mlx.cli import main

    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exit_code != 0:
        raise click.ClickException(f"gatsby {' '.join(map(str, words))}: {result.stderr}")
    return result.stdout


def in_batches(model: Path, kind: str, folder: Path) -> list[dict[str, Any]]:
    """Tell the topics at all levels in batches of 16, and return a row a story, topic by topic."""
    (folder / "topics.txt").write_text("\n".join(TOPICS) + "\n", "utf-8")
    told = folder / f"{kind}.jsonl"
    which = ["--topics", folder / "topics.txt", "--seeds", 1, "--batch", 16, "--stories", told]
    gatsby("samples", "--model", model, *which, *KINDS[kind])
    rows = [json.loads(line) for line in told.read_text("utf-8").splitlines()[1:]]
    rows.sort(key=lambda row: (TOPICS.index(row["topic"]), row["level"]))
    return [{"how": "batch", "kind": kind, **{k: row[k] for k in ("topic", "level", "seed", "text")}} for row in rows]


def alone(model: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Tell the story of a row by itself, from the same seed."""
    options = ["--green", row["level"], "--seed", row["seed"], "--json", "--model", model, *KINDS[row["kind"]]]
    (story,) = json.loads(gatsby("tell", row["topic"], *options))["stories"]
    return {**row, "how": "alone", "text": story["story"]}


def tell(model: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        batches = [row for kind in KINDS for row in in_batches(model, kind, Path(folder))]
    with click.progressbar(batches, label="alone", file=sys.stderr) as rows:
        return [*batches, *(alone(model, row) for row in rows)]


def by_job(rows: list[dict[str, Any]]) -> dict[tuple, str]:
    return {tuple(row[k] for k in ("how", "kind", "topic", "level", "seed")): row["text"] for row in rows}


def compare(one: Path, other: Path) -> bool:
    """Say how many texts of two files are identical, and return whether all are."""
    a, b = (by_job(json.loads(path.read_text("utf-8"))["stories"]) for path in (one, other))
    groups, same = Counter(job[:2] for job in a | b), Counter(job[:2] for job in a if a[job] == b.get(job))
    for how, kind in groups:
        click.echo(f"{how}, {kind}: {same[how, kind]} of {groups[how, kind]} identical")
    click.echo(f"in all: {sum(same.values())} of {sum(groups.values())} identical")
    for job in sorted(job for job in a | b if a.get(job) != b.get(job)):
        told = (a.get(job, ""), b.get(job, ""))
        first = next((i for i, (x, y) in enumerate(zip(*told, strict=False)) if x != y), min(map(len, told)))
        click.echo(f"  {', '.join(map(str, job))}: from character {first} on")
    return a == b


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--compare", "comparing", is_flag=True, help="Compare two files; exit code 1 where a text differs.")
@click.option("--model", type=click.Path(path_type=Path), default=SHIPPED, help="Checkpoint; default: what ships.")
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], comparing: bool, model: Path) -> None:
    """Tell forty stories into a file, or compare two such files."""
    if len(paths) != 1 + comparing:
        raise click.UsageError("Name one file to write, or two to --compare")
    if comparing:
        ctx.exit(0 if compare(*paths) else 1)
    import gatsby_mlx

    click.echo(f"with {gatsby_mlx.__file__}", err=True)
    rows = tell(model)
    paths[0].write_text(json.dumps({"stories": rows}, indent=1) + "\n", "utf-8")
    own = by_job([row for row in rows if row["how"] == "batch"])
    equal = sum(own[("batch", *job[1:])] == text for job, text in by_job(rows).items() if job[0] == "alone")
    click.echo(f"{len(rows)} texts; {equal} of {len(own)} stories are the same alone and in a batch")


if __name__ == "__main__":
    command()
