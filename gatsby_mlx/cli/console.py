"""What commands share: the status line, colored mentions, tables, and the options that choose and sample a model."""

import contextlib
import errno
import functools
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from gatsby_mlx.config import PRESET_NAMES, PRESETS
from gatsby_mlx.errors import GatsbyError, OutputError, UsageError
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.sampling import TEMP

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from gatsby_mlx.api import Model

SEED = click.IntRange(0, 2**32 - 1)  # what every random generator in use takes
PATH = click.Path(path_type=Path)
FULL_OR_BROKEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
FIRST_LINE_S, MOST_S = 60.0, 600.0  # seconds between the lines of progress off a terminal


class Status:
    """One line on stderr that is overwritten, without escape codes.

    Where stderr is not a terminal, such as a log file, a line now and then is written instead: after a minute, and then
    in intervals that grow to ten minutes.
    """

    def __init__(self):
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = 0  # characters on the screen
        self.interval_s = FIRST_LINE_S
        self.next_line = time.monotonic() + self.interval_s

    def __call__(self, line: str) -> None:
        if not self.live:
            if (now := time.monotonic()) >= self.next_line:
                click.echo(printable(line), err=True)
                self.interval_s = min(MOST_S, 2 * self.interval_s)
                self.next_line = now + self.interval_s
        else:
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
    """Return a duration as 42 s, 4 min 10 s, 25 min or 1 h 20 min.

    >>> [clock(s) for s in (0.4, 42, 250, 1520, 4800, 7200)]
    ['1 s', '42 s', '4 min 10 s', '25 min', '1 h 20 min', '2 h']
    """
    s = max(1, round(seconds))
    if s < 600:
        parts = [(s // 60, "min"), (s % 60, "s")]
    else:
        minutes = round(s / 60)
        parts = [(minutes // 60, "h"), (minutes % 60, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n)


def size(n_bytes: int) -> str:
    """Return a number of bytes as 512 B, 1.5 kB or 42.6 MB.

    >>> size(42_600_000)
    '42.6 MB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes} B"


@contextlib.contextmanager
def going_on(command: str) -> Iterator[None]:
    """Print the command to go on with after an interruption; after a full or broken disk, add it to the hint."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nwhat is finished is kept; go on with: {command}", err=True)
        raise
    except OutputError as error:
        if getattr(error.__cause__, "errno", 0) in FULL_OR_BROKEN:
            error.hint = f"{error.hint}, then go on with: {command}"
        raise


def same_command(ctx: click.Context, without: Collection[str] = ()) -> str:
    """Return the command line with the arguments and options that were given, but those `without`."""
    words = ctx.command_path.split()
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE and name not in without:
            option, value = isinstance(parameter, click.Option), ctx.params[name]
            words += [parameter.opts[-1]] if option else []
            words += [] if option and getattr(parameter, "is_flag", False) else [str(value)]
    return shlex.join(words)


def check_room(out: Path, force: bool) -> None:
    """Raise OutputError unless the output folder is free, or with `force` one that may be replaced."""
    from gatsby_mlx.files import check_free

    if force and out.is_dir():
        from gatsby_mlx.hub import local

        local.replaceable(out)
    else:
        check_free(out, "Choose another folder with --out, or replace it with --force")


def make_room(out: Path) -> None:
    """Remove an output folder that is in the way, for --force.

    Raises UsageError for a link, for what ships, and for a folder with anything in it that gatsby did not write.
    """
    from gatsby_mlx.hub import local

    if out.is_dir() and any(out.iterdir()):
        local.replaceable(out)
        local.remove(out)


def confirm(question: str, yes: bool) -> None:
    """Ask before something that is hard to undo, unless `yes`.

    Raises GatsbyError for a no, and UsageError where there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty() or getattr(sys.stderr, "name", "") == os.devnull:  # the latter is --quiet
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
    """Return the checkpoint that `--model` names, else the variable GATSBY_MODEL, else the shipped checkpoint.

    A model that was trained here is never taken unasked. Where no option names one, say on stderr which one is used.
    Raises CheckpointError where there is none.
    """
    from gatsby_mlx import api

    found = api.find_model(model)
    if model is None:
        variable = os.environ.get(api.MODEL_VARIABLE)
        which = f"{found}, which {api.MODEL_VARIABLE} names" if variable else f"the checkpoint that ships, {found.name}"
        click.echo(f"using {which}", err=True)
    return found


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
    """Raise UsageError for a plot that cannot be drawn or written, before the work that it shows."""
    if path is None:
        return
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(
            f"A plot is written as .svg or .png, not {str(path)!r}", f"Try --plot {path.stem or 'dial'}.svg"
        )
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for a plot", f"Make it with: mkdir -p {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"The plot {path} cannot be written", "Choose another file, in a folder that you may write to")
    import matplotlib  # noqa: F401  it draws the plot; without it, say so now


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

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in PRESETS if name.startswith(incomplete)]

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
    default = "$GATSBY_MODEL, else the one that ships"
    text = "Checkpoint or run folder, the name of one that ships, or a repository that was pulled."
    option = click.option(
        "--model", "-m", metavar="DIR", show_default=default, help=text, shell_complete=complete_model
    )
    return option(function)


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Return the models here that a name can be completed to, for the shell; it completes other folders itself."""
    from click.shell_completion import CompletionItem

    from gatsby_mlx import api, shipped

    ships = [path.parent.name for path in shipped.folder("checkpoints").glob("*/config.json")]
    here = [str(path) for root in (api.RUNS, api.MODELS) for path in root.glob("[!.]*") if path.is_dir()]
    names = [name for name in sorted(ships) + sorted(here) if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="dir")]


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


def needed_out_option(text: str) -> Callable[[F], F]:
    """Add --out, without which a command does nothing; `text` is its help."""

    def check(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
        if value is None and not ctx.resilient_parsing:
            raise click.MissingParameter(ctx=ctx, param=param)
        return value

    return click.option("--out", "-o", type=PATH, metavar="DIR", callback=check, help=f"{text}  [required]")


def plot_option(function: F) -> F:
    """Add --plot, for `check_plot`."""
    return click.option("--plot", type=PATH, metavar="FILE", help="Write a plot to FILE, as .svg or .png.")(function)


def obsession_option(function: F) -> F:
    """Add --obsession, for `api.as_obsession`."""
    text = "TOML file of an obsession, as gatsby obsession new writes it."
    return click.option("--obsession", type=PATH, metavar="FILE", show_default="the green light", help=text)(function)


def force_option(function: F) -> F:
    """Add --force, for `make_room`."""
    text = "Replace an output folder that gatsby wrote."
    return click.option("--force", is_flag=True, help=text)(function)


def json_option(function: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)
