"""`gatsby honour`."""

import json

import click

from gatsby_mlx.cli.console import table
from gatsby_mlx.cli.evaluating import corpus_of, corpus_option, interval, story_options, told_stories

N_TOPICS = 24


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@corpus_option
@story_options(N_TOPICS, seeds=2)
@click.pass_context
def command(ctx, as_json, corpus, **asked) -> None:
    """Tell stories and ask whether each is about its topic, for nouns seen in training and nouns never seen.

    \b
    Examples:
      gatsby honour --model runs/story --n-topics 120
      gatsby honour --stories told.jsonl --corpus stories
    """
    from gatsby_mlx.evaluation.honour import measure
    from gatsby_mlx.evaluation.reference import reference
    from gatsby_mlx.evaluation.stories import piece

    told = told_stories(ctx, asked, N_TOPICS)
    taught = corpus_of(told, corpus)
    found = measure(map(piece, told.stories), reference(taught) if taught else None)
    click.echo(json.dumps(to_json(found), indent=1) if as_json else render(found))


def to_json(found) -> dict:
    from gatsby_mlx.evaluation.stats import plain

    return plain(found.to_json())


def render(found) -> str:
    """Return the figures as a table of one line a group of topics, and what its columns mean."""
    from gatsby_mlx.evaluation.honour import NAMES

    rows = []
    for name, group in found.groups().items():
        row = [name, str(group.topics), str(group.stories), percent(group.honoured), interval(group.honoured, True)]
        row += [percent(group.honoured_chance), percent(group.noun), percent(group.again)]
        rows.append([*row, percent(group.one_hero) if group.one_hero else "-"])
    head = ["topics with", "topics", "stories", "honoured", "95% interval", "by chance", "noun", "again", "one hero"]
    legend = [f"{k}: {told}" for k, told in NAMES.items()]
    by_level = ", ".join(percent(level) for level in found.levels)
    return "\n".join([table(head, rows), f"honoured at levels 1 to 5: {by_level}", *legend])


def percent(figure) -> str:
    return "-" if figure.mean != figure.mean else f"{100 * figure.mean:.1f}%"
