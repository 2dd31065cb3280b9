"""`gatsby bench`: train, decode, write, all, show."""

import json
import shlex
import sys
from pathlib import Path

import click

from gatsby_mlx.cli.console import Status, check_plot, printable, table
from gatsby_mlx.config import DTYPES, PRESETS, changed
from gatsby_mlx.errors import UsageError

EXTRA = "PyTorch is an extra: pip install 'gatsby-mlx[bench]'."


class Numbers(click.ParamType):
    """One whole number, or several with commas."""

    name = "N[,N]"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            found = ()
        if not found or min(found) < 1:
            self.fail(f"{value!r} is no whole number of 1 or more, nor several with commas", param, ctx)
        return found


@click.group()
def command() -> None:
    """Measure MLX against PyTorch on this machine, in turn, in one run.

    \b
    Examples:
      gatsby bench train --batch 4 --context 512
      gatsby bench all --submit
    """


def common_options(function):
    """Add the options that every suite has."""
    for option in (
        click.option("--plot", type=click.Path(path_type=Path), help="Write a plot as .svg or .png."),
        click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON document here."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document in place of the table."),
        click.option(
            "--pairs",
            type=click.IntRange(1),
            metavar="N",
            show_default="10, with decoding 5",
            help="Turns of each half.",
        ),
        click.option("--device", type=click.Choice(["gpu", "cpu", "mps", "cuda"]), help="Where both halves compute."),
        click.option(
            "--against",
            type=click.Choice(["auto", "torch", "none"]),
            default="auto",
            show_default=True,
            help=f"The rival: PyTorch where it is installed, required, or none. {EXTRA}",
        ),
        click.option(
            "--preset", type=click.Choice(list(PRESETS)), default="story", show_default=True, help="The model's shape."
        ),
    ):
        function = option(function)
    return function


def training_options(function):
    """Add what describes a training step."""
    for option in (
        click.option("--compile", "compile_torch", is_flag=True, help="Let PyTorch compile its model."),
        click.option("--dropout", default="0.2,0", show_default=True, metavar="X[,X]", help="Dropout."),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default="float32",
            show_default=True,
            help="What both compute in; the weights stay in float32.",
        ),
        click.option("--context", type=Numbers(), default="512", show_default=True, help="Characters in a row."),
        click.option("--batch", type=Numbers(), default="4", show_default=True, help="Rows in a step."),
    ):
        function = option(function)
    return function


@command.command()
@training_options
@click.option("--to-loss", type=float, metavar="X", help="Also train both down to this loss: seconds and characters.")
@common_options
def train(batch, context, dtype, dropout, compile_torch, to_loss, **options) -> None:
    """Measure training steps, once both halves have been shown to compute the same.

    \b
    Examples:
      gatsby bench train --batch 4 --context 512 --out train.json
      gatsby bench train --batch 4,8,16 --context 256,512,1024 --dropout 0 --plot growth.svg
    """
    jobs = training_jobs(options["preset"], batch, context, dtype, dropout)

    def run(bench, suites):
        results = suites.train(bench, jobs)
        return results + (suites.to_loss(bench, jobs[0], to_loss) if to_loss else [])

    measure(run, jobs[0].model, default_pairs=10, compile_torch=compile_torch, **options)


@command.command()
@click.option("--batch", type=Numbers(), default="16,64", show_default=True, help="Batches, beside one row and sweep.")
@common_options
def decode(batch, **options) -> None:
    """Measure decoding against the loop without a cache.

    \b
    Examples:
      gatsby bench decode --pairs 3
      gatsby bench decode --preset pocket --json
    """

    def run(bench, suites):
        return suites.decode(bench, batch) + suites.positions(bench) + suites.start(bench)

    measure(run, PRESETS[options["preset"]].model, default_pairs=5, **options)


