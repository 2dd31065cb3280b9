"""Plots of what was measured beside the dial: the seed's count, honour, and copies. See `plots` for their form."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gatsby_mlx import prime
from gatsby_mlx.evaluation.dial import SeedCount
from gatsby_mlx.evaluation.honour import Honour
from gatsby_mlx.evaluation.plots import Colours, dress, finite, legend, level_axis, listed, plot
from gatsby_mlx.evaluation.prose import Prose

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHORT = {"seen nouns": "seen", "nouns never seen": "never seen", "all topics": "all", "the corpus itself": "corpus"}
HONOUR = {"honoured": ("o", "honoured"), "noun": ("D", "its noun"), "again": ("s", "noun again")}


def artefact_plot(seed: SeedCount, path: Path | str | None = None) -> str:
    """Plot one set of texts scored both ways: up to the end of their own story, and running on as the seed counts."""

    def draw(axes: "Axes", c: Colours) -> None:
        axes.plot(prime.LEVELS, seed.levels, "s--", color=c.ink, markersize=4.5, linewidth=1.2, label="running on")
        axes.plot(prime.LEVELS, seed.own, "o-", color=c.light, markersize=5.5, linewidth=1.8, label="own story")
        level_axis(axes, c)
        dress(axes, c, "\u201cgreen\u201d in 480 characters")
        legend(axes, c, "best")

    label = f"Green in 480 characters at levels 1 to 5: own story {listed(seed.own)}; running on {listed(seed.levels)}."
    return plot("artefact", draw, label, path)


def honour_plot(found: Honour, path: Path | str | None = None) -> str:
    """Plot the shares of each group of topics with their intervals, and a bar where chance would be."""
    groups = found.groups()

    def draw(axes: "Axes", c: Colours) -> None:
        from matplotlib.ticker import PercentFormatter

        for i, (name, (mark, told)) in enumerate(HONOUR.items()):
            at = [n + 0.22 * (i - 1) for n in range(len(groups))]
            own = [getattr(g, name) for g in groups.values()]
            bars = [[finite(x.mean - x.low) for x in own], [finite(x.high - x.mean) for x in own]]
            colour = c.light if name == "honoured" else c.ink
            means = [x.mean for x in own]
            axes.errorbar(at, means, bars, fmt=mark, color=colour, markersize=5, elinewidth=1.5, capsize=3, label=told)
            chance = [getattr(g, f"{name}_chance").mean for g in groups.values()]
            axes.plot(at, chance, "_", color=c.soft, markersize=9, label="by chance" if name == "again" else None)
        axes.set_xticks(range(len(groups)), [SHORT[name] for name in groups])
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        dress(axes, c, "share of stories")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False, labelcolor=c.ink)

    told = "; ".join(f"{name} {100 * g.honoured.mean:.0f}%" for name, g in groups.items())
    return plot("honour", draw, f"Topics honoured: {told}.", path)


def copies_plot(found: Prose, path: Path | str | None = None) -> str:
    """Plot how many stories have no longer copy than so many characters, the model's and the corpus's."""

    def draw(axes: "Axes", c: Colours) -> None:
        from matplotlib.ticker import PercentFormatter

        for lengths, colour, style, told in (
            (found.corpus_copies, c.ink, "--", "the corpus, from other topics"),
            (found.copies, c.light, "-", "the model, from the corpus"),
        ):
            if lengths:
                ordered = np.sort(lengths)
                share = np.arange(1, len(ordered) + 1) / len(ordered)
                axes.plot(ordered, share, style, color=colour, linewidth=1.6, drawstyle="steps-post", label=told)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        dress(axes, c, "stories with no longer copy", "characters")
        legend(axes, c, "lower right")

    medians = [f"{np.median(own):.0f}" for own in (found.copies, found.corpus_copies) if own]
    label = f"Longest copied passage, median: {medians[0]} characters from the corpus"
    beside = f"; the corpus from other topics {medians[1]}" if len(medians) > 1 else ""
    return plot("copies", draw, f"{label}{beside}.", path)
