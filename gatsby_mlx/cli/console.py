"""What commands share on the terminal: a status line, coloured mentions, tables, and the options of a model."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatsby_mlx import shipped
from gatsby_mlx.config import TEMP
from gatsby_mlx.errors import CheckpointError, GatsbyError, UsageError

if TYPE_CHECKING:
    from gatsby_mlx.model.checkpoint import Checkpoint

RUNS = Path("runs")
DEMO_RUN = Path("demo/run")
SEED = click.IntRange(0, 2**32 - 1)  # what every generator in use takes
_PARTIAL = re.compile(r"(?:g(?:r(?:e(?:e(?:n(?:\s+(?:l(?:i(?:g(?:h)?)?)?)?)?)?)?)?)?)\Z", re.IGNORECASE)


class Status:
    """One line on stderr that is written over, without escape codes; silent when stderr is no terminal."""

    def __init__(self):
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = 0  # characters of it on the screen

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
    """Ask before a deed that is hard to undo; `yes` has answered already.

    Raises GatsbyError for a no, and UsageError where nobody can be asked.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"This is asked first, and there is no terminal to ask on: {question}", "Add --yes")
    if not click.confirm(question, err=True):
        raise GatsbyError("Nothing was changed", "Answer y to go on")


def printable(text: str) -> str:
    """Return model text with everything but newline and printable characters taken out, safe for a terminal."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


def glow(text: str) -> str:
    """Return `text` with each mention of the light in bright green; click drops the colour where none is wanted.

    Each of the two words is coloured by itself, so that the text can be cut into lines afterwards.
    """

    def shine(word: re.Match) -> str:
        return click.style(word[0], fg="bright_green", bold=True)

    return re.sub(r"(?i)green\s+light", lambda mention: re.sub(r"\S+", shine, mention[0]), printable(text))


def stream(characters: Iterable[str], write: Callable[[str], None]) -> None:
    """Write characters as they come, mentions glowing; what may become one is held back until it is known."""
    held = ""
    for character in characters:
        held += character
        if not _PARTIAL.search(held):
            write(glow(held))
            held = ""
    write(glow(held))


def choose_model(model: str | None) -> Path:
    """Return the checkpoint to use: the one named, else the newest local run's, else the shipped one.

    Says on stderr which it was when none was named. Raises CheckpointError when there is none at all.
    """
    from gatsby_mlx.model.checkpoint import NAMES

    if model is not None:
        return Path(model)
    folders = [f for f in [*RUNS.glob("*"), DEMO_RUN] if not f.name.startswith(".")]
    local = [c for f in folders for name in NAMES if (c := f / name / "config.json").is_file()]
    if local:
        newest = max(local, key=lambda path: (path.stat().st_mtime_ns, path)).parent.parent
        click.echo(f"using the newest run, {newest}", err=True)
        return newest
    found = shipped.checkpoint()
    if found is None:
        cure = "Make one with: gatsby demo, or name one with --model DIR"
        raise CheckpointError(f"There is no model in {RUNS}/ or {DEMO_RUN}, and none ships", cure)
    click.echo(f"using the checkpoint that ships, {found.name}", err=True)
    return found


def load_model(model: str | None) -> "Checkpoint":
    """Return the model that `--model` means, and say on stderr what makes it slow here, if anything does."""
    from gatsby_mlx.model import checkpoint

    ready = checkpoint.load(choose_model(model))
    warn_if_slow()
    return ready


def warn_if_slow(compiles: bool = False) -> None:
    """Say on stderr, in one line each, that no fast BLAS was found or that nothing can be compiled (`compiles`)."""
    from gatsby_mlx import device
    from gatsby_mlx.device.compiler import CURE

    if warning := device.prepare().warning:
        click.echo(f"slow: {warning}", err=True)
    if compiles and (problem := device.compile_problem()):
        click.echo(f"slow: {problem}, so steps run uncompiled. Try: {CURE}", err=True)


def check_plot(path: Path | None) -> None:
    """Refuse a plot that could not be written, before the work that it shows. Raises UsageError."""
    if path and path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(
            f"A plot is written as .svg or .png, not {str(path)!r}", f"Try --plot {path.stem or 'dial'}.svg"
        )
    if path and not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for a plot", f"Make it with: mkdir -p {path.parent}")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a plain table, numbers flush right, text flush left, safe for a terminal."""
    header, *rows = [[printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    right = [all(re.match(r"^[-+]?[\d.,%]*$", r[i]) for r in rows) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        both = zip(cells, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in both).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def model_option(function):
    """Add --model, for `choose_model`."""
    default = "newest run, else the one that ships"
    return click.option("--model", metavar="DIR", show_default=default, help="Checkpoint or run folder.")(function)


def max_tokens_option(function):
    """Add --max-tokens, named as in mlx_lm: a token is a character here."""
    told = "Characters of a story at most."
    limit = click.IntRange(1)
    return click.option("--max-tokens", type=limit, metavar="N", show_default="the context", help=told)(function)


def sampling_options(function):
    """Add --temp, --top-k and --top-p, named as in mlx_lm."""
    for option in (
        click.option(
            "--top-p", metavar="X", default=1.0, show_default=True, help="Keep the likeliest share of probability."
        ),
        click.option(
            "--top-k", metavar="N", default=0, show_default=True, help="Keep the k likeliest characters; 0 is all."
        ),
        click.option("--temp", metavar="X", default=TEMP, show_default=True, help="Temperature; 0 is greedy."),
    ):
        function = option(function)
    return function
