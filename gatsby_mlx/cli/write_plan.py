"""What `gatsby write --dry-run` prints: who writes what, what it needs, and how long it takes, if that is known."""

import shlex

from gatsby_mlx.cli.console import clock, printable, table
from gatsby_mlx.corpus.plan import largest_remainder
from gatsby_mlx.prime import LEVELS
from gatsby_mlx.writers.estimate import estimates
from gatsby_mlx.writers.machine import usable_bytes


def hours(seconds: tuple[float, float]) -> str:
    """Return a range of seconds as 0:12, 8:00 to 1.5 h, or 2.4 h."""
    low, high = (f"{s / 3600:.1f} h" if s >= 3600 else clock(s) for s in seconds)
    return low if low == high else f"{low} to {high}"


def plan_table(chosen, config, command: str) -> str:
    """Return the plan as text: topics, stories, downloads, memory and an estimate of time for each writer."""
    dealt = largest_remainder(chosen.shares, config.n_topics)
    found = list(estimates(chosen.specs, {name: n * len(LEVELS) for name, n in dealt.items()}))
    rows = []
    for told in found:
        n = dealt[told.writer]
        down = f"{told.download_bytes / 1e9:.1f} GB" if told.download_bytes else told.found or "-"
        memory = f"{told.memory_bytes / 1e9:.1f} GB" if told.memory_bytes else "-"
        when = f"{hours(told.seconds)} ({told.how})" if told.seconds else "not estimated"
        rows.append([told.writer, str(n), str(n * len(LEVELS)), down, memory, when])
    lines = [table(["writer", "topics", "stories", "download", "memory", "time, first attempts"], rows), ""]
    if any(told.memory_bytes for told in found):
        lines.append(f"memory that a model may use here: {usable_bytes()[0] / 1e9:.1f} GB")
    return "\n".join([*lines, *times(found, command)])


def times(found, command: str) -> list[str]:
    """Return what to say below a plan of the time of all writers, and how to measure what is not known."""
    known = [told.seconds for told in found if told.seconds]
    unknown = [told.writer for told in found if not told.seconds]
    lines = []
    if known:
        total = sum(low for low, _ in known), sum(high for _, high in known)
        which = f" without {', '.join(unknown)}" if unknown else " in all"
        lines.append(f"about {hours(total)}{which}; topics, and stories that are refused, come on top")
    lines += [f"{told.writer}: {printable(told.how)}" for told in found if not told.seconds and not told.memory_bytes]
    models = [told for told in found if told.memory_bytes and not told.seconds]
    if models:
        down = " (this downloads them)" if any(told.download_bytes for told in models) else ""
        why = models[0].how[0].upper() + models[0].how[1:]
        lines.append(f"{why}. To measure: one topic with each writer{down}, then see tokens/s")
        lines += [f"  {smoke(command)}", "  gatsby corpus show smoke"]
    return lines


def smoke(command: str) -> str:
    """Return the command that writes one topic for each writer of the blend of `command`."""
    words = shlex.split(command)
    return shlex.join([*words[: words.index("--n")], "--smoke", "--out", "smoke"])
