"""The dial of a corpus: what a model is taught, writer by writer, to set beside what it learnt."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from gatsby_mlx import prime, text
from gatsby_mlx.corpus.document import Document

ALL_WRITERS = "all writers"


@dataclass(frozen=True)
class CorpusDial:
    """The dial of a corpus, or of one writer's part of it: five means, with the fewest and the most mentions.

    A level without a document has n = 0 and NaN for a mean.
    """

    writer: str
    means: tuple[float, ...]
    fewest: tuple[int, ...]
    most: tuple[int, ...]
    n: tuple[int, ...]


def corpus_dials(documents: Iterable[Document]) -> tuple[CorpusDial, ...]:
    """Return the dial of a corpus as a whole, then each writer's by name if there are two or more.

    A corpus by one writer has that writer's name on its only entry; where no manifest tells, it is `all writers`.
    """
    by_writer: dict[str | None, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for d in documents:
        by_writer[d.writer][d.level].append(text.count_mentions(d.story))
    whole: dict[int, list[int]] = defaultdict(list)
    for own in by_writer.values():
        for level, mentions in own.items():
            whole[level] += mentions
    named = sorted((writer or "unknown", own) for writer, own in by_writer.items())
    if len(named) < 2:
        only = next((writer for writer in by_writer if writer), ALL_WRITERS)
        return (_corpus_dial(only, whole),) if whole else ()
    return (_corpus_dial(ALL_WRITERS, whole), *(_corpus_dial(writer, own) for writer, own in named))


def _corpus_dial(writer: str, by_level: dict[int, list[int]]) -> CorpusDial:
    own = [by_level.get(level, []) for level in prime.LEVELS]
    return CorpusDial(
        writer,
        tuple(sum(v) / len(v) if v else math.nan for v in own),
        tuple(min(v, default=0) for v in own),
        tuple(max(v, default=0) for v in own),
        tuple(len(v) for v in own),
    )
