"""How a plot is drawn and becomes SVG or PNG; the figures themselves are in `figures`.

`plot` returns an SVG for a page: transparent, text as text, in the page's colors (`currentColor` and the custom
properties `--plot-soft`, `--plot-grid`, `--plot-light`). With a `path` ending in .svg or .png it also writes a
standalone file: the SVG in colors that are readable on white and on black, the PNG on a paper background. The same
figures give the same bytes. Color never carries meaning alone: series also differ by marker and by line.
"""

import contextlib
import io
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation.format import subject_of
from gatsby_mlx.files import write_atomic
from gatsby_mlx.story.obsession import LEVELS, Obsession
from gatsby_mlx.story.prime import ALPHABET, fold

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (4.3, 2.9)  # small, so that its text is 10 px on a phone and 15 px on a desktop
PNG_DPI = 200
LABEL_CHARS = 40


class Colors(NamedTuple):
    """Text and lines, quieter lines, the grid, the one accent, and the background ("none": transparent)."""

    ink: str
    soft: str
    grid: str
    light: str
    paper: str = "none"


# Matplotlib draws with the placeholders; afterwards each is replaced by the real color.
PLACEHOLDERS = Colors("#010203", "#010204", "#010205", "#010206", "#010207")
INLINE = Colors("currentColor", "var(--plot-soft,#768079)", "var(--plot-grid,#76807940)", "var(--plot-light,#159a5c)")
# On white and on #0d1117: contrast 4.5 and 4.2 for the text, 3.6 and 5.2 for the accent (WCAG 2.2: 3 for graphics).
BOTH = Colors("#6f7a73", "#8b958f", "#8b958f59", "#159a5c")
PAPER = Colors("#1d2b26", "#66736c", "#d9d9cd", "#0c7a45", "#fbf9f2")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so the layout is the same everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "gatsby-mlx",
    "text.parse_math": False,
}

Draw = Callable[..., None]  # called with the axes, the colors, and the axes of further panels


def plot(name: str, draw: Draw, label: str, path: Path | str | None = None, panels: int = 1) -> str:
    """Return the plot as an SVG for a page, and write it to `path`, too, as .svg or .png.

    `draw` is called with the axes, the colors, and the axes of each further panel below. `name` prefixes all ids in
    the SVG, and `label` describes it to a screen reader. Raises UsageError for another suffix, OutputError for a path
    that cannot be written.
    """
    drawn = _render(draw, PLACEHOLDERS, "svg", panels).decode()
    if path is not None:
        suffix = Path(path).suffix.lower()
        if suffix not in (".svg", ".png"):
            raise UsageError(f"A plot is written as .svg or .png, not {str(path)!r}")
        write_atomic(path, _standalone(drawn, label) if suffix == ".svg" else _render(draw, PAPER, "png", panels))
    return _inline(drawn, name, label)


def style_axes(axes: "Axes", c: Colors, title: str, xlabel: str = "") -> None:
    """Set title and label; remove frame and ticks, and leave faint horizontal lines. The title names the y axis."""
    axes.set_title(title, loc="left", color=c.ink, pad=8)
    axes.set_xlabel(xlabel, color=c.ink)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(c.soft)
    axes.tick_params(length=0, colors=c.ink)
    axes.grid(axis="y", color=c.grid, linewidth=0.7)
    axes.set_axisbelow(True)


def legend(axes: "Axes", c: Colors, where: Any, reverse: bool = False) -> None:
    """Add a legend at `where`, a location as Matplotlib takes it."""
    axes.legend(loc=where, reverse=reverse, frameon=False, labelcolor=c.ink, borderaxespad=0.2, handlelength=1.8)


