"""`gatsby report`."""

import json

import click

from gatsby_mlx.cli.console import (
    PATH,
    json_option,
    load_model,
    long_command,
)
from gatsby_mlx.cli.story_options import (
    corpus_of,
    corpus_option,
    reference_model,
    reference_model_option,
    story_options,
    story_set,
)
from gatsby_mlx.story.english import counted

N_TOPICS = 120


@click.command()
@click.option("--out", "-o", type=PATH, metavar="DIR", show_default="MODEL/evaluation", help="Output folder.")
@reference_model_option
@json_option
@corpus_option
@story_options(N_TOPICS, seeds=4)
@click.pass_context
@long_command
def command(ctx, out, judge, as_json, corpus, **options) -> None:
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
    learned_from = corpus_of(stories, corpus, model.path)
    evaluation = api.report(model, out, stories=stories, corpus=learned_from, reference_model=reader)
    if as_json:
        click.echo(json.dumps(evaluation.to_json(), indent=1))
    n = counted(len(stories.stories), "story")
    click.echo(f"{n} measured; in {out}: index.html, evaluation.json, README.md", err=True)
