"""Two plots: how a step's speed grows with its size, and how many times as fast MLX is, machine by machine."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatsby_mlx.bench import timing, work
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation.plots import Colours, dress, legend, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {"mlx": "o", "torch": "s"}
NAMES = {"mlx": "MLX", "torch": "PyTorch"}
AXES = {"context": "characters in a row", "batch": "rows in a step", "size": "parameters that multiply a character"}
MACHINE_MARKS = "osD^vP"


def draw(documents: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the plot that suits these documents: growth where one document measured several sizes, else ratios."""
    if len(documents) == 1 and (axis := growing(documents[0]["results"])):
        growth(documents[0]["results"], axis, path)
    else:
        ratios(documents, path)


def growing(results: Sequence[dict[str, Any]]) -> str:
    """Return what differs among the training results, "context", "batch" or "size"; "" when nothing does."""
    told = [_place(r["work"]) for r in results if r["suite"] == "train"]
    return next((axis for axis in AXES if len({place[axis] for place in told}) > 1), "")


def _place(content: dict[str, Any]) -> dict[str, Any]:
    """Return where a piece of work stands on each of AXES, and what else has to agree for a line through it."""
    job = work.train_work(content)
    size = work.n_params(job.model)
    return {"context": job.context, "batch": job.batch, "size": size, "dtype": job.dtype, "dropout": job.model.dropout}


def _one_line(results: Sequence[dict[str, Any]], axis: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (size, result) of the training results that differ from the first in `axis` alone, by size."""
    told = [(_place(r["work"]), r) for r in results if r["suite"] == "train"]
    first = told[0][0]
    alike = [(place[axis], r) for place, r in told if {**place, axis: first[axis]} == first]
    return sorted(alike, key=lambda pair: pair[0])


def growth(results: Sequence[dict[str, Any]], axis: str, path: Path) -> None:
    """Plot the time of a character against `axis` on logarithms, each half with its slope and its share of the peak.

    Where other things differ as well (dropout, another axis), those results are shown that agree with the first.
    """
    train = _one_line(results, axis)

    def paint(axes: "Axes", c: Colours) -> None:
        for half, colour in (("mlx", c.light), ("torch", c.ink)):
            own = [(size, r) for size, r in train if r.get(half)]
            if not own:
                continue
            x = [size for size, _ in own]
            y = [1e6 / r[half]["median"] for _, r in own]
            share = max(100 * r["gflop_s"][half] / r["matmul_gflop_s"] for _, r in own)
            p = timing.slope(x, y) or 0.0
            label = f"{NAMES[half]}: slope {p:+.2f}, up to {share:.0f}% of the peak"
            axes.plot(x, y, f"-{MARKS[half]}", color=colour, linewidth=1.6, markersize=5, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        sizes = sorted({size for size, _ in train})
        axes.set_xticks(sizes, [f"{s / 1e6:.1f} M" if axis == "size" else str(s) for s in sizes])
        axes.set_xticks([], minor=True)
        axes.set_ylim(axes.get_ylim()[0] / 1.1, axes.get_ylim()[1] * 1.3)  # room for the legend
        _ticks(axes, "y")
        dress(axes, c, "microseconds for a character of training", AXES[axis])
        legend(axes, c, "best")

    plot("bench-growth", paint, f"Time of a training character by {axis}, MLX and PyTorch.", path)


def ratios(documents: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot each ratio with its interval, one line a result and one mark a machine. Raises UsageError without one."""
    names = list(dict.fromkeys(r["name"] for d in documents for r in d["results"] if r.get("ratio")))
    if not names:
        raise UsageError("There is no ratio to plot: nothing was measured against PyTorch", "Leave --plot out")

    def paint(axes: "Axes", c: Colours) -> None:
        for k, document in enumerate(documents):
            own = [(names.index(r["name"]), r["ratio"]) for r in document["results"] if r.get("ratio")]
            at = [len(names) - 1 - i - 0.18 * k for i, _ in own]
            middle = [ratio["median"] for _, ratio in own]
            ends = [[r["median"] - r["low"] for _, r in own], [r["high"] - r["median"] for _, r in own]]
            mark, colour = MACHINE_MARKS[k % len(MACHINE_MARKS)], c.light if k == 0 else c.ink
            label = document["machine"]["chip"][:40]
            axes.errorbar(middle, at, xerr=ends, fmt=mark, color=colour, markersize=5, capsize=3, label=label)
        axes.axvline(1, color=c.soft, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), [_short(name) for name in reversed(names)], fontsize=6.5)
        axes.set_ylim(-0.6 - 0.18 * len(documents), len(names) - 0.4)
        _ticks(axes, "x")
        where = f" ({documents[0]['machine']['chip'][:40]})" if len(documents) == 1 else ""
        dress(axes, c, "MLX over PyTorch, with 95% intervals", f"times as good{where}")
        axes.grid(axis="x", color=c.grid, linewidth=0.7)
        if len(documents) > 1:
            legend(axes, c, "best")

    plot("bench-ratios", paint, "How many times as good as PyTorch MLX is, result by result.", path)


def _ticks(axes: "Axes", which: str) -> None:
    """Label a logarithmic axis with round numbers, fewer for each power of ten the more of those are in view."""
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = math.log10(high / low)
    digits = (1,) if decades > 4 else (1, 2, 5) if decades > 0.8 else (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    found = [m * 10.0**e for e in powers for m in digits if low <= m * 10.0**e <= high]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(found, [f"{t:g}" for t in found])
    axis.set_ticks([], minor=True)


def _short(name: str) -> str:
    name = name.replace(", float32", "").replace(", 480 characters", "")
    return name if len(name) <= 34 else f"{name[:33].rstrip()}…"
