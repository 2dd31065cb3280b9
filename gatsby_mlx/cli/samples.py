"""`gatsby samples`."""

from pathlib import Path

import click

from gatsby_mlx.cli.evaluating import story_options, told_stories

N_TOPICS = 6


@click.command()
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", show_default="stdout", help="Where it goes.")
@story_options(N_TOPICS, seeds=1)
@click.pass_context
def command(ctx, out, **asked) -> None:
    """Tell stories to be read, topics x levels, as Markdown.

    \b
    Examples:
      gatsby samples --model runs/story --out samples.md
      gatsby samples --stories told.jsonl > samples.md
    """
    from gatsby_mlx import files
    from gatsby_mlx.evaluation.samples import grid

    told = told_stories(ctx, asked, N_TOPICS, run_on=0)
    shown = grid(told.stories, f"Stories by {told.source.get('checkpoint')}")
    if out is None:
        click.echo(shown, nl=False)
    else:
        files.write_atomic(out, shown)
