"""`gatsby bench`: train, decode, scale, write, all, show."""

import json
import shlex
import sys
from pathlib import Path

import click

from gatsby_mlx.cli.console import Status, check_plot, printable, table
from gatsby_mlx.cli.measuring import (
    Numbers,
    Shapes,
    common_options,
    measuring_options,
    preset_option,
    step_options,
    training_jobs,
    training_options,
)
from gatsby_mlx.config import PRESETS
from gatsby_mlx.errors import GatsbyError, UsageError


@click.group()
def command() -> None:
    """Measure MLX against PyTorch on this machine, in turn, in one run.

    \b
    Examples:
      gatsby bench train --batch 4 --context 512
      gatsby bench all --submit
    """


@command.command()
@training_options
@click.option("--to-loss", type=float, metavar="X", help="Also train both down to this loss: seconds and characters.")
@click.option("--preset", "shapes", type=Shapes(), default="story", show_default=True, help="The model's shape.")
@common_options
def train(batch, context, dtype, dropout, compile_torch, to_loss, shapes, **options) -> None:
    """Measure training steps, once both halves have been shown to compute the same.

    \b
    Examples:
      gatsby bench train --batch 4 --context 512 --out train.json
      gatsby bench train --batch 4,8,16 --context 256,512,1024 --dropout 0 --plot growth.svg
      gatsby bench train --preset pocket,small,story --dropout 0 --plot sizes.svg
    """

    def part(jobs):
        def run(bench, suites):
            results = suites.train(bench, jobs)
            return results + (suites.to_loss(bench, jobs[0], to_loss) if to_loss else [])

        return jobs[0].model, run

    parts = [part(training_jobs(preset, batch, context, dtype, dropout)) for preset in shapes]
    measure(parts, default_pairs=10, compile_torch=compile_torch, **options)


@command.command()
@click.option("--batch", type=Numbers(), default="16,64", show_default=True, help="Batches, beside one row and sweep.")
@preset_option
@common_options
def decode(batch, preset, **options) -> None:
    """Measure decoding against the loop without a cache.

    \b
    Examples:
      gatsby bench decode --pairs 3
      gatsby bench decode --preset pocket --json
    """

    def run(bench, suites):
        return suites.decode(bench, batch) + suites.positions(bench) + suites.start(bench)

    measure([(PRESETS[preset].model, run)], default_pairs=5, **options)


@command.command()
@step_options
@preset_option
@measuring_options
def scale(batch, context, dtype, dropout, preset, **options) -> None:
    """Measure training with one process and with two, as mlx.launch starts them here, in turn.

    Both have the same step and the whole machine, so the ratio is what a second process costs or gains on it.

    \b
    Examples:
      gatsby bench scale --batch 4 --context 512 --dropout 0 --out scale.json
      gatsby bench scale --preset pocket --pairs 3
    """
    from gatsby_mlx.bench import scale as scaling

    jobs = training_jobs(preset, batch, context, dtype, dropout)
    scaling.check_shared(jobs)
    parts = [(jobs[0].model, lambda bench, suites: scaling.processes(bench, jobs))]
    measure(parts, default_pairs=5, against="none", **options)


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
@preset_option
@common_options
def every(batch, context, dtype, dropout, compile_torch, submit, preset, **options) -> None:
    """Measure training, decoding and two processes against one, and leave one document.

    \b
    Examples:
      gatsby bench all --submit
    """
    jobs = training_jobs(preset, batch, context, dtype, dropout)

    def run(bench, suites):
        told = suites.decode(bench) + suites.positions(bench) + suites.start(bench)
        return suites.train(bench, jobs) + told + two_processes(bench, jobs)

    measure([(jobs[0].model, run)], default_pairs=5, compile_torch=compile_torch, submit=submit, **options)


def two_processes(bench, jobs) -> list:
    """Return how the first job scales, or nothing, and say why: it must not cost what was measured before it."""
    from gatsby_mlx.bench import scale as scaling

    try:
        return scaling.processes(bench, jobs[:1])
    except GatsbyError as error:
        click.echo(f"two processes were not measured: {error.line()}", err=True)
        return []


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


def measure(
    parts, default_pairs, against, device, pairs, as_json, out, plot=None, compile_torch=False, submit=False
) -> None:
    """For each (config, run), open both halves and let `run(bench, suites)` measure; show, write and draw it all."""
    check_plot(plot)
    if out and not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent} for the document", f"Make it with: mkdir -p {out.parent}")
    from gatsby_mlx.bench import document, suites
    from gatsby_mlx.bench.work import Settings
    from gatsby_mlx.files import write_atomic

    settings = Settings(pairs or default_pairs, device=device or "", against=against, compile_torch=compile_torch)
    status, results, halves, missing = Status(), [], {}, ""
    for config, run in parts:
        with suites.opened(settings, config, status) as bench:
            if bench.missing and not missing:
                click.echo(bench.missing, err=True)
            results += run(bench, suites)
            halves, missing = bench.hello, bench.missing
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
