"""The figures of the report: the loss, the dial of a corpus and of a model, topic adherence, and copied passages.

Each function returns an SVG for a page and, with a `path` ending in .svg or .png, writes a standalone file (see
`plots`). Raises UsageError for another suffix, OutputError for a path that cannot be written.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gatsby_mlx.corpus.levels import CorpusDial
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation.adherence import Adherence
from gatsby_mlx.evaluation.dial import BaselineCount, Dial
from gatsby_mlx.evaluation.format import subject_of
from gatsby_mlx.evaluation.plots import (
    Colors,
    finite,
    legend,
    level_axis,
    listed,
    percent_axis,
    plain_label,
    plot,
    short_count,
    style_axes,
)
from gatsby_mlx.evaluation.quality import TextQuality
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS_TICKS = (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5)
MEASURES = {"honored": ("o", "honored"), "noun": ("D", "its noun"), "again": ("s", "noun again")}
WRITER_MARKERS = ("s", "^", "D", "v", "P", "X")


def loss_curve(rows: Sequence[Mapping[str, Any]], path: Path | str | None = None) -> str:
    """Plot training and validation loss over characters seen, from the rows of metrics.jsonl.

    The loss is over story characters, in nats per character, or over all targets where a row has no story loss. If
    evaluations include the small dial, a second panel shows its five levels, and dotted lines for the corpus.
    Raises UsageError if no row has a finite loss.
    """
    dials = [row for row in rows if row.get("event") == "eval" and row.get("dial")]
    train, validation = (loss_points(rows, event) for event in ("train", "eval"))
    if not train and not validation:
        raise UsageError("There is no loss to plot in these metrics")

    def draw(axes: "Axes", c: Colors, below: "Axes | None" = None) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        axes.set_yscale("log")
        if train:
            axes.plot(*zip(*train, strict=True), color=c.soft, linewidth=1, label="training")
        if validation:
            at = zip(*validation, strict=True)
            axes.plot(*at, "o-", color=c.light, linewidth=1.8, markersize=3.6, label="validation")
            best = min(validation, key=lambda point: point[1])
            axes.annotate(
                f"{best[1]:.3f}", best, (0, 8), textcoords="offset points", ha="right", color=c.ink, weight="bold"
            )
        values = [loss for _, loss in train + validation]
        axes.set_ylim(min(values) * 0.88, max(values) * 1.1)
        axes.yaxis.set_major_locator(FixedLocator(LOSS_TICKS))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
        style_axes(axes, c, "loss, nats per character", "" if below else "characters seen")
        legend(axes, c, "upper right")
        if below:
            _small_dial(below, c, dials)

    last = (validation or train)[-1]
    label = f"Loss over characters seen: {last[1]:.3f} nats per character after {short_count(last[0])} characters."
    return plot("loss", draw, label, path, panels=2 if dials else 1)


def _small_dial(axes: "Axes", c: Colors, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the five levels of the small dial over characters seen, and a line where the best checkpoint was saved."""
    at = [row["chars"] for row in rows]
    for i, level in enumerate(LEVELS):
        means = [row["dial"][i] for row in rows]
        axes.plot(at, means, ".-", color=c.light, linewidth=0.6 + 0.3 * level, markersize=3 + level)
        axes.annotate(f" {level}", (at[-1], means[-1]), (4, 0), textcoords="offset points", va="center", color=c.ink)
        of_corpus = (rows[-1].get("dial_corpus") or [None] * 5)[i]
        if of_corpus is not None:
            axes.axhline(of_corpus, color=c.soft, linewidth=0.9, linestyle=":")
    best = [row for row in rows if row.get("best_dial")]
    for row in best[-1:]:
        axes.axvline(row["chars"], color=c.ink, linewidth=0.9, linestyle="--")
    axes.set_ylim(bottom=0)
    style_axes(axes, c, "small dial: mentions at levels 1 to 5; dotted: corpus; dashed: best", "characters seen")


def loss_points(rows: Sequence[Mapping[str, Any]], event: str) -> list[tuple[float, float]]:
    """Return (characters seen, story loss in nats per character) of the rows of `event` with a finite loss."""
    points = []
    for row in rows:
        if row.get("event") == event:
            loss = row.get("story_loss")
            loss = row.get("loss") if loss is None else loss
            if loss is not None and math.isfinite(loss) and loss > 0:
                points.append((float(row["chars"]), float(loss)))
    return points


def corpus_plot(dials: Sequence[CorpusDial], obsession: Obsession = GREEN_LIGHT, path: Path | str | None = None) -> str:
    """Plot a corpus's mean mentions by level: the whole corpus, and each writer's part with its range.

    `dials` are from `corpus_dials`. Raises UsageError if there are none.
    """
    if not dials:
        raise UsageError("There is no corpus to plot")
    all_writers, writers = dials[0], dials[1:]

    def draw(axes: "Axes", c: Colors) -> None:
        name = plain_label(all_writers.writer)
        axes.plot(LEVELS, all_writers.means, "o-", color=c.light, linewidth=2, markersize=5.5, label=name)
        step = 0.6 / max(1, len(writers))
        for i, dial in enumerate(writers or (all_writers,)):
            at = [level + (step * (i - (len(writers) - 1) / 2) if writers else 0) for level in LEVELS]
            for x, low, high, n in zip(at, dial.fewest, dial.most, dial.n, strict=True):
                if n:
                    axes.plot((x, x), (low, high), color=c.soft, linewidth=1.2, zorder=1.5)
                    axes.plot((x, x), (low, high), "_", color=c.soft, markersize=4, zorder=1.5)
            if writers:
                marker, name = WRITER_MARKERS[i % len(WRITER_MARKERS)], plain_label(dial.writer)
                axes.plot(at, dial.means, marker, color=c.ink, markersize=4, linestyle="none", label=name)
        level_axis(axes, c, obsession)
        legend(axes, c, "best")

    label = f"The corpus: mean mentions of {subject_of(obsession)} at levels 1 to 5: {listed(all_writers.means)}."
    return plot("corpus", draw, label, path)


