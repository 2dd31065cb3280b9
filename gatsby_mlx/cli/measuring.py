"""The options of `gatsby bench`, and the pieces of work that they describe."""

from pathlib import Path

import click

from gatsby_mlx.config import DTYPES, PRESETS, changed

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


class Shapes(click.ParamType):
    """The name of a preset, or several with commas."""

    name = "NAME[,NAME]"

    def convert(self, value, param, ctx):
        names = tuple(value if isinstance(value, tuple) else str(value).split(","))
        if wrong := [name for name in names if name not in PRESETS]:
            self.fail(f"there is no preset {wrong[0]!r}; choose among {', '.join(PRESETS)}", param, ctx)
        return names


preset_option = click.option(
    "--preset", type=click.Choice(list(PRESETS)), default="story", show_default=True, help="The model's shape."
)


def common_options(function):
    """Add the options of a suite that has a rival."""
    against = click.option(
        "--against",
        type=click.Choice(["auto", "torch", "none"]),
        default="auto",
        show_default=True,
        help=f"The rival: PyTorch where it is installed, required, or none. {EXTRA}",
    )
    plot = click.option("--plot", type=click.Path(path_type=Path), help="Write a plot as .svg or .png.")
    return measuring_options(plot(against(function)))


def measuring_options(function):
    """Add how to measure and where the document goes."""
    for option in (
        click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON document here."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document in place of the table."),
        click.option(
            "--pairs",
            type=click.IntRange(1),
            metavar="N",
            show_default="10, training alone; else 5",
            help="Turns of each half.",
        ),
        click.option("--device", type=click.Choice(["gpu", "cpu", "mps", "cuda"]), help="Where it is computed."),
    ):
        function = option(function)
    return function


def training_options(function):
    """Add what describes a training step, and how PyTorch makes it."""
    compiled = click.option("--compile", "compile_torch", is_flag=True, help="Let PyTorch compile its model.")
    return step_options(compiled(function))


def step_options(function):
    """Add what describes a training step."""
    for option in (
        click.option("--dropout", default="0.2,0", show_default=True, metavar="X[,X]", help="Dropout."),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default="float32",
            show_default=True,
            help="What a step computes in; the weights stay in float32.",
        ),
        click.option("--context", type=Numbers(), default="512", show_default=True, help="Characters in a row."),
        click.option("--batch", type=Numbers(), default="4", show_default=True, help="Rows in a step."),
    ):
        function = option(function)
    return function


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
