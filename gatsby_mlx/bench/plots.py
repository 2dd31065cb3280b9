"""Two plots: how the time of a step grows with its size, and the ratio of MLX to PyTorch on each machine."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatsby_mlx.bench import timing, work
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation.plots import Colors, legend, plot, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {"mlx": "o", "torch": "s"}
NAMES = {"mlx": "MLX", "torch": "PyTorch"}
AXES = {"context": "characters in a sequence", "batch": "sequences in a step", "size": "parameters"}
MACHINE_MARKS = "osD^vP"


def draw(documents: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the plot that suits the documents: growth if there is one that measured several sizes, else ratios."""
    if len(documents) == 1 and (axis := growing(documents[0]["results"])):
        growth(documents[0]["results"], axis, path)
    else:
        ratios(documents, path)


def growing(results: Sequence[dict[str, Any]]) -> str:
    """Return what differs among the training results, "context", "batch" or "size"; "" if nothing does."""
    jobs = [_coordinates(r["work"]) for r in results if r["suite"] == "train"]
    return next((axis for axis in AXES if len({job[axis] for job in jobs}) > 1), "")


def _coordinates(content: dict[str, Any]) -> dict[str, Any]:
    """Return a job's value on each of AXES, and the settings that must be equal for all points of a line."""
    job = work.TrainWork.from_json(content)
    size = work.n_params(job.model)
    return {"context": job.context, "batch": job.batch, "size": size, "dtype": job.dtype, "dropout": job.model.dropout}


def _one_line(results: Sequence[dict[str, Any]], axis: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (size, result) of the training results that differ from the first only in `axis`, sorted by size."""
    jobs = [(_coordinates(r["work"]), r) for r in results if r["suite"] == "train"]
    first = jobs[0][0]
    points = [(job[axis], r) for job, r in jobs if {**job, axis: first[axis]} == first]
    return sorted(points, key=lambda pair: pair[0])


def growth(results: Sequence[dict[str, Any]], axis: str, path: Path) -> None:
    """Plot the time of a character by `axis` on logarithmic axes, each peer with its slope and its share of the peak.

    If the results differ in other ways too (dropout, another axis), the plot shows those that agree with the first.
    """
    train = _one_line(results, axis)

    def paint(axes: "Axes", c: Colors) -> None:
        for peer, color in (("mlx", c.light), ("torch", c.ink)):
            points = [(size, r) for size, r in train if r.get(peer)]
            if not points:
                continue
            x = [size for size, _ in points]
            y = [1e6 / r[peer]["median"] for _, r in points]
            share = max(100 * r["gflop_s"][peer] / r["matmul_gflop_s"] for _, r in points)
            p = timing.slope(x, y) or 0.0
            label = f"{NAMES[peer]}: slope {p:+.2f}, up to {share:.0f}% of the peak"
            axes.plot(x, y, f"-{MARKS[peer]}", color=color, linewidth=1.6, markersize=5, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        sizes = sorted({size for size, _ in train})
        axes.set_xticks(sizes, [f"{s / 1e6:.1f} M" if axis == "size" else str(s) for s in sizes])
        axes.set_xticks([], minor=True)
        axes.set_ylim(axes.get_ylim()[0] / 1.1, axes.get_ylim()[1] * 1.3)  # room for the legend
        _ticks(axes, "y")
        style_axes(axes, c, "microseconds per character of training", AXES[axis])
        legend(axes, c, "best")

    plot("bench-growth", paint, f"Time of a training character by {axis}, MLX and PyTorch.", path)


def ratios(documents: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot each ratio with its interval, a line for each result and a mark for each machine.

    Raises UsageError if there is no ratio.
    """
    names = list(dict.fromkeys(r["name"] for d in documents for r in d["results"] if r.get("ratio")))
    if not names:
        raise UsageError("There is no ratio to plot: nothing was measured against PyTorch", "Leave --plot out")

    def paint(axes: "Axes", c: Colors) -> None:
        for k, document in enumerate(documents):
            points = [(names.index(r["name"]), r["ratio"]) for r in document["results"] if r.get("ratio")]
            y = [len(names) - 1 - i - 0.18 * k for i, _ in points]
            x = [ratio["median"] for _, ratio in points]
            errors = [[r["median"] - r["low"] for _, r in points], [r["high"] - r["median"] for _, r in points]]
            mark, color = MACHINE_MARKS[k % len(MACHINE_MARKS)], c.light if k == 0 else c.ink
            label = document["machine"]["chip"][:40]
            axes.errorbar(x, y, xerr=errors, fmt=mark, color=color, markersize=5, capsize=3, label=label)
        axes.axvline(1, color=c.soft, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), [_short(name) for name in reversed(names)], fontsize=6.5)
        axes.set_ylim(-0.6 - 0.18 * len(documents), len(names) - 0.4)
        _ticks(axes, "x")
        where = f" ({documents[0]['machine']['chip'][:40]})" if len(documents) == 1 else ""
        style_axes(axes, c, "MLX over PyTorch, with 95% intervals", f"ratio, above 1 is better for MLX{where}")
        axes.grid(axis="x", color=c.grid, linewidth=0.7)
        if len(documents) > 1:
            legend(axes, c, "best")

    plot("bench-ratios", paint, "The ratio of MLX to PyTorch for each result.", path)


def _ticks(axes: "Axes", which: str) -> None:
    """Label a logarithmic axis with round numbers, fewer per power of ten if it spans more of them."""
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = math.log10(high / low)
    digits = (1,) if decades > 4 else (1, 2, 5) if decades > 0.8 else (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [m * 10.0**e for e in powers for m in digits if low <= m * 10.0**e <= high]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_ticks([], minor=True)


def _short(name: str) -> str:
    name = name.replace(", float32", "").replace(", 480 characters", "")
    return name if len(name) <= 34 else f"{name[:33].rstrip()}…"
