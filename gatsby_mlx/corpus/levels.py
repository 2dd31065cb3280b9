"""The dial of a corpus: mentions by level, overall and by writer. A trained model's dial is compared with it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import LEVELS

FEW = 50  # stories: a model learns fewer by heart
ALL_WRITERS = "all writers"
T = TypeVar("T")


@dataclass(frozen=True)
class CorpusDial:
    """Mentions in the stories of a corpus, or of one writer in it, at each of the five levels.

    `means` has their means, `fewest` and `most` their extremes, `n` the number of stories. A level without a story has
    n = 0 and NaN for a mean.
    """

    writer: str
    means: tuple[float, ...]
    fewest: tuple[int, ...]
    most: tuple[int, ...]
    n: tuple[int, ...]


def values_by_level(pairs: Iterable[tuple[int, T]]) -> dict[int, list[T]]:
    """Return the values of (level, value) pairs for each of the five levels, an empty list for a level without one."""
    by_level: dict[int, list[T]] = {level: [] for level in LEVELS}
    for level, value in pairs:
        by_level[level].append(value)
    return by_level


def means_by_level(pairs: Iterable[tuple[int, float]]) -> tuple[float, ...]:
    """Return the mean of (level, value) pairs at each of the five levels, NaN for a level without one.

    >>> means_by_level([(1, 1), (1, 2), (5, 11)])
    (1.5, nan, nan, nan, 11.0)
    """
    return tuple(sum(values) / len(values) if values else math.nan for values in values_by_level(pairs).values())


def corpus_dials(documents: Iterable[Document]) -> tuple[CorpusDial, ...]:
    """Return the dial of a corpus, then each writer's, sorted by name, if there are two writers or more.

    A corpus by one writer has only one entry, under that writer's name, or `all writers` if the manifest names none.
    """
    by_writer: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
    for d in documents:
        by_writer[d.writer].append((d.level, d.mentions))
    everything = [pair for pairs in by_writer.values() for pair in pairs]
    if not everything:
        return ()
    if len(by_writer) == 1:
        return (_dial(next(iter(by_writer)) or ALL_WRITERS, everything),)
    named = sorted((writer or "unknown", pairs) for writer, pairs in by_writer.items())
    return (_dial(ALL_WRITERS, everything), *(_dial(writer, pairs) for writer, pairs in named))


def problems(documents: Sequence[Document]) -> list[str]:
    """Return what will keep a model from learning a dial from these stories, a sentence each with what to do.

    >>> problems([])
    []
    """
    if not documents:
        return []
    phrase = documents[0].prime.obsession.phrase
    means = means_by_level((d.level, d.mentions) for d in documents)
    present = [mean for mean in means if not math.isnan(mean)]
    found = []
    if not any(present):
        found.append(
            f'no story mentions "{phrase}", so the dial will read 0 at every level: import the stories with a phrase '
            'that they repeat (gatsby obsession new "white whale", then gatsby corpus import SOURCE --obsession FILE), '
            "or train without a dial (--sequences windows)"
        )
    elif any(a >= b for a, b in pairwise(present)):
        shown = " ".join("-" if math.isnan(mean) else f"{mean:.2f}" for mean in means)
        found.append(
            f"mentions do not rise with the levels ({shown} at 1 to 5), so the dial will not either: let mentions "
            "decide the levels (gatsby corpus import SOURCE --fields level= --levels even)"
        )
    if empty := [str(level) for level, mean in zip(LEVELS, means, strict=True) if math.isnan(mean)]:
        found.append(
            f"no story at level {', '.join(empty)}: the dial will not reach it; add stories, or import them with "
            "--levels even"
        )
    if len(documents) < FEW:
        found.append(
            f"{len(documents)} stories are few: a model learns them by heart and little else; a few hundred are a start"
        )
    return found


def _dial(writer: str, pairs: Sequence[tuple[int, int]]) -> CorpusDial:
    levels = values_by_level(pairs).values()
    return CorpusDial(
        writer,
        means_by_level(pairs),
        tuple(min(v, default=0) for v in levels),
        tuple(max(v, default=0) for v in levels),
        tuple(len(v) for v in levels),
    )
