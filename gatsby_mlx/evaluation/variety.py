"""Measure how much stories of one level say the same: shared sentences, the commonest run of words, common vocabulary.

>>> stories = ["A cat sat down. It was such fun.", "A dog ate it. It was such fun.", "It was such fun. A hen ran."]
>>> shared_sentences(stories), commonest_run(stories)
(0.5, Run(text='it was such fun', share=1.0))
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

import numpy as np

from gatsby_mlx.evaluation.stories import Piece
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.text import SENTENCE, WORD

N, DRAWS, RUN = 50, 4, 4  # stories in a draw, draws, words in a run


NAMES = {
    "shared": "sentences that two other stories have, too",
    "commonest": f"stories with the commonest run of {RUN} words",
    "jaccard": "words that two stories share, of all words in either",
}


class Run(NamedTuple):
    """A run of words, and the share of stories that have it, 0..1."""

    text: str
    share: float


class Variety(NamedTuple):
    """The three measures over stories of one level: means over draws of `n` stories. `run` is one example."""

    shared: float
    commonest: float
    jaccard: float
    run: str
    n: int


def measure(
    stories: Sequence[str],
    obsession: Obsession = GREEN_LIGHT,
    *,
    topics: Sequence[str] | None = None,
    n: int = N,
    seed: int = 1925,
) -> Variety:
    """Return the mean of each measure over four draws of `n` stories; where there are no more, of all at once.

    With `topics`, the one of each story, a draw has a topic at most once: two stories about one topic are alike for
    another reason. The measures depend on the number of stories; compare only figures of the same `n`. Raises
    ValueError for fewer than three stories or topics, of which no sentence can be in two others.
    """
    groups: dict[int | str, list[str]] = defaultdict(list)
    for topic, story in zip(range(len(stories)) if topics is None else topics, stories, strict=True):
        groups[topic].append(story)
    if len(groups) < 3:
        raise ValueError(f"variety needs 3 stories or more, got {len(groups)}")
    rng = np.random.default_rng(seed)
    about, n = list(groups.values()), min(n, len(groups))
    n_draws = 1 if n == len(stories) else DRAWS
    draws = [
        [about[int(i)][int(rng.integers(len(about[int(i)])))] for i in rng.choice(len(about), n, replace=False)]
        for _ in range(n_draws)
    ]
    runs = [commonest_run(draw, obsession) for draw in draws]
    return Variety(
        shared=fmean(map(shared_sentences, draws)),
        commonest=fmean(run.share for run in runs),
        jaccard=fmean(map(mean_jaccard, draws)),
        run=runs[0].text,
        n=n,
    )


def by_level(pieces: Iterable[Piece], obsession: Obsession = GREEN_LIGHT, n: int = N) -> dict[int, Variety]:
    """Return the variety of each level with stories on three topics or more, each topic once in a draw of `n`."""
    of_level: dict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        of_level[piece.level].append(piece)
    return {
        level: measure([p.text for p in found], obsession, topics=[p.topic for p in found], n=n)
        for level, found in sorted(of_level.items())
        if len({p.topic for p in found}) >= 3
    }


def _sentences(story: str) -> list[str]:
    """Return the sentences of a story without case and punctuation: ['a cat sat down', 'it was such fun']."""
    sentences = (" ".join(WORD.findall(sentence.lower())) for sentence in SENTENCE.findall(story))
    return [sentence for sentence in sentences if sentence]


def shared_sentences(stories: Sequence[str]) -> float:
    """Return the share of all sentences that two or more of the other stories have, too, 0..1."""
    per_story = [_sentences(story) for story in stories]
    in_stories = Counter(sentence for sentences in per_story for sentence in set(sentences))
    everything = [sentence for sentences in per_story for sentence in sentences]
    return sum(in_stories[sentence] >= 3 for sentence in everything) / max(1, len(everything))


def commonest_run(stories: Sequence[str], obsession: Obsession = GREEN_LIGHT) -> Run:
    """Return the run of four words in the most stories. Runs with the first word of the phrase do not count."""
    first = re.compile(rf"\b{re.escape(obsession.words[0])}\b")
    in_stories: Counter[str] = Counter()
    for story in stories:
        words = WORD.findall(story.lower())
        in_stories.update({" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)})
    candidates = ((run, n) for run, n in in_stories.items() if not first.search(run))
    run, n = max(candidates, key=lambda item: (item[1], item[0]), default=("", 0))
    return Run(run, n / max(1, len(stories)))


def mean_jaccard(stories: Sequence[str]) -> float:
    """Return the mean Jaccard index of the vocabularies of two stories, over all pairs, 0..1."""
    words = [set(WORD.findall(story.lower())) for story in stories]
    return fmean(len(a & b) / max(1, len(a | b)) for a, b in combinations(words, 2))
