"""All that is measured of a model, in one value: what `evaluation.json` holds, and the page that shows it.

evaluation = evaluate(told, checkpoint.info, reference(corpus))
files.write_atomic("evaluation.json", json.dumps(evaluation.to_json(), indent=1))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatsby_mlx import prime
from gatsby_mlx.evaluation import dial as dials
from gatsby_mlx.evaluation import honour, page, prose, stats
from gatsby_mlx.evaluation.reference import Reference
from gatsby_mlx.evaluation.stories import Told, piece
from gatsby_mlx.evaluation.topics import unseen_words

FORMAT = "gatsby-mlx/evaluation/1"
LEDE = "What {name} does with its dial, whether its stories are about their topics, and how they read."


@dataclass(frozen=True)
class Evaluation:
    """Every figure of one checkpoint. `model` is what its config.json tells; `judge` the name of the model that read
    the stories, or None."""

    told: Told
    model: Mapping[str, Any]
    dial: dials.Dial
    honour: honour.Honour
    prose: prose.Prose
    corpus: Reference | None = None
    judge: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all figures, each share or mean with the ends of its 95% interval, as a value that `json` writes."""
        plan = self.told.plan
        told = {"stories": len(self.told.stories), "n_topics": len(plan.topics), **plan.to_json()}
        return stats.plain(
            {
                "format": FORMAT,
                "model": {**self.told.source, **self.model},
                "plan": told,
                "corpus": self.corpus.to_json() if self.corpus else None,
                "dial": self.dial.to_json(),
                "honour": self.honour.to_json(),
                "prose": self.prose.to_json() | {"judge": self.judge},
            }
        )


def evaluate(
    told: Told, model: Mapping[str, Any], corpus: Reference | None = None, judge: prose.Judge | None = None
) -> Evaluation:
    """Measure the stories. `model` holds what is to be said of the checkpoint besides its source."""
    pieces = [piece(s) for s in told.stories]
    return Evaluation(
        told,
        model,
        dials.measure(told.stories, told.run_on, told.plan, corpus.means if corpus else None),
        honour.measure(pieces, corpus),
        prose.measure(pieces, corpus, judge),
        corpus,
        getattr(judge, "name", None),
    )


def render(
    evaluation: Evaluation, facts: Sequence[tuple[str, str]] = (), metrics: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the evaluation as one HTML page (see `page`). `facts` and `metrics` as `page.Report` takes them."""
    name = str(evaluation.told.source.get("checkpoint") or "a checkpoint")
    return page.render(
        page.Report(
            title=f"An evaluation of {name}",
            lede=LEDE.format(name=name),
            facts=facts,
            metrics=metrics,
            corpus=evaluation.corpus.dials if evaluation.corpus else (),
            dial=evaluation.dial,
            honour=evaluation.honour,
            prose=evaluation.prose,
            stories=[page.told(s) for s in five(evaluation)],
        )
    )


def five(evaluation: Evaluation) -> list:
    """Return the five stories of one topic and one seed: the first topic with a noun never seen, else the first."""
    stems = evaluation.corpus.stems if evaluation.corpus else None
    topics = [prime.fold_topic(t) for t in evaluation.told.plan.topics]
    new = [t for t in topics if stems is not None and unseen_words(t, stems)]
    first = [s for s in evaluation.told.stories if piece(s).topic == (new or topics)[0]]
    return [s for s in first if s.job.seed == first[0].job.seed]
