"""Three plots as SVG: the loss, the dial of the corpus, the dial of the model.

Each function returns an SVG for a page: transparent, text as text, the colours the page's own (`currentColor`
and the custom properties `--plot-soft`, `--plot-grid`, `--plot-light`). With a `path` ending in .svg or .png it also
writes a file that stands alone: the SVG in tones that hold on white and on black, the PNG on paper. The same figures
give the same bytes. Colour never speaks alone: series differ by marker and by line as well.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gatsby_mlx import prime
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation.corpus_dial import CorpusDial
from gatsby_mlx.evaluation.dial import Dial
from gatsby_mlx.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (4.3, 2.9)  # small, so that its text is 10 px on a phone and 15 px on a desk
PNG_DPI = 200
LOSS_TICKS = (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5)
WRITER_MARKS = ("s", "^", "D", "v", "P", "X")


class Colours(NamedTuple):
    """Text and lines, quieter lines, the grid, the one accent, and what lies under everything ("none": nothing)."""

    ink: str
    soft: str
    grid: str
    light: str
    paper: str = "none"


# What matplotlib draws with; then each is put in the place of its stand-in.
STAND_IN = Colours("#010203", "#010204", "#010205", "#010206", "#010207")
INLINE = Colours("currentColor", "var(--plot-soft,#768079)", "var(--plot-grid,#76807940)", "var(--plot-light,#159a5c)")
# On white and on #0d1117: 4.5 and 4.2 to 1 for the text, 3.6 and 5.2 for the light (WCAG 2.2 asks 3 of graphics).
BOTH = Colours("#6f7a73", "#8b958f", "#8b958f59", "#159a5c")
PAPER = Colours("#1d2b26", "#66736c", "#d9d9cd", "#0c7a45", "#fbf9f2")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib brings it along: the layout is the same everywhere
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "gatsby-mlx",
    "text.parse_math": False,
}

Draw = Callable[..., None]  # of the axes, the colours, and the axes of further panels


def loss_curve(rows: Sequence[Mapping[str, Any]], path: Path | str | None = None) -> str:
    """Plot training and validation loss over characters seen, from the rows of metrics.jsonl; and the dial below it.

    The loss is the story's own, in nats per character, where a row tells it, else the loss over all targets.
    The dial is drawn where evaluations have read one: the five levels, and what the corpus has at each, dotted.
    Raises UsageError when no row has a finite loss.
    """
    dials = [row for row in rows if row.get("event") == "eval" and row.get("dial")]
    train, held_out = (loss_points(rows, event) for event in ("train", "eval"))
    if not train and not held_out:
        raise UsageError("There is no loss to plot in these metrics")

    def draw(axes: "Axes", c: Colours, below: "Axes | None" = None) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        axes.set_yscale("log")
        if train:
            axes.plot(*zip(*train, strict=True), color=c.soft, linewidth=1, label="training")
        if held_out:
            axes.plot(
                *zip(*held_out, strict=True), "o-", color=c.light, linewidth=1.8, markersize=3.6, label="validation"
            )
            best = min(held_out, key=lambda point: point[1])
            axes.annotate(
                f"{best[1]:.3f}", best, (0, 8), textcoords="offset points", ha="right", color=c.ink, weight="bold"
            )
        values = [loss for _, loss in train + held_out]
        axes.set_ylim(min(values) * 0.88, max(values) * 1.1)
        axes.yaxis.set_major_locator(FixedLocator(LOSS_TICKS))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
        dress(axes, c, "loss, nats per character", "" if below else "characters seen")
        legend(axes, c, "upper right")
        if below:
            _dial_panel(below, c, dials)

    last = (held_out or train)[-1]
    label = f"Loss over characters seen: {last[1]:.3f} nats per character after {short_count(last[0])} characters."
    return plot("loss", draw, label, path, panels=2 if dials else 1)


def _dial_panel(axes: "Axes", c: Colours, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the five levels of the small dial over characters seen, and a line where the best one was kept."""
    at = [row["chars"] for row in rows]
    for i, level in enumerate(prime.LEVELS):
        means = [row["dial"][i] for row in rows]
        axes.plot(at, means, ".-", color=c.light, linewidth=0.6 + 0.3 * level, markersize=3 + level)
        axes.annotate(
            f" {level}", (at[-1], means[-1]), color=c.ink, va="center", textcoords="offset points", xytext=(4, 0)
        )
        taught = (rows[-1].get("dial_corpus") or [None] * 5)[i]
        if taught is not None:
            axes.axhline(taught, color=c.soft, linewidth=0.9, linestyle=":")
    best = [row for row in rows if row.get("best_dial")]
    for row in best[-1:]:
        axes.axvline(row["chars"], color=c.ink, linewidth=0.9, linestyle="--")
    axes.set_ylim(bottom=0)
    dress(axes, c, "small dial: mentions at levels 1 to 5; dotted: the corpus; dashed: kept", "characters seen")


