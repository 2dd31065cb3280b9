"""All measurements of a model in one value: the content of `evaluation.json`, and of the page that shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatsby_mlx.evaluation import adherence, dial, page, quality
from gatsby_mlx.evaluation.reference import Reference
from gatsby_mlx.evaluation.sections import page_story
from gatsby_mlx.evaluation.stories import StorySet, header_of
from gatsby_mlx.evaluation.topics import unseen_words
from gatsby_mlx.story.sampling import Story
from gatsby_mlx.story.text import is_english
from gatsby_mlx.strict_json import plain

if TYPE_CHECKING:
    from gatsby_mlx.model.checkpoint import Checkpoint

FORMAT = "gatsby-mlx/evaluation/1"
LEDE = "What the dial of {name} does, whether its stories are about their topics, and how well they are written."


@dataclass(frozen=True)
class Evaluation:
    """Every measurement of one checkpoint.

    `model` describes the checkpoint; `reference_model` is the name of the model that read the stories, or None.
    """

    story_set: StorySet
    model: Mapping[str, Any]
    dial: dial.Dial
    adherence: adherence.Adherence | None  # None for stories that are not in English
    quality: quality.TextQuality
    corpus: Reference | None = None
    reference_model: str | None = None

    def __repr__(self) -> str:
        means = " ".join(f"{mean:.2f}" for mean in self.dial.means)
        return f"<evaluation: dial {means}, {self.dial.topics} topics, {self.dial.seeds} seeds>"

    def to_json(self) -> dict[str, Any]:
        """Return all figures, shares and means with the ends of their 95% intervals, as a value for strict JSON."""
        plan = self.story_set.plan
        counts = {"stories": len(self.story_set.stories), "n_topics": len(plan.topics)}
        return plain(
            {
                "format": FORMAT,
                "obsession": plan.obsession.to_json(),
                "model": {**self.story_set.source, **self.model},
                "plan": {**counts, **plan.to_json()},
                "corpus": self.corpus.to_json() if self.corpus else None,
                "dial": self.dial.to_json(),
                "honour": self.adherence.to_json() if self.adherence else None,
                "prose": self.quality.to_json() | {"judge": self.reference_model},
            }
        )


def evaluate(
    story_set: StorySet,
    model: Mapping[str, Any],
    corpus: Reference | None = None,
    reader: quality.Reader | None = None,
) -> Evaluation:
    """Measure a set of stories.

    `model` is recorded with the story set's source; `reader` is a reference model (see `reference_model`). Raises
    UsageError if a level has no story.
    """
    plan, pieces = story_set.plan, story_set.pieces
    means = corpus.means if corpus else None
    return Evaluation(
        story_set,
        model,
        dial.measure(story_set.stories, story_set.run_on, plan, means, plan.obsession),
        adherence.measure(pieces, corpus) if is_english(p.text for p in pieces) else None,
        quality.measure(pieces, corpus, reader, plan.obsession),
        corpus,
        getattr(reader, "name", None),
    )


def render(
    evaluation: Evaluation, facts: Sequence[tuple[str, str]] = (), metrics: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the evaluation as one HTML page. `facts` and `metrics` are those of `page.Report`."""
    name = str(evaluation.story_set.source.get("checkpoint") or "a checkpoint")
    obsession = evaluation.story_set.plan.obsession
    return page.render(
        page.Report(
            title=f"Evaluation of {name}",
            lede=LEDE.format(name=name),
            facts=facts,
            metrics=metrics,
            corpus=evaluation.corpus.dials if evaluation.corpus else (),
            dial=evaluation.dial,
            adherence=evaluation.adherence,
            quality=evaluation.quality,
            stories=[page_story(s, obsession) for s in example_stories(evaluation)],
            obsession=obsession,
        )
    )


def example_stories(evaluation: Evaluation) -> list[Story]:
    """Return the five stories of one topic and seed: of the first topic with an unseen noun, or else of the first."""
    stems = evaluation.corpus.stems if evaluation.corpus else None
    obsession = evaluation.story_set.plan.obsession
    by_topic: dict[str, list[Story]] = {}
    for story in evaluation.story_set.stories:
        by_topic.setdefault(header_of(story, obsession).topic, []).append(story)
    unseen = [topic for topic in by_topic if stems is not None and unseen_words(topic, stems)]
    of_topic = by_topic[(unseen or list(by_topic))[0]]
    return [s for s in of_topic if s.job.seed == of_topic[0].job.seed]


def facts(ready: "Checkpoint", story_set: StorySet) -> list[tuple[str, str]]:
    """Return the (label, value) pairs of a page about how the model and its stories were made."""
    c, info, plan = ready.model.config, ready.info, story_set.plan
    sampling = plan.sampling
    settings = f"temperature {sampling.temp:g}"
    settings += f", top-k {sampling.top_k}" if sampling.top_k else ""
    settings += f", top-p {sampling.top_p:g}" if sampling.top_p < 1 else ""
    shape = f"{c.n_layer} layers, {c.n_head} heads, embedding size {c.n_embd}, context {c.block_size}"
    n_params, n_all = ready.model.n_params(positions=False), ready.model.n_params()
    pairs = [
        ("Model", f"{info['preset']}: {shape}" if info.get("preset") else shape),
        ("Parameters", f"{n_params:,} without the position table, {n_all:,} with it"),
    ]
    if info.get("chars_seen"):
        pairs.append(("Trained on", f"{info['chars_seen']:,} characters in {info.get('step') or 0:,} steps"))
    told = f"{len(plan.topics)} topics, 5 levels, {plan.seeds} seeds, {settings}"
    pairs.append(("Stories", f"{len(story_set.stories):,}: {told}"))
    return [*pairs, ("Weights", f"sha256 {story_set.source['weights']}")]
