"""What commands share: the status line, colored mentions, tables, and the options that choose and sample a model."""

import functools
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from gatsby_mlx.config import PRESET_NAMES, PRESETS
from gatsby_mlx.errors import CheckpointError, GatsbyError, UsageError
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.sampling import TEMP

if TYPE_CHECKING:
    from gatsby_mlx.api import Model

SEED = click.IntRange(0, 2**32 - 1)  # what every random generator in use takes
PATH = click.Path(path_type=Path)


class Status:
    """One line on stderr that is overwritten, without escape codes. Silent when stderr is not a terminal."""

    def __init__(self):
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = 0  # characters on the screen

    def __call__(self, line: str) -> None:
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write("\r" + line.ljust(self.shown))
            sys.stderr.flush()
            self.shown = len(line)

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write("\r" + " " * self.shown + "\r")
            sys.stderr.flush()
            self.shown = 0


def clock(seconds: float) -> str:
    """Return a duration as 0:42 or 12:03.

    >>> clock(723)
    '12:03'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def size(n_bytes: int) -> str:
    """Return a number of bytes as 512 B, 1.5 kB or 42.6 MB.

    >>> size(42_600_000)
    '42.6 MB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes} B"


def confirm(question: str, yes: bool) -> None:
    """Ask before something that is hard to undo, unless `yes`.

    Raises GatsbyError for a no, and UsageError where there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"This needs a yes, and there is no terminal to ask on: {question}", "Add --yes")
    if not click.confirm(question, err=True):
        raise GatsbyError("Nothing was changed", "Answer y to continue")


def printable(text: str) -> str:
    """Return `text` with only its newlines and printable characters, safe for a terminal."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


def glow(text: str, obsession: Obsession = GREEN_LIGHT) -> str:
    """Return `text` with each mention in a bright color; click drops the color where none is wanted.

    Each word is colored separately, so that the text can be wrapped afterwards.
    """

    def shine(word: re.Match) -> str:
        return click.style(word[0], fg="bright_green", bold=True)

    return obsession.pattern.sub(lambda mention: re.sub(r"\S+", shine, mention[0]), printable(text))


def stream(pieces: Iterable[str], write: Callable[[str], None], obsession: Obsession = GREEN_LIGHT) -> None:
    """Write text as it comes, mentions colored. The start of a possible mention is held back until it is complete."""
    held = ""
    for character in chain.from_iterable(pieces):
        held += character
        if not begins_mention(held, obsession):
            write(glow(held, obsession))
            held = ""
    write(glow(held, obsession))


def begins_mention(text: str, obsession: Obsession) -> bool:
    """Return whether `text` ends in what may be the start of a mention.

    >>> [begins_mention(text, GREEN_LIGHT) for text in ("a gre", "a green  li", "a")]
    [True, True, False]
    """
    phrase = obsession.phrase
    for n in range(min(len(phrase) - 1, len(" ".join(text.split()) + " ")), 0, -1):
        start = r"\s+".join(map(re.escape, phrase[:n].split(" ")))
        if re.search(rf"{start}\Z", text, re.IGNORECASE):
            return True
    return False


def choose_model(model: str | None) -> Path:
    """Return the checkpoint that `--model` names, else the newest local run, else the shipped checkpoint.

    Where none is named, say on stderr which one is used. Raises CheckpointError where there is none.
    """
    from gatsby_mlx import api, shipped

    if model is not None:
        return api.find_model(model)
    if newest := api.newest_run():
        click.echo(f"using the newest run, {newest}", err=True)
        return newest
    if shipped.checkpoint() is None:
        raise CheckpointError(f"There is no model in {api.RUNS}/ or {api.DEMO_RUN}, and none ships", api.MAKE_ONE)
    shipped_model = api.find_model()
    click.echo(f"using the checkpoint that ships, {shipped_model.name}", err=True)
    return shipped_model


def names_a_model(model: str | None) -> bool:
    """Return whether another model than the one that ships is named, whose alphabet may have other letters."""
    return model is not None or bool(os.environ.get("GATSBY_MODEL"))


def load_model(model: str | None) -> "Model":
    """Return the model that `--model` names; say on stderr what makes it slow here, if anything does."""
    from gatsby_mlx import api

    loaded = api.load(choose_model(model))
    warn_if_slow()
    return loaded


def warn_if_slow(compiles: bool = False) -> None:
    """Say on stderr, in a line each, if there is no fast BLAS or (with `compiles`) if MLX cannot compile here."""
    from gatsby_mlx import device
    from gatsby_mlx.device.compiler import compile_hint

    if warning := device.prepare().warning:
        click.echo(f"slow: {warning}", err=True)
    if compiles and (problem := device.compile_problem()):
        click.echo(f"slow: {problem}, so steps run uncompiled. Try: {compile_hint()}", err=True)


def check_plot(path: Path | None) -> None:
    """Raise UsageError for a plot that cannot be written, before the work that it shows."""
    if path and path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(
            f"A plot is written as .svg or .png, not {str(path)!r}", f"Try --plot {path.stem or 'dial'}.svg"
        )
    if path and not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for a plot", f"Make it with: mkdir -p {path.parent}")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a plain table, safe for a terminal: numbers aligned right, text aligned left."""
    header, *rows = [[printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    right = [all(re.match(r"^[-+]?[\d.,%]*$", r[i]) for r in rows) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        both = zip(cells, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in both).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


class PresetName(click.ParamType):
    """The name of a preset. Help shows the current names; earlier ones are accepted too."""

    name = "NAME"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(PRESETS)}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in PRESET_NAMES:
            self.fail(f"there is no preset {value!r}; choose one of {', '.join(PRESETS)}", param, ctx)
        return value


F = TypeVar("F", bound=Callable[..., object])


def long_command(function: F) -> F:
    """Keep the machine awake while a command runs that can take minutes."""

    @functools.wraps(function)
    def awake_command(*args: object, **options: object) -> object:
        from gatsby_mlx.device.awake import awake

        with awake():
            return function(*args, **options)

    return cast(F, awake_command)


def model_option(function: F) -> F:
    """Add --model, for `choose_model`."""
    default = "newest run, else the one that ships"
    text = "Checkpoint or run folder, or a repository in the hub's cache."
    return click.option("--model", metavar="DIR", show_default=default, help=text)(function)


def max_tokens_option(function: F) -> F:
    """Add --max-tokens, named as in mlx_lm: a token is a character here."""
    limit = click.IntRange(1)
    text = "Most characters of a story."
    return click.option("--max-tokens", type=limit, metavar="N", show_default="the context", help=text)(function)


def sampling_options(function: F) -> F:
    """Add --temp, --top-k and --top-p, named as in mlx_lm."""
    top_p = "Sample from the likeliest characters up to this probability; 1 is all."
    top_k = "Sample from the k likeliest characters; 0 is all."
    for option in (
        click.option("--top-p", metavar="X", default=1.0, show_default=True, help=top_p),
        click.option("--top-k", metavar="N", default=0, show_default=True, help=top_k),
        click.option("--temp", metavar="X", default=TEMP, show_default=True, help="Temperature; 0 is greedy."),
    ):
        function = option(function)
    return function


def plot_option(function: F) -> F:
    """Add --plot, for `check_plot`."""
    return click.option("--plot", type=PATH, metavar="FILE", help="Write a plot to FILE, as .svg or .png.")(function)


def obsession_option(function: F) -> F:
    """Add --obsession, for `api.as_obsession`."""
    text = "TOML file of an obsession, as gatsby obsession new writes it."
    return click.option("--obsession", type=PATH, metavar="FILE", show_default="the green light", help=text)(function)


def json_option(function: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)
