"""`gatsby bench` and its subcommands."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from gatsby_mlx.cli.bench_options import (
    Numbers,
    Shapes,
    common_options,
    measuring_options,
    preset_option,
    step_options,
    training_jobs,
    training_options,
)
from gatsby_mlx.cli.console import (
    PATH,
    Status,
    check_plot,
    json_option,
    long_command,
    model_option,
    plot_option,
    printable,
    table,
)
from gatsby_mlx.cli.group import Group
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.config import preset as preset_of
from gatsby_mlx.errors import GatsbyError, UsageError

if TYPE_CHECKING:
    from gatsby_mlx.bench.suites import Bench, Results
    from gatsby_mlx.bench.work import TrainWork

COUNT = click.IntRange(1)
Part = tuple[GPTConfig, "Callable[[Bench], Results]"]  # the model's shape, and what to measure with it


@click.group(cls=Group)
def command() -> None:
    """Compare MLX with PyTorch on this machine, alternating between them in one run.

    \b
    Examples:
      gatsby bench train --batch 4 --context 512
      gatsby bench all --submit
    """


@command.command()
@training_options
@click.option("--to-loss", type=float, metavar="X", help="Also measure how long both take to reach this loss.")
@click.option("--preset", "shapes", type=Shapes(), default="story", show_default=True, help="Presets to measure.")
@common_options
@long_command
def train(batch, context, dtype, dropout, compile_torch, to_loss, shapes, **options) -> None:
    """Measure training steps, after a check that both libraries compute the same.

    \b
    Examples:
      gatsby bench train --batch 4 --context 512 --out train.json
      gatsby bench train --batch 4,8,16 --context 256,512,1024 --dropout 0 --plot growth.svg
      gatsby bench train --preset pocket,small,story --dropout 0 --plot sizes.svg
    """

    def part(jobs: "list[TrainWork]") -> Part:
        def run(bench: "Bench") -> "Results":
            results = suites().train(bench, jobs)
            return results + (suites().to_loss(bench, jobs[0], to_loss) if to_loss else [])

        return jobs[0].model, run

    against = options["against"]
    parts = [part(training_jobs(name, batch, context, dtype, dropout, against)) for name in shapes]
    measure(parts, default_pairs=10, compile_torch=compile_torch, **options)


@command.command()
@click.option("--batch", type=Numbers(), default="16,64", show_default=True, help="Batch sizes, besides one story.")
@preset_option
@common_options
@long_command
def decode(batch, preset, **options) -> None:
    """Measure decoding, and compare it with the loop without a cache.

    \b
    Examples:
      gatsby bench decode --pairs 3
      gatsby bench decode --preset pocket --json
    """

    def run(bench: "Bench") -> "Results":
        return suites().decode(bench, batch) + suites().positions(bench) + suites().start(bench)

    measure([(preset_of(preset).model, run)], default_pairs=5, **options)


@command.command()
@step_options
@preset_option
@measuring_options
@long_command
def scale(batch, context, dtype, dropout, preset, **options) -> None:
    """Compare training in one process with training in two, which mlx.launch starts on this machine.

    Both compute the same step and may use the whole machine, so the ratio says what a second process costs or gains.

    \b
    Examples:
      gatsby bench scale --batch 4 --context 512 --dropout 0 --out scale.json
      gatsby bench scale --preset pocket --pairs 3
    """
    from gatsby_mlx.bench import scale as scaling

    jobs = training_jobs(preset, batch, context, dtype, dropout)
    scaling.check_shared(jobs)
    parts: list[Part] = [(jobs[0].model, lambda bench: scaling.processes(bench, jobs))]
    measure(parts, default_pairs=5, against="none", **options)


@command.command()
@click.argument("model", metavar="DIR", type=PATH)
@click.option("--n", type=COUNT, metavar="N", default=32, show_default=True, help="Stories to write in each way.")
@click.option("--batch", type=COUNT, metavar="N", default=32, show_default=True, help="Stories written at once here.")
@click.option("--max-tokens", type=COUNT, metavar="N", default=320, show_default=True, help="Most tokens of a story.")
@json_option
@long_command
def write(model, n, batch, max_tokens, as_json) -> None:
    """Measure how fast a model in mlx-lm's form (the folder DIR) writes, in this process and behind mlx_lm.server.

    \b
    Example:
      gatsby bench write models/smollm2 --n 32
    """
    from gatsby_mlx.bench.write import bench_write

    if not (model / "config.json").is_file():
        raise UsageError(f"{model} is not a model in mlx-lm's form: no config.json", "Make one with: mlx_lm.convert")
    result = bench_write(model, n, batch, max_tokens)
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    rows = [
        [name, *(f"{value:,.1f}" for value in way.values()), f"{result['ratios'][name]:.2f}"]
        for name, way in result["ways"].items()
    ]
    first = next(iter(result["ways"].values()))
    click.echo(table(["way", *(key.replace("_", " ") for key in first), "to the server"], rows))


@command.command()
@model_option
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    metavar="X",
    default=30.0,
    show_default=True,
    help="How long each group of visitors stays.",
)
@json_option
@long_command
def serve(model, seconds, as_json) -> None:
    """Measure how fast `gatsby serve` is for one visitor, for 16, and for three with five stories each and one more.

    \b
    Examples:
      gatsby bench serve
      gatsby bench serve --model checkpoints/small --seconds 60 --json
    """
    from gatsby_mlx.bench import load_test

    with load_test.serving(model) as url:
        result = load_test.measure(url, seconds)
    click.echo(json.dumps(result, indent=1) if as_json else render_load(result))


def render_load(result: dict[str, Any]) -> str:
    """Return the figures of a load test as a table and a sentence."""
    groups = {"one visitor": "alone", "16 at once": "sixteen", "3 with five stories each, and 1": "five_at_once"}
    rows = []
    for name, key in groups.items():
        figures = result[key]
        first = f"{1e3 * figures['first_s']:.0f} ({1e3 * figures['first_s_worst']:.0f})"
        speed = f"{figures['chars_per_s']:.1f} ({figures['chars_per_s_worst']:.1f})"
        rows.append([name, str(figures["stories"]), first, speed])
    head = ["visitors", "stories", "first character, ms (worst)", "characters/s of a story (worst)"]
    freed = f"{1e3 * result['freed_s']:.0f} ms (worst {1e3 * result['freed_s_worst']:.0f})"
    return f"{table(head, rows)}\n\nThe five slots of a visitor who disconnects are free after {freed}."


@command.command(name="all")
@training_options
@click.option("--submit", is_flag=True, help="Also write gatsby-bench-CHIP.json, to attach to an issue of the project.")
@preset_option
@common_options
@long_command
def every(batch, context, dtype, dropout, compile_torch, submit, preset, **options) -> None:
    """Measure training, decoding, and two processes against one; write one document.

    \b
    Examples:
      gatsby bench all --submit
    """
    jobs = training_jobs(preset, batch, context, dtype, dropout, options["against"])

    def run(bench: "Bench") -> "Results":
        decoding = suites().decode(bench) + suites().positions(bench) + suites().start(bench)
        return suites().train(bench, jobs) + decoding + two_processes(bench, jobs)

    measure([(jobs[0].model, run)], default_pairs=5, compile_torch=compile_torch, submit=submit, **options)


def two_processes(bench: "Bench", jobs: "Sequence[TrainWork]") -> "Results":
    """Return how the first job scales. After an error say why and return nothing, so that other results are kept."""
    from gatsby_mlx.bench import scale as scaling

    try:
        return scaling.processes(bench, jobs[:1])
    except GatsbyError as error:
        click.echo(f"two processes were not measured: {error.line()}", err=True)
        return []


@command.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@plot_option
@json_option
def show(files, plot, as_json) -> None:
    """Show and compare the documents of earlier runs, on one machine or several.

    \b
    Examples:
      gatsby bench show benchmarks/train.json
      gatsby bench show mine.json theirs.json --plot both.svg
    """
    check_plot(plot)
    from gatsby_mlx.bench import document

    documents = [document.read(path) for path in files]
    text = json.dumps(documents, indent=1) if as_json else "\n\n".join(render(content) for content in documents)
    click.echo(text)
    if plot:
        from gatsby_mlx.bench import plots

        plots.draw(documents, plot)


def suites() -> ModuleType:
    """Return `bench.suites`, which imports MLX."""
    from gatsby_mlx.bench import suites

    return suites


def measure(
    parts: "Sequence[Part]",
    default_pairs: int,
    against: str,
    device: str | None,
    pairs: int | None,
    as_json: bool,
    out: Path | None,
    plot: Path | None = None,
    compile_torch: bool = False,
    submit: bool = False,
) -> None:
    """Let each part measure with its model; then show, write and plot the results."""
    check_plot(plot)
    if out and not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent} for the document", f"Make it with: mkdir -p {out.parent}")
    from gatsby_mlx.bench import document
    from gatsby_mlx.bench.work import Settings
    from gatsby_mlx.files import write_atomic

    settings = Settings(pairs or default_pairs, device=device or "", against=against, compile_torch=compile_torch)
    status, results, peers, missing = Status(), [], {}, ""
    for config, run in parts:
        with suites().open_bench(settings, config, status) as bench:
            if bench.missing and not missing:
                click.echo(bench.missing, err=True)
            results += run(bench)
            peers, missing = bench.handshake, bench.missing
    status.clear()
    content = document.build(results, peers, settings, shlex.join(["gatsby", *sys.argv[1:]]))
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


def render(content: dict[str, Any]) -> str:
    """Return a document as a line about the machine and a table without its empty columns."""
    from gatsby_mlx.bench import document

    rows = document.table_rows(content)
    used = [i for i in range(len(document.HEADER)) if any(row[i] for row in rows)]
    head = [document.HEADER[i] for i in used]
    return printable(document.title(content)) + "\n" + table(head, [[row[i] for i in used] for row in rows])
