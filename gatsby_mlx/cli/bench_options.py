"""The options of `gatsby bench`, and the work that they describe."""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import PATH, F, PresetName, plot_option
from gatsby_mlx.config import DTYPES, changed, preset
from gatsby_mlx.errors import UsageError

if TYPE_CHECKING:
    from gatsby_mlx.bench.work import TrainWork

EXTRA = "PyTorch is an extra: in a checkout, pip install '.[bench]'."


class Numbers(click.ParamType):
    """A whole number of 1 or more, or several with commas between them."""

    name = "N[,N]"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < 1:
            self.fail(f"{value!r} is not a whole number of 1 or more, or several with commas", param, ctx)
        return numbers


class Shapes(click.ParamType):
    """The name of a preset, or several with commas between them."""

    name = "NAME[,NAME]"

    def convert(self, value, param, ctx):
        names = value if isinstance(value, tuple) else str(value).split(",")
        return tuple(PresetName().convert(name, param, ctx) for name in names)


def preset_option(function: F) -> F:
    """Add --preset."""
    return click.option(
        "--preset", type=PresetName(), default="story", show_default=True, help="Preset whose shape the model has."
    )(function)


def common_options(function: F) -> F:
    """Add the options of a suite that compares with PyTorch."""
    against = click.option(
        "--against",
        type=click.Choice(["auto", "torch", "none"]),
        default="auto",
        show_default=True,
        help=f"Compare with PyTorch if it is installed (auto), always, or never. {EXTRA}",
    )
    return measuring_options(plot_option(against(function)))


def measuring_options(function: F) -> F:
    """Add the options for how to measure and where to write the document."""
    for option in (
        click.option("--out", "-o", type=PATH, metavar="FILE", help="Write the JSON document to FILE."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table."),
        click.option(
            "--pairs",
            type=click.IntRange(1),
            metavar="N",
            show_default="10 for training alone, else 5",
            help="Rounds: in each, both libraries are measured.",
        ),
        click.option("--device", type=click.Choice(["gpu", "cpu", "mps", "cuda"]), help="Device to compute on."),
    ):
        function = option(function)
    return function


def training_options(function: F) -> F:
    """Add the options that describe a training step, and whether PyTorch compiles it."""
    compiled = click.option("--compile", "compile_torch", is_flag=True, help="Let PyTorch compile its model.")
    return step_options(compiled(function))


def step_options(function: F) -> F:
    """Add the options that describe a training step."""
    for option in (
        click.option("--dropout", default="0.2,0", show_default=True, metavar="X[,X]", help="Dropout."),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default="float32",
            show_default=True,
            help="Type that a step computes in; the weights stay in float32.",
        ),
        click.option("--context", type=Numbers(), default="512", show_default=True, help="Characters in a sequence."),
        click.option("--batch", type=Numbers(), default="4", show_default=True, help="Sequences in a step."),
    ):
        function = option(function)
    return function


def training_jobs(
    name: str, batches: Sequence[int], contexts: Sequence[int], dtype: str, dropouts: str, against: str = "none"
) -> "list[TrainWork]":
    """Return the work for each dropout, batch and context. Raises UsageError for what does not fit into memory.

    What is free has to do for both peers if PyTorch is measured, too.
    """
    from gatsby_mlx.bench.work import TrainWork, check_fits
    from gatsby_mlx.device.memory import memory_bytes

    try:
        rates = [float(part) for part in dropouts.split(",")]
    except ValueError:
        message = f"--dropout is a number, or several with commas, not {dropouts!r}"
        raise UsageError(message, "Try --dropout 0.2,0") from None
    model = preset(name).model
    model = changed(model, block_size=max(model.block_size, *contexts))
    models = [changed(model, dropout=rate) for rate in rates]
    jobs = [TrainWork(m, b, t, dtype) for m in models for b in batches for t in contexts]
    compared = against == "torch" or (against == "auto" and importlib.util.find_spec("torch") is not None)
    for job in jobs:
        check_fits(job, memory_bytes()["available"], peers=2 if compared else 1)
    return jobs