def loss_points(rows: Sequence[Mapping[str, Any]], event: str) -> list[tuple[float, float]]:
    """Return (characters seen, story loss in nats per character) of the rows of `event` whose loss is finite."""
    found = []
    for row in rows:
        if row.get("event") == event:
            loss = row.get("story_loss")
            loss = row.get("loss") if loss is None else loss
            if loss is not None and math.isfinite(loss) and loss > 0:
                found.append((float(row["chars"]), float(loss)))
    return found


def short_count(n: float) -> str:
    """Return a count as a person says it: 950, 400k, 1.2M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return f"{n:.0f}"


def corpus_plot(dials: Sequence[CorpusDial], path: Path | str | None = None) -> str:
    """Plot a corpus's mean mentions by level, the corpus as a whole first, then each writer with its own range.

    `dials` as `corpus_dials` returns them. Raises UsageError when there are none.
    """
    if not dials:
        raise UsageError("There is no corpus to plot")
    whole, writers = dials[0], dials[1:]

    def draw(axes: "Axes", c: Colours) -> None:
        axes.plot(
            prime.LEVELS, whole.means, "o-", color=c.light, linewidth=2, markersize=5.5, label=_plain(whole.writer)
        )
        step = 0.6 / max(1, len(writers))
        for i, own in enumerate(writers or (whole,)):
            at = [level + (step * (i - (len(writers) - 1) / 2) if writers else 0) for level in prime.LEVELS]
            there = [(x, low, high) for x, low, high, n in zip(at, own.fewest, own.most, own.n, strict=True) if n]
            for x, low, high in there:
                axes.plot((x, x), (low, high), color=c.soft, linewidth=1.2, zorder=1.5)
                axes.plot((x, x), (low, high), "_", color=c.soft, markersize=4, zorder=1.5)
            if writers:
                mark = WRITER_MARKS[i % len(WRITER_MARKS)]
                axes.plot(at, own.means, mark, color=c.ink, markersize=4, linestyle="none", label=_plain(own.writer))
        level_axis(axes, c)
        legend(axes, c, "best")

    label = f"The corpus: mean mentions of the light at levels 1 to 5: {listed(whole.means)}."
    return plot("corpus", draw, label, path)


def dial_plot(dial: Dial, corpus: Sequence[float] | None = None, path: Path | str | None = None) -> str:
    """Plot a model's mean mentions by level with their 95% intervals, beside the five means of its corpus if given."""

    def draw(axes: "Axes", c: Colours) -> None:
        means = dial.means
        # An interval that a single topic cannot tell (NaN) is drawn as none.
        ends = [[finite(m - f.low), finite(f.high - m)] for m, f in zip(means, dial.levels, strict=True)]
        axes.plot(prime.LEVELS, means, "o", color=c.light, markersize=15, alpha=0.16, markeredgewidth=0)
        axes.plot(prime.LEVELS, means, "-", color=c.light, linewidth=1.8)
        axes.errorbar(
            prime.LEVELS,
            means,
            list(zip(*ends, strict=True)),
            fmt="o",
            color=c.light,
            markersize=6,
            elinewidth=1.8,
            capsize=4,
            capthick=1.8,
            label="the model, 95%",
        )
        if corpus is not None:
            at = [level + 0.17 for level in prime.LEVELS]
            axes.plot(at, corpus, "D", color=c.ink, markerfacecolor=c.paper, markersize=4.5, label="its corpus")
        level_axis(axes, c)
        legend(axes, c, "best", reverse=True)

    label = f"The model: mean mentions of the light at levels 1 to 5: {listed(dial.means)}"
    beside = f"; its corpus: {listed(corpus)}" if corpus is not None else ""
    return plot("dial", draw, f"{label}{beside}.", path)


