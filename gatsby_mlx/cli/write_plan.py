"""What `gatsby write --dry-run` prints: who writes what, what it needs, and how long it takes if that is known."""

import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from gatsby_mlx import api
from gatsby_mlx.cli.console import clock, printable, table
from gatsby_mlx.corpus.plan import largest_remainder
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.writers.estimate import estimates
from gatsby_mlx.writers.requirements import usable_bytes

if TYPE_CHECKING:
    from gatsby_mlx.corpus.blend import Blend
    from gatsby_mlx.corpus.plan import WriteConfig
    from gatsby_mlx.writers.estimate import Estimate


def hours(seconds: tuple[float, float]) -> str:
    """Return a range of seconds as text.

    >>> hours((480, 5400))
    '8 min to 1 h 30 min'
    """
    low, high = map(clock, seconds)
    return low if low == high else f"{low} to {high}"


def plan_table(blend: "Blend", config: "WriteConfig", command: str) -> str:
    """Return the plan as text: topics, stories, downloads, memory and an estimate of the time by writer."""
    topics = largest_remainder(blend.shares, config.n_topics)
    stories = {name: n * len(LEVELS) for name, n in topics.items()}
    needs = list(estimates(blend.specs, stories, partial(api.make_writer, obsession=blend.obsession)))
    rows = []
    for need in needs:
        n = topics[need.writer]
        download = f"{need.download_bytes / 1e9:.1f} GB" if need.download_bytes else need.origin or "-"
        memory = f"{need.memory_bytes / 1e9:.1f} GB" if need.memory_bytes else "-"
        seconds = f"{hours(need.seconds)} ({need.basis})" if need.seconds else "not estimated"
        rows.append([need.writer, str(n), str(n * len(LEVELS)), str(need.drafts), download, memory, seconds])
    lines = [table(["writer", "topics", "stories", "drafts", "download", "memory", "time"], rows), ""]
    if any(need.memory_bytes for need in needs):
        lines.append(f"memory that a model may use here: {usable_bytes()[0] / 1e9:.1f} GB")
    return "\n".join([*lines, *times(needs, command)])


def times(needs: "Sequence[Estimate]", command: str) -> list[str]:
    """Return the lines below the plan: the time of all writers, and how to measure what is not known."""
    known = [need.seconds for need in needs if need.seconds]
    unknown = [need.writer for need in needs if not need.seconds]
    lines = []
    if known:
        total = sum(low for low, _ in known), sum(high for _, high in known)
        which = f" without {', '.join(unknown)}" if unknown else " in all"
        lines.append(f"about {hours(total)}{which}; retries of rejected stories are in it, topics are not")
    lines += [f"{need.writer}: {printable(need.basis)}" for need in needs if not (need.seconds or need.memory_bytes)]
    models = [need for need in needs if need.memory_bytes and not need.seconds]
    if models:
        download = " (this downloads them)" if any(need.download_bytes for need in models) else ""
        why = models[0].basis[0].upper() + models[0].basis[1:]
        lines.append(f"{why}. To measure: write one topic with each writer{download}, then see tokens/s")
        lines += [f"  {smoke(command)}", "  gatsby corpus show smoke"]
    return lines


def smoke(command: str) -> str:
    """Return the command that writes one topic with each writer of the blend of `command`."""
    words = shlex.split(command)
    return shlex.join([*words[: words.index("--n")], "--smoke", "--out", "smoke"])
