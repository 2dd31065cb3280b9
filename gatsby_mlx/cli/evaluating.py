"""What the commands of an evaluation share: their options, the stories they are about, and the corpus beside them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatsby_mlx.cli.console import (
    SEED,
    Status,
    clock,
    load_model,
    max_tokens_option,
    model_option,
    sampling_options,
)
from gatsby_mlx.errors import UsageError

if TYPE_CHECKING:
    from gatsby_mlx.corpus.load import Corpus
    from gatsby_mlx.evaluation.stories import Plan, Told
    from gatsby_mlx.model.checkpoint import Checkpoint

PLAN = {"topics", "n_topics", "seeds", "seed", "batch", "max_tokens", "temp", "top_k", "top_p"}


def story_options(n_topics: int, seeds: int) -> Callable:
    """Add the options that say which stories are told, or where they lie; the commands get them as one dictionary."""
    stories = "Keep the stories in FILE and go on from it; a whole FILE needs no model."
    add = (
        click.option("--stories", type=click.Path(path_type=Path), metavar="FILE", help=stories),
        click.option("--topics", type=click.Path(path_type=Path), metavar="FILE", help="Topics of yours, one a line."),
        click.option(
            "--n-topics",
            type=int,
            metavar="N",
            show_default=str(n_topics),
            help="How many of the evaluation topics, up to 120.",
        ),
        click.option(
            "--seeds",
            type=click.IntRange(1),
            metavar="N",
            default=seeds,
            show_default=True,
            help="Stories for each topic and level.",
        ),
        click.option(
            "--seed",
            type=SEED,
            metavar="N",
            default=1925,
            show_default=True,
            help="Where the stories' seeds come from.",
        ),
        click.option(
            "--batch",
            type=click.IntRange(1),
            metavar="N",
            default=64,
            show_default=True,
            help="Stories decoded at once.",
        ),
        max_tokens_option,
        sampling_options,
        model_option,
    )

    def decorate(function):
        for option in reversed(add):
            function = option(function)
        return function

    return decorate


def corpus_option(function):
    """Add --corpus, for `corpus_of`."""
    told = "The corpus the model learnt from: to sort the topics by, and to compare with."
    default = "the one that ships, where it is"
    return click.option("--corpus", type=click.Path(path_type=Path), show_default=default, help=told)(function)


def told_stories(
    ctx: click.Context,
    asked: dict[str, Any],
    n_topics: int,
    run_on: int | None = None,
    ready: "Checkpoint | None" = None,
) -> "Told":
    """Return the stories that the options mean: read from --stories if they are all there, else told now.

    `ready` is the model where the command has loaded it already; the file's stories must then be its own.
    Raises OutputError where --stories holds those of another plan or checkpoint.
    """
    from gatsby_mlx.evaluation import stories

    path = asked["stories"]
    if asked["topics"] and asked["n_topics"] is not None:
        raise click.UsageError("--topics and --n-topics exclude each other")
    if path and not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for stories", f"Make it with: mkdir -p {path.parent}")
    kept = stories.read(path) if path and path.exists() else None
    plan = _plan(ctx, asked, n_topics, kept.plan if kept else None, run_on)
    if kept and kept.whole and plan == kept.plan and asked["model"] is None and ready is None:
        return kept
    ready = ready or load_model(asked["model"])
    return stories.tell(ready.model, ready.tokenizer, plan, path, stories.source_of(ready), progress_line())


def _plan(ctx: click.Context, asked: dict[str, Any], n_topics: int, kept: "Plan | None", run_on: int | None) -> "Plan":
    """Return the plan that the options mean; those that were not given are the kept plan's, if there is one."""
    from dataclasses import replace

    from gatsby_mlx.evaluation.stories import RUN_ON_TOPICS, Plan
    from gatsby_mlx.evaluation.topics import default_topics, read_topics
    from gatsby_mlx.model.decode import Sampling

    given = {k for k in PLAN if ctx.get_parameter_source(k) is click.core.ParameterSource.COMMANDLINE}
    sampling = {k: asked[k] for k in ("temp", "top_k", "top_p")}
    if kept is None or given & {"topics", "n_topics"}:
        n = n_topics if asked["n_topics"] is None else asked["n_topics"]
        topics = read_topics(asked["topics"]) if asked["topics"] else default_topics(n)
    else:
        topics = kept.topics
    if kept is None:
        few = RUN_ON_TOPICS if run_on is None else run_on
        named = {k: asked[k] for k in ("seeds", "batch", "seed")}
        return Plan(topics, sampling=Sampling(**sampling), max_chars=asked["max_tokens"], run_on=few, **named)
    changed = {k: asked[k] for k in ("seeds", "batch", "seed") if k in given}
    changed |= {"max_chars": asked["max_tokens"]} if "max_tokens" in given else {}
    kept_sampling = replace(kept.sampling, **{k: v for k, v in sampling.items() if k in given})
    return replace(kept, topics=topics, sampling=kept_sampling, **changed)


def corpus_of(told: "Told", path: Path | None) -> "Corpus | None":
    """Return the corpus at `path`, else the one that ships if the stories' model learnt from it, else None.

    What is missing or does not belong together is said on stderr.
    """
    import hashlib

    from gatsby_mlx import shipped
    from gatsby_mlx.corpus import load

    learnt = told.source.get("corpus")
    if path is None:
        raw = load.locate(shipped.corpus())
        if not raw.is_file() or hashlib.sha256(raw.read_bytes()).hexdigest() != learnt:
            click.echo("the corpus that this model learnt from is not known; name it with --corpus", err=True)
            return None
        path = raw
    corpus = load.load(path)
    if corpus.sha256 != learnt:
        click.echo(f"note: this model did not learn from {path}, by its checksum", err=True)
    return corpus


def make_judge(folder: str | None):
    """Return the judge at `folder`, or None; before any work, since a folder may be none."""
    if folder is None:
        return None
    from gatsby_mlx.evaluation.judge import Judge

    return Judge(folder, progress_line("texts judged"))


def progress_line(what: str = "stories told"):
    """Return a callback that keeps the status line, and clears it at the end."""
    status, begun, first = Status(), time.monotonic(), []

    def progress(done: int, total: int) -> None:
        if done == total:
            status.clear()
            return
        first.append(done) if not first else None
        left = (time.monotonic() - begun) / (done - first[0] + 1) * (total - done)
        status(f"{done} of {total} {what}, {clock(left)} left")

    return progress


def interval(figure, percent: bool = False) -> str:
    """Return an interval's ends as a person reads them, or an empty string where one topic cannot tell."""
    if figure is None or figure.low != figure.low:
        return ""
    return (
        f"{100 * figure.low:.1f} to {100 * figure.high:.1f}%" if percent else f"{figure.low:.2f} to {figure.high:.2f}"
    )