@command.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--n", type=click.IntRange(1), default=32, show_default=True, help="Stories to write in each way.")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Stories at once in this process.")
@click.option("--max-tokens", type=click.IntRange(1), default=320, show_default=True, help="Tokens of a story at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def write(model, n, batch, max_tokens, as_json) -> None:
    """Measure how fast MODEL, a folder in mlx-lm's form, writes: here, in a batch, and behind mlx_lm.server.

    \b
    Example:
      gatsby bench write models/smollm2 --n 32
    """
    from gatsby_mlx.bench.write import bench_write

    if not (model / "config.json").is_file():
        raise UsageError(f"{model} is no model in mlx-lm's form: it has no config.json", "Make one: mlx_lm.convert")
    found = bench_write(model, n, batch, max_tokens)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    rows = [
        [name, *(f"{value:,.1f}" for value in way.values()), f"{found['ratios'][name]:.2f}"]
        for name, way in found["ways"].items()
    ]
    first = next(iter(found["ways"].values()))
    click.echo(table(["way", *(key.replace("_", " ") for key in first), "to the server"], rows))


@command.command(name="all")
@training_options
@click.option("--submit", is_flag=True, help="Write gatsby-bench-CHIP.json, to attach to an issue of the project.")
@common_options
def every(batch, context, dtype, dropout, compile_torch, submit, **options) -> None:
    """Measure training and decoding, and leave one document.

    \b
    Examples:
      gatsby bench all --submit
    """
    jobs = training_jobs(options["preset"], batch, context, dtype, dropout)

    def run(bench, suites):
        told = suites.decode(bench) + suites.positions(bench) + suites.start(bench)
        return suites.train(bench, jobs) + told

    measure(run, jobs[0].model, default_pairs=5, compile_torch=compile_torch, submit=submit, **options)


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path), help="Write a plot as .svg or .png.")
def show(files, plot) -> None:
    """Compare what benches left, on one machine or several.

    \b
    Examples:
      gatsby bench show benchmarks/train.json
      gatsby bench show mine.json theirs.json --plot both.svg
    """
    check_plot(plot)
    from gatsby_mlx.bench import document

    documents = [document.read(path) for path in files]
    click.echo("\n\n".join(render(content) for content in documents))
    if plot:
        from gatsby_mlx.bench import plots

        plots.draw(documents, plot)


def training_jobs(preset: str, batches, contexts, dtype: str, dropouts: str) -> list:
    """Return a piece of work for each dropout, batch and context."""
    from gatsby_mlx import device
    from gatsby_mlx.bench.work import TrainWork, check_fits

    try:
        shares = [float(part) for part in dropouts.split(",")]
    except ValueError:
        raise click.UsageError(f"--dropout is a number or several with commas, not {dropouts!r}") from None
    model = PRESETS[preset].model
    model = changed(model, block_size=max(model.block_size, *contexts))
    models = [changed(model, dropout=share) for share in shares]
    jobs = [TrainWork(m, b, t, dtype) for m in models for b in batches for t in contexts]
    for job in jobs:
        check_fits(job, device.memory_bytes()["available"])
    return jobs


def measure(
    run, config, default_pairs, preset, against, device, pairs, as_json, out, plot, compile_torch=False, submit=False
) -> None:
    """Open both halves, let `run(bench, suites)` measure, and show, write and draw the document."""
    check_plot(plot)
    if out and not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent} for the document", f"Make it with: mkdir -p {out.parent}")
    from gatsby_mlx.bench import document, suites
    from gatsby_mlx.bench.work import Settings
    from gatsby_mlx.files import write_atomic

    settings = Settings(pairs or default_pairs, device=device or "", against=against, compile_torch=compile_torch)
    status = Status()
    with suites.opened(settings, config, status) as bench:
        if bench.missing:
            click.echo(bench.missing, err=True)
        results = run(bench, suites)
        halves = bench.hello
    status.clear()
    content = document.build(results, halves, settings, shlex.join(["gatsby", *sys.argv[1:]]))
    text = json.dumps(content, indent=1)
    click.echo(text if as_json else render(content))
    if submit:
        out = out or Path(f"gatsby-bench-{document.file_name(content)}.json")
    if out:
        write_atomic(out, text + "\n")
        click.echo(f"wrote {out}", err=True)
    if submit:
        click.echo("attach it to a new issue of the project, template 'Speed on your machine'", err=True)
    if plot:
        from gatsby_mlx.bench import plots

        plots.draw([content], plot)


def render(content) -> str:
    """Return a document as a line on the machine and a table; columns that say nothing are left out."""
    from gatsby_mlx.bench import document

    rows = document.rows(content)
    used = [i for i in range(len(document.HEADER)) if any(row[i] for row in rows)]
    head = [document.HEADER[i] for i in used]
    return printable(document.title(content)) + "\n" + table(head, [[row[i] for i in used] for row in rows])
