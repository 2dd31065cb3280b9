"""`gatsby honor`: topic adherence."""

import json
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import json_option, long_command, table
from gatsby_mlx.cli.story_options import corpus_of, corpus_option, story_options, story_set

if TYPE_CHECKING:
    from gatsby_mlx.evaluation.adherence import Adherence

N_TOPICS = 24


@click.command()
@json_option
@corpus_option
@story_options(N_TOPICS, seeds=2)
@click.pass_context
@long_command
def command(ctx, as_json, corpus, **options) -> None:
    """Tell stories and measure whether each is about its topic, for nouns seen in training and nouns never seen.

    \b
    Examples:
      gatsby honor --model runs/story --n-topics 120
      gatsby honor --stories stories.jsonl --corpus stories
    """
    from gatsby_mlx.errors import UsageError
    from gatsby_mlx.evaluation.adherence import NOT_ENGLISH, measure
    from gatsby_mlx.evaluation.reference import reference
    from gatsby_mlx.story.text import is_english
    from gatsby_mlx.strict_json import plain

    stories = story_set(ctx, options, N_TOPICS)
    if not is_english(piece.text for piece in stories.pieces):
        raise UsageError(NOT_ENGLISH[0].upper() + NOT_ENGLISH[1:], "gatsby dial and gatsby prose measure them")
    learned_from = corpus_of(stories, corpus, options["model"])
    adherence = measure(stories.pieces, reference(learned_from) if learned_from else None)
    click.echo(json.dumps(plain(adherence.to_json()), indent=1) if as_json else render(adherence))


def render(adherence: "Adherence") -> str:
    """Return the figures as a table with a row for each group of topics, and what its columns mean."""
    from gatsby_mlx.evaluation.adherence import NAMES
    from gatsby_mlx.evaluation.format import interval, percent

    rows = []
    for name, group in adherence.groups().items():
        honored = group.honored
        row = [name, str(group.topics), str(group.stories), percent(honored.mean)]
        row += [interval(honored.low, honored.high, percent)]
        row += [percent(x.mean) for x in (group.honored_chance, group.noun, group.again)]
        rows.append([*row, percent(group.one_hero.mean) if group.one_hero else "-"])
    head = ["topics with", "topics", "stories", "honored", "95% interval", "by chance", "noun", "again", "one hero"]
    legend = [f"{k}: {meaning}" for k, meaning in NAMES.items()]
    by_level = ", ".join(percent(level.mean) for level in adherence.levels)
    return "\n".join([table(head, rows), f"honored at levels 1 to 5: {by_level}", *legend])