def dial_plot(dial: Dial, corpus: Sequence[float] | None = None, path: Path | str | None = None) -> str:
    """Plot a model's mean mentions by level with their 95% intervals, and the five means of its corpus if given."""

    def draw(axes: "Axes", c: Colors) -> None:
        means = dial.means
        # The interval of a single topic (NaN) is not drawn.
        ends = [[finite(m - f.low), finite(f.high - m)] for m, f in zip(means, dial.levels, strict=True)]
        axes.plot(LEVELS, means, "o", color=c.light, markersize=15, alpha=0.16, markeredgewidth=0)
        axes.plot(LEVELS, means, "-", color=c.light, linewidth=1.8)
        axes.errorbar(
            LEVELS,
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
            at = [level + 0.17 for level in LEVELS]
            axes.plot(at, corpus, "D", color=c.ink, markerfacecolor=c.paper, markersize=4.5, label="its corpus")
        level_axis(axes, c, dial.obsession)
        legend(axes, c, "best", reverse=True)

    label = f"The model: mean mentions of {subject_of(dial.obsession)} at levels 1 to 5: {listed(dial.means)}"
    of_corpus = f"; its corpus: {listed(corpus)}" if corpus is not None else ""
    return plot("dial", draw, f"{label}{of_corpus}.", path)


def baseline_plot(count: BaselineCount, obsession: Obsession = GREEN_LIGHT, path: Path | str | None = None) -> str:
    """Plot the same texts counted twice: up to the end of their story, and past it, as the baseline counts."""
    word = obsession.words[0]

    def draw(axes: "Axes", c: Colors) -> None:
        axes.plot(LEVELS, count.levels, "s--", color=c.ink, markersize=4.5, linewidth=1.2, label="past the end")
        axes.plot(LEVELS, count.within_story, "o-", color=c.light, markersize=5.5, linewidth=1.8, label="within story")
        level_axis(axes, c, obsession, f"\u201c{word}\u201d in 480 characters")
        legend(axes, c, "best")

    label = f"{word.capitalize()} in 480 characters at levels 1 to 5: within the story {listed(count.within_story)}"
    return plot("baseline", draw, f"{label}; past its end {listed(count.levels)}.", path)


def adherence_plot(adherence: Adherence, path: Path | str | None = None) -> str:
    """Plot the shares of each group of topics with their intervals, and a bar at the chance level."""
    groups = adherence.groups()

    def draw(axes: "Axes", c: Colors) -> None:
        for i, (name, (marker, label)) in enumerate(MEASURES.items()):
            at = [n + 0.22 * (i - 1) for n in range(len(groups))]
            shares = [getattr(g, name) for g in groups.values()]
            means = [x.mean for x in shares]
            bars = [[finite(x.mean - x.low) for x in shares], [finite(x.high - x.mean) for x in shares]]
            color = c.light if name == "honored" else c.ink
            style = {"fmt": marker, "color": color, "markersize": 5, "elinewidth": 1.5, "capsize": 3}
            axes.errorbar(at, means, bars, label=label, **style)
            chance = [getattr(g, f"{name}_chance").mean for g in groups.values()]
            axes.plot(at, chance, "_", color=c.soft, markersize=9, label="by chance" if name == "again" else None)
        axes.set_xticks(range(len(groups)), [name.removesuffix(" nouns").removesuffix(" topics") for name in groups])
        axes.set_xlim(-0.5, len(groups) - 0.5)
        percent_axis(axes, 1.04)
        style_axes(axes, c, "share of stories")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False, labelcolor=c.ink)

    shares = "; ".join(f"{name} {100 * g.honored.mean:.0f}%" for name, g in groups.items())
    return plot("honour", draw, f"Topics honored: {shares}.", path)


def copies_plot(quality: TextQuality, path: Path | str | None = None) -> str:
    """Plot the share of stories whose longest copied passage is at most so long, for the model and for the corpus.

    Raises UsageError if no copies were measured.
    """
    if not quality.copies:
        raise UsageError("There are no copies to plot without a corpus")

    def draw(axes: "Axes", c: Colors) -> None:
        for lengths, color, line, label in (
            (quality.corpus_copies, c.ink, "--", "the corpus, from other topics"),
            (quality.copies, c.light, "-", "the model, from the corpus"),
        ):
            if lengths:
                ordered = np.sort(lengths)
                share = np.arange(1, len(ordered) + 1) / len(ordered)
                axes.plot(ordered, share, line, color=color, linewidth=1.6, drawstyle="steps-post", label=label)
        axes.set_xlim(left=0)
        percent_axis(axes, 1.02)
        style_axes(axes, c, "stories with no longer copy", "characters")
        legend(axes, c, "lower right")

    label = f"Longest copied passage, median: {np.median(quality.copies):.0f} characters from the corpus"
    if quality.corpus_copies:
        label += f"; the corpus from other topics {np.median(quality.corpus_copies):.0f}"
    return plot("copies", draw, f"{label}.", path)
