"""What commands share on the terminal: a status line, coloured mentions, tables, and the options of a model."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import click

from gatsby_mlx import shipped
from gatsby_mlx.errors import CheckpointError

RUNS = Path("runs")
_PARTIAL = re.compile(r"(?:g(?:r(?:e(?:e(?:n(?:\s+(?:l(?:i(?:g(?:h)?)?)?)?)?)?)?)?)?)\Z", re.IGNORECASE)


class Status:
    """One line on stderr that is written over; silent when stderr is no terminal."""

    def __init__(self):
        self.live = sys.stderr.isatty()
        self.shown = False

    def __call__(self, line: str) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + line[:width])
            sys.stderr.flush()
            self.shown = True

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.shown = False


def clock(seconds: float) -> str:
    """Return a duration as 0:42 or 12:03.

    >>> clock(723)
    '12:03'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def printable(text: str) -> str:
    """Return model text with everything but newline and printable characters taken out, safe for a terminal."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


def glow(text: str) -> str:
    """Return `text` with each mention of the light in bright green; click drops the colour where none is wanted."""
    return re.sub(r"(?i)green\s+light", lambda m: click.style(m[0], fg="bright_green", bold=True), printable(text))


def stream(characters, write: Callable[[str], None]) -> str:
    """Write characters as they come, mentions glowing; what may become one is held back until it is known."""
    held, everything = "", []
    for character in characters:
        held += character
        everything.append(character)
        if not _PARTIAL.search(held) or held[-1] == "\n":
            write(glow(held))
            held = ""
    write(glow(held))
    return "".join(everything)


def choose_model(model: str | None, runs: Path = RUNS) -> Path:
    """Return the checkpoint to use: the one named, else the newest local run's, else the shipped one.

    Says on stderr which it was when none was named. Raises CheckpointError when there is none at all.
    """
    if model:
        return Path(model)
    local = [p.parent for p in runs.glob("*/*/config.json")]
    if local:
        newest = max(local, key=lambda p: (p.joinpath("config.json").stat().st_mtime, p.name)).parent
        click.echo(f"using the newest run, {newest}", err=True)
        return newest
    found = shipped.checkpoint()
    if found is None:
        raise CheckpointError("There is no model yet", "Make one with: gatsby demo, or name one with --model DIR")
    click.echo(f"using the checkpoint that ships, {found.name}", err=True)
    return found


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a plain table, numbers flush right, text flush left."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    right = [all(re.match(r"^[-+]?[\d.,%]*$", r[i]) for r in rows) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        both = zip(cells, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in both).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def model_option(function):
    return click.option("--model", metavar="DIR", help="Checkpoint or run folder. [default: newest run, else shipped]")(
        function
    )


def sampling_options(function):
    """Add --temp, --top-k and --top-p, named as in mlx_lm."""
    for option in (
        click.option("--top-p", default=1.0, show_default=True, help="Keep the likeliest share of probability."),
        click.option("--top-k", default=0, show_default=True, help="Keep the k likeliest characters; 0 is all."),
        click.option("--temp", default=0.8, show_default=True, help="Temperature; 0 is greedy."),
    ):
        function = option(function)
    return function