def level_axis(axes: "Axes", c: Colors, obsession: Obsession, title: str | None = None) -> None:
    """Put the five levels on the x axis and mentions in a story on the y axis."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xticks(LEVELS, [f"{level} {obsession.level_word(level)}" for level in LEVELS])
    axes.set_xlim(0.5, 5.5)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    style_axes(axes, c, title or f"mentions of {subject_of(obsession)} in a story")


def percent_axis(axes: "Axes", top: float) -> None:
    """Show the y axis in percent, from 0 to `top`, a share."""
    from matplotlib.ticker import PercentFormatter

    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def short_count(n: float) -> str:
    """Return a count in short form.

    >>> short_count(950), short_count(400_000), short_count(1_200_000)
    ('950', '400k', '1.2M')
    """
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return f"{n:.0f}"


def finite(value: float) -> float:
    """Return `value`, or 0 if it is negative or NaN: the length of an error bar."""
    return max(0.0, value) if math.isfinite(value) else 0.0


def listed(values: Sequence[float]) -> str:
    """Return values as a screen reader reads them.

    >>> listed([1, float("nan")])
    '1.00, none'
    """
    return ", ".join("none" if math.isnan(v) else f"{v:.2f}" for v in values)


def plain_label(name: str) -> str:
    """Return at most LABEL_CHARS characters of `name`, all of which the font has.

    Underscores at the start are dropped, since Matplotlib leaves labels with them out of legends.
    """
    return "".join(c if c in ALPHABET and c != "\n" else "?" for c in fold(name))[:LABEL_CHARS].lstrip("_")


def _render(draw: Draw, c: Colors, form: str, panels: int) -> bytes:
    """Draw on a new figure with its own canvas, without pyplot and its backend; return the bytes of the file."""
    out = io.BytesIO()
    with quiet_matplotlib():
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        width, height = SIZE_INCHES
        size = (width, height * (1 + 0.8 * (panels - 1)))
        canvas = {"svg": FigureCanvasSVG, "png": FigureCanvasAgg}[form]
        with matplotlib.rc_context(STYLE):
            figure = Figure(size, layout="constrained", facecolor=c.paper if form == "png" else "none")
            canvas(figure)
            axes = figure.subplots(panels, 1, sharex=True, squeeze=False, subplot_kw={"facecolor": "none"})
            draw(axes[0, 0], c, *axes[1:, 0])
            metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
            figure.savefig(out, format=form, dpi=PNG_DPI if form == "png" else 72, metadata=metadata)
    return out.getvalue()


@contextlib.contextmanager
def quiet_matplotlib() -> Iterator[None]:
    """Import Matplotlib, whatever MPLBACKEND says, and keep its remarks off stderr inside the block.

    A notebook's MPLBACKEND can name a backend that is not installed here, which Matplotlib refuses at its import; no
    backend is used. The remarks are about a home folder that it cannot write its caches to.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        if "matplotlib" not in sys.modules and (backend := os.environ.pop("MPLBACKEND", None)) is not None:
            import matplotlib

            os.environ["MPLBACKEND"] = backend
            with contextlib.suppress(ValueError):  # as Matplotlib does, for whoever uses pyplot later
                matplotlib.rcParams["backend"] = backend
        yield
    finally:
        log.setLevel(level)


def _standalone(svg: str, label: str) -> str:
    """Return Matplotlib's SVG as a file, in colors that are readable on white and on black."""
    return _described(_colored(svg, BOTH), label)


def _inline(svg: str, name: str, label: str) -> str:
    """Return Matplotlib's SVG for a page: no prologue, ids with the prefix `name`, flexible width, no URL."""
    svg = _described(_colored(svg, INLINE), label)
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    # The style element would apply to the whole page; attributes of the root are inherited by the lines only.
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg", '<svg class="plot" stroke-linejoin="round" stroke-linecap="butt"', 1)
    return re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", svg)


def _colored(svg: str, colors: Colors) -> str:
    for placeholder, color in zip(PLACEHOLDERS, colors, strict=True):
        svg = svg.replace(placeholder, color)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    return svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")


def _described(svg: str, label: str) -> str:
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