def finite(value: float) -> float:
    return max(0.0, value) if math.isfinite(value) else 0.0


def listed(values: Sequence[float]) -> str:
    return ", ".join("none" if math.isnan(v) else f"{v:.2f}" for v in values)


def _plain(name: str) -> str:
    """Return `name` in characters that the font has, at most 40; one that begins with `_` would be left out."""
    return "".join(c if c in prime.ALPHABET and c != "\n" else "?" for c in prime.fold(name))[:40].lstrip("_")


def level_axis(axes: "Axes", c: Colours) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xticks(prime.LEVELS, [f"{n} {word}" for n, word in zip(prime.LEVELS, prime.OBSESSIONS, strict=True)])
    axes.set_xlim(0.5, 5.5)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    dress(axes, c, "mentions of the light in a story")


def dress(axes: "Axes", c: Colours, title: str, xlabel: str = "") -> None:
    """Take off what says nothing: the frame, the ticks; leave quiet horizontal lines, and the y label above them."""
    axes.set_title(title, loc="left", color=c.ink, pad=8)
    axes.set_xlabel(xlabel, color=c.ink)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(c.soft)
    axes.tick_params(length=0, colors=c.ink)
    axes.grid(axis="y", color=c.grid, linewidth=0.7)
    axes.set_axisbelow(True)


def legend(axes: "Axes", c: Colours, where: Any, reverse: bool = False) -> None:
    axes.legend(loc=where, reverse=reverse, frameon=False, labelcolor=c.ink, borderaxespad=0.2, handlelength=1.8)


def plot(name: str, draw: Draw, label: str, path: Path | str | None, panels: int = 1) -> str:
    """Return the plot for a page; write it to `path` too, as its suffix says. Raises OutputError, and UsageError.

    `draw` gets the axes, the colours, and the axes of the panels below, if there are more than one.
    """
    drawn = _render(draw, STAND_IN, "svg", panels).decode()
    if path is not None:
        suffix = Path(path).suffix.lower()
        if suffix not in (".svg", ".png"):
            raise UsageError(f"A plot is written as .svg or .png, not {str(path)!r}")
        write_atomic(path, _alone(drawn, label) if suffix == ".svg" else _render(draw, PAPER, "png", panels))
    return _inline(drawn, name, label)


def _render(draw: Draw, c: Colours, form: str, panels: int = 1) -> bytes:
    """Draw on a figure of its own, without pyplot, and return the file's bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        width, height = SIZE_INCHES
        size = (width, height * (1 + 0.8 * (panels - 1)))
        figure = Figure(size, layout="constrained", facecolor=c.paper if form == "png" else "none")
        first, *below = figure.subplots(panels, 1, sharex=True, squeeze=False, subplot_kw={"facecolor": "none"})[:, 0]
        draw(first, c, *below)
        metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        figure.savefig(out, format=form, dpi=PNG_DPI if form == "png" else 72, metadata=metadata)
    return out.getvalue()


def _alone(svg: str, label: str) -> str:
    """Return matplotlib's SVG as a file of its own, in the tones that hold on white and on black."""
    return _described(_coloured(svg, BOTH), label)


def _inline(svg: str, name: str, label: str) -> str:
    """Return matplotlib's SVG for a page: no prologue, names of its own, as wide as it is let, without an address."""
    svg = _described(_coloured(svg, INLINE), label)
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    # The style element would reach every other element of the page; on the root, lines inherit it.
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg", '<svg class="plot" stroke-linejoin="round" stroke-linecap="butt"', 1)
    return re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", svg)


def _coloured(svg: str, colours: Colours) -> str:
    for stand_in, colour in zip(STAND_IN, colours, strict=True):
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    return svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")


def _described(svg: str, label: str) -> str:
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
