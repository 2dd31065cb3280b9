"""What the evaluation commands share: their options, the stories that they measure, and the corpus to compare with."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatsby_mlx.cli.console import (
    PATH,
    SEED,
    F,
    Status,
    clock,
    going_on,
    load_model,
    max_tokens_option,
    model_option,
    names_a_model,
    same_command,
    sampling_options,
)
from gatsby_mlx.errors import GatsbyError, UsageError
from gatsby_mlx.story.english import counted
from gatsby_mlx.story.prime import ALPHABET

if TYPE_CHECKING:
    from gatsby_mlx.api import Model
    from gatsby_mlx.corpus.load import Corpus
    from gatsby_mlx.evaluation.reference_model import ReferenceModel
    from gatsby_mlx.evaluation.stories import StoryPlan, StorySet

SETTLED = 0.2  # share of the stories after which their mean time says something
MANY = 200  # stories: fewer take a minute or two, and are not worth measuring
PLAN = {"topics", "n_topics", "seeds", "seed", "batch", "max_tokens", "temp", "top_k", "top_p"}


def story_options(n_topics: int, seeds: int) -> Callable:
    """Add the options that say which stories to tell or read. The command gets them as keyword arguments."""
    stories = "Keep the stories in FILE and resume from it; a complete FILE needs no model."
    add = (
        click.option("--stories", type=PATH, metavar="FILE", help=stories),
        click.option("--topics", type=PATH, metavar="FILE", help="Your topics, one a line."),
        click.option(
            "--n-topics",
            type=int,
            metavar="N",
            show_default=str(n_topics),
            help="How many of the evaluation topics to use, up to 120.",
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
            help="Random seed, from which each story takes its seed.",
        ),
        click.option(
            "--batch",
            type=click.IntRange(1),
            metavar="N",
            default=64,
            show_default=True,
            help="Stories that are told at the same time.",
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


def corpus_option(function: F) -> F:
    """Add --corpus, for `corpus_of`."""
    text = "The corpus that the model learned from, to compare with and to tell seen topics from unseen ones."
    default = "what the model learned from, where it is found"
    return click.option("--corpus", type=PATH, metavar="DIR", show_default=default, help=text)(function)


def story_set(
    ctx: click.Context,
    options: dict[str, Any],
    n_topics: int,
    run_on: int | None = None,
    model: "Model | None" = None,
) -> "StorySet":
    """Return the stories that the options ask for: from the file --stories if it has all of them, else told now.

    `model` is given where the command has loaded it already. Raises OutputError if --stories holds the stories of
    another plan or checkpoint.
    """
    from gatsby_mlx import api
    from gatsby_mlx.evaluation import stories
    from gatsby_mlx.evaluation.topics import read_topics

    path = options["stories"]
    if options["topics"] and options["n_topics"] is not None:
        raise click.UsageError("--topics and --n-topics exclude each other")
    if path and not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for the stories", f"Make it with: mkdir -p {path.parent}")
    kept = stories.read(path) if path and path.exists() else None
    # Made before the model is loaded, so that bad options are refused at once.
    plan = _plan(ctx, options, n_topics, kept.plan if kept else None, run_on)
    if kept and kept.complete and options["model"] is None and model is None and plan == kept.plan:
        return kept
    model = model or load_model(options["model"])
    plan = replace(plan, obsession=model.obsession)
    if not options["topics"] and not kept:  # a model of a person's stories knows topics of their own
        n = n_topics if options["n_topics"] is None else options["n_topics"]
        plan = replace(plan, topics=api.evaluation_topics(model, n))
    elif options["topics"]:
        topics = read_topics(options["topics"], model.checkpoint.tokenizer.alphabet, model.obsession)
        plan = replace(plan, topics=topics)
    if kept is None and plan.n_stories >= MANY:
        seconds = api.seconds_to_tell(model, plan)
        click.echo(f"{counted(plan.n_stories, 'story')}: about {clock(seconds)} here, as measured now", err=True)
    with going_on(same_command(ctx)) if path else contextlib.nullcontext():  # without a file no story is kept
        return api.tell_stories(model, plan, path, ProgressLine())


def _plan(
    ctx: click.Context,
    options: dict[str, Any],
    n_topics: int,
    kept: "StoryPlan | None",
    run_on: int | None,
) -> "StoryPlan":
    """Return the plan that the options ask for; options that were not given are those of the kept plan, if any."""
    from gatsby_mlx.evaluation.stories import RUN_ON_TOPICS, StoryPlan
    from gatsby_mlx.evaluation.topics import default_topics, read_topics
    from gatsby_mlx.story.sampling import Sampling

    given = {k for k in PLAN if ctx.get_parameter_source(k) is click.core.ParameterSource.COMMANDLINE}
    sampling = {k: options[k] for k in ("temp", "top_k", "top_p")}
    if kept is None or given & {"topics", "n_topics"}:
        n = n_topics if options["n_topics"] is None else options["n_topics"]
        alphabet = None if names_a_model(options["model"]) else ALPHABET  # of the model, which is not loaded yet
        topics = read_topics(options["topics"], alphabet) if options["topics"] else default_topics(n)
    else:
        topics = kept.topics
    if kept is None:
        return StoryPlan(
            topics,
            options["seeds"],
            Sampling(**sampling),
            options["max_tokens"],
            options["batch"],
            options["seed"],
            RUN_ON_TOPICS if run_on is None else run_on,
        )
    changed = {k: options[k] for k in ("seeds", "batch", "seed") if k in given}
    changed |= {"max_chars": options["max_tokens"]} if "max_tokens" in given else {}
    kept_sampling = replace(kept.sampling, **{k: v for k, v in sampling.items() if k in given})
    return replace(kept, topics=topics, sampling=kept_sampling, **changed)


def corpus_of(stories: "StorySet", path: Path | None, model: Path | str | None) -> "Corpus | None":
    """Return the corpus at `path`, else what the stories' model learned from where it is found, else None.

    If it is the house writer's and is nowhere, it is written again, once. Say on stderr if the corpus is unknown or not
    the one that the model learned from. Raises CorpusError for a corpus of another obsession.
    """
    from gatsby_mlx import api
    from gatsby_mlx.corpus.load import load

    learned_from = stories.source.get("corpus")
    if path is None:
        return _found_corpus(learned_from, stories.source.get("corpus_written"), model)
    corpus = load(path)
    api.check_obsession(stories.plan.obsession, corpus)
    if corpus.sha256 != learned_from:
        click.echo(f"note: this model did not learn from {path}, by its checksum", err=True)
    return corpus


def _found_corpus(sha256: str | None, written: Any, model: Path | str | None) -> "Corpus | None":
    from gatsby_mlx import api
    from gatsby_mlx.cli.write import announce_time, write_with_status

    folder = None
    with contextlib.suppress(GatsbyError):
        folder = api.find_model(model)
    if corpus := api.find_corpus(sha256, folder):
        return corpus
    if sha256 is None:
        click.echo("the corpus that this model learned from is not known; name it with --corpus", err=True)
        return None
    if again := api.plan_corpus_again({"sha256": sha256, "written": written}):
        stories = counted(again.config.n, "story")
        click.echo(f"writing again what this model learned from: {stories}, seed {again.config.seed}", err=True)
        try:
            announce_time(again)
            write_with_status(again)
        except (KeyboardInterrupt, OSError, GatsbyError) as error:  # the stories that were told are not lost for it
            click.echo(f"\nnot written: {api.reason(error) if isinstance(error, Exception) else 'stopped'}", err=True)
        if corpus := api.find_corpus(sha256):
            return corpus
    why = "is another text by now" if again and again.is_finished() else "is not here"
    click.echo(f"what this model learned from {why} (sha256 {sha256[:12]}...); name it with --corpus", err=True)
    return None


def reference_model_option(function: F) -> F:
    """Add --judge, for `reference_model`."""
    text = "A model in mlx-lm's form that reads 200 stories, and 200 of the corpus."
    return click.option("--judge", metavar="DIR", help=text)(function)


def reference_model(folder: str | None) -> "ReferenceModel | None":
    """Return the reference model in `folder`, or None. Called before any other work: the folder may hold none."""
    if folder is None:
        return None
    from gatsby_mlx.evaluation.reference_model import ReferenceModel

    return ReferenceModel(folder, ProgressLine("texts read"))


class ProgressLine:
    """A callback that shows how many of all items are done, and clears the line at the end."""

    def __init__(self, what: str = "stories told"):
        self.what, self.status, self.started = what, Status(), time.monotonic()
        self.n_before: int | None = None  # items that were done before, in a run that was resumed

    def __call__(self, done: int, total: int) -> None:
        if done == total:
            self.status.clear()
            return
        if self.n_before is None:
            self.n_before = done - 1
        line, n = f"{done} of {total} {self.what}", done - self.n_before
        if n > SETTLED * total:  # before that only the shortest stories of the first batch have ended
            line += f", {clock((time.monotonic() - self.started) / n * (total - done))} left"
        self.status(line)
