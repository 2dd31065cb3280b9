"""A small dial that training reads at each evaluation: a few stories, on validation topics.

>>> from gatsby_mlx import shipped
>>> from gatsby_mlx.config import GPTConfig
>>> from gatsby_mlx.corpus.load import load
>>> from gatsby_mlx.story.prime import ALPHABET
>>> model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=256))
>>> dial = SmallDial(load(shipped.corpus()).documents[:50], CharTokenizer(ALPHABET), n_topics=1, seed=1925)
>>> dial.read(model)  # of an untrained model, whose stories mention nothing
Reading(means=(0.0, 0.0, 0.0, 0.0, 0.0), error=1.0)

Thirty stories are enough to see a dial emerge. To compare two good ones, use `gatsby dial`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gatsby_mlx.corpus.levels import means_by_level
from gatsby_mlx.model.decode import decode
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story import text
from gatsby_mlx.story.document import Document, topics_of
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import Prime, render
from gatsby_mlx.story.sampling import Job, Sampling
from gatsby_mlx.tokenizer import CharTokenizer


class Reading(NamedTuple):
    """Mean mentions at the five levels, and their error.

    The error is the mean, over levels, of the relative difference from the validation stories' mean. It is NaN when
    those have no mention at all.
    """

    means: tuple[float, ...]
    error: float


class SmallDial:
    """Reads the dial on `n_topics` topics, evenly spread over those of `documents`, the validation side.

    `target` is the mean mentions of the documents at each level. Each reading uses the same seeds, and none draws from
    a random generator of training.
    """

    def __init__(self, documents: Sequence[Document], tokenizer: CharTokenizer, n_topics: int, seed: int):
        self.target = means_by_level((d.level, d.mentions) for d in documents)
        self.obsession = documents[0].prime.obsession
        topics, voices = sorted(topics_of(documents)), {d.topic: d.prime.voice for d in documents}
        n = min(n_topics, len(topics))
        chosen = [topics[i * len(topics) // n] for i in range(n)]
        self.jobs = [
            Job(render(Prime(topic, level, voices[topic], self.obsession)), seed + i, level)
            for i, topic in enumerate(chosen)
            for level in LEVELS
        ]
        self.tokenizer, self.max_chars = tokenizer, max(len(d.story) for d in documents) + len(text.STORY_END)

    def read(self, model: GPT) -> Reading:
        """Tell the stories and count their mentions. `model` keeps its mode (training or evaluation)."""
        training = model.training
        stories = decode(model, self.tokenizer, self.jobs, Sampling(), self.max_chars, batch=len(self.jobs))
        means = means_by_level((story.job.key, self.obsession.count(story.text)) for story in stories)
        model.train(training)
        errors = [abs(m - t) / t for m, t in zip(means, self.target, strict=True) if t > 0]
        return Reading(means, sum(errors) / len(errors) if errors else math.nan)
