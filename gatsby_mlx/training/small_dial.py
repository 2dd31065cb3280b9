"""A small dial that training reads of itself: a few stories at each evaluation, on topics that it does not learn from.

    dial = SmallDial(split.validation, tokenizer, n_topics=6, seed=1925)
    dial.read(model)          # Reading(means=(1.0, 3.2, 5.5, 8.3, 12.7), error=0.06)

Thirty stories are enough to see a dial come up, not to tell two good ones apart: `gatsby dial` does that.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from gatsby_mlx import prime, text
from gatsby_mlx.corpus.document import Document, topics_of
from gatsby_mlx.model.decode import Job, Sampling, decode
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.tokenizer import CharTokenizer


class Reading(NamedTuple):
    """Mean mentions of the light at the five levels, and by how much they are off: the mean over levels of the
    difference from the validation stories' own mean, as a share of that (NaN where they have no mention at all)."""

    means: tuple[float, ...]
    error: float


class SmallDial:
    """Reads the dial over `n_topics` topics of `documents`, the validation side, evenly spread; `taught` is its own.

    The stories have the same seeds at every reading, and draw from no generator that training uses.
    """

    def __init__(self, documents: Sequence[Document], tokenizer: CharTokenizer, n_topics: int, seed: int):
        own = defaultdict(list)
        for d in documents:
            own[d.level].append(text.count_mentions(d.story))
        self.taught = tuple(sum(own[k]) / len(own[k]) if own[k] else math.nan for k in prime.LEVELS)
        topics, voices = sorted(topics_of(documents)), {d.topic: d.prime.voice for d in documents}
        n = min(n_topics, len(topics))
        chosen = [topics[i * len(topics) // n] for i in range(n)]
        self.jobs = [
            Job(prime.render(prime.Prime(topic, k, voices[topic])), seed + i, k)
            for i, topic in enumerate(chosen)
            for k in prime.LEVELS
        ]
        self.tokenizer, self.max_chars = tokenizer, max(len(d.story) for d in documents) + len(text.STORY_END)

    def read(self, model: GPT) -> Reading:
        """Tell the stories and count. `model` is left as it was."""
        told, training = defaultdict(list), model.training
        for story in decode(model, self.tokenizer, self.jobs, Sampling(), self.max_chars, batch=len(self.jobs)):
            told[story.job.key].append(text.count_mentions(story.text))
        model.train(training)
        means = tuple(sum(told[k]) / len(told[k]) for k in prime.LEVELS)
        off = [abs(m - t) / t for m, t in zip(means, self.taught, strict=True) if t > 0]
        return Reading(means, sum(off) / len(off) if off else math.nan)
