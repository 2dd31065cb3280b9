"""`gatsby report`."""

import click

from gatsby_mlx.cli.console import PATH, load_model, long_command
from gatsby_mlx.cli.story_options import (
    corpus_of,
    corpus_option,
    reference_model,
    reference_model_option,
    story_options,
    story_set,
)

N_TOPICS = 120


@click.command()
@click.option("--out", type=PATH, metavar="DIR", show_default="MODEL/evaluation", help="Output folder.")
@reference_model_option
@corpus_option
@story_options(N_TOPICS, seeds=4)
@click.pass_context
@long_command
def command(ctx, out, judge, corpus, **options) -> None:
    """Tell stories and measure everything; write index.html, evaluation.json and README.md, the model's card.

    Each story is kept in stories.jsonl as it ends, and a report that was stopped resumes from there.

    \b
    Examples:
      gatsby report --model runs/story
      gatsby report --model runs/story --n-topics 12 --seeds 1 --out quick
    """
    from gatsby_mlx import api, files

    reader = reference_model(judge)
    model = load_model(options["model"])
    out = out or model.path / "evaluation"
    with files.output_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
    options["stories"] = options["stories"] or out / "stories.jsonl"
    stories = story_set(ctx, options, N_TOPICS, model=model)
    api.report(model, out, stories=stories, corpus=corpus_of(stories, corpus), reference_model=reader)
    n = len(stories.stories)
    click.echo(f"{n:,} stories measured; in {out}: index.html, evaluation.json, README.md", err=True)
