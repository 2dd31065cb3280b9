"""Measure how much stories of one level say the same: shared sentences, the commonest run of words, common vocabulary.

>>> stories = ["A cat sat down. It was such fun.", "A dog ate it. It was such fun.", "It was such fun. A hen ran."]
>>> shared_sentences(stories), commonest_run(stories)
(0.5, Run(text='it was such fun', share=1.0))
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

import numpy as np

from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.text import SENTENCE, WORD

N, DRAWS, RUN = 50, 4, 4  # stories in a draw, draws, words in a run


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


def measure(stories: Sequence[str], obsession: Obsession = GREEN_LIGHT, seed: int = 1925) -> Variety:
    """Return the mean of each measure over four draws of 50 stories. With 50 or fewer there is one draw, of all.

    The measures depend on the number of stories; compare only figures of the same `n`. Raises ValueError for fewer than
    three stories, of which no sentence can be in two others.
    """
    if len(stories) < 3:
        raise ValueError(f"variety needs 3 stories or more, got {len(stories)}")
    rng = np.random.default_rng(seed)
    draws: list[list[str]] = [list(stories)]
    if len(stories) > N:
        draws = [[stories[int(i)] for i in rng.choice(len(stories), N, replace=False)] for _ in range(DRAWS)]
    runs = [commonest_run(draw, obsession) for draw in draws]
    return Variety(
        shared=fmean(map(shared_sentences, draws)),
        commonest=fmean(run.share for run in runs),
        jaccard=fmean(map(mean_jaccard, draws)),
        run=runs[0].text,
        n=len(draws[0]),
    )


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
