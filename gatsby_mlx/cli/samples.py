"""`gatsby samples`."""

import json

import click

from gatsby_mlx.cli.console import (
    PATH,
    json_option,
    long_command,
)
from gatsby_mlx.cli.story_options import story_options, story_set

N_TOPICS = 6


@click.command()
@click.option("--out", "-o", type=PATH, metavar="FILE", show_default="stdout", help="Output file.")
@story_options(N_TOPICS, seeds=1)
@json_option
@click.pass_context
@long_command
def command(ctx, out, as_json, **options) -> None:
    """Tell stories to read, topics x levels, as Markdown.

    \b
    Examples:
      gatsby samples --model runs/story --out samples.md
      gatsby samples --stories stories.jsonl > samples.md
    """
    from gatsby_mlx import files
    from gatsby_mlx.evaluation.samples import grid

    stories = story_set(ctx, options, N_TOPICS, run_on=0)
    if as_json:
        obsession = stories.plan.obsession
        rows = [{**piece._asdict(), "mentions": obsession.count(piece.text)} for piece in stories.pieces]
        content = json.dumps({"model": stories.source, "stories": rows}, indent=1) + "\n"
    else:
        content = grid(stories.stories, f"Stories by {stories.source.get('checkpoint')}", stories.plan.obsession)
    if out is None:
        click.echo(content, nl=False)
    else:
        files.write_atomic(out, content)
