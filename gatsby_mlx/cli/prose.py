"""`gatsby prose`."""

import json

import click

from gatsby_mlx.cli.console import table
from gatsby_mlx.cli.evaluating import corpus_of, corpus_option, make_judge, story_options, told_stories

N_TOPICS = 24


@click.command()
@click.option("--judge", metavar="DIR", help="A model in mlx-lm's form, to read 200 stories and 200 of the corpus.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@corpus_option
@story_options(N_TOPICS, seeds=2)
@click.pass_context
def command(ctx, judge, as_json, corpus, **asked) -> None:
    """Tell stories and measure their English: spelling, endings, loops, slips, and what is copied from the corpus.

    \b
    Examples:
      gatsby prose --model runs/story --corpus stories
      gatsby prose --stories told.jsonl --judge SmolLM2-135M --json
    """
    from gatsby_mlx.evaluation.prose import measure
    from gatsby_mlx.evaluation.reference import reference
    from gatsby_mlx.evaluation.stories import piece

    reader = make_judge(judge)
    told = told_stories(ctx, asked, N_TOPICS)
    taught = corpus_of(told, corpus)
    found = measure(map(piece, told.stories), reference(taught) if taught else None, reader)
    click.echo(json.dumps(to_json(found), indent=1) if as_json else render(found))


def to_json(found) -> dict:
    from gatsby_mlx.evaluation.stats import plain

    return plain(found.to_json())


def render(found) -> str:
    """Return the figures as a table, the corpus's beside them."""
    from gatsby_mlx.evaluation.prose import NAMES, UNITS

    def shown(name: str, value: float) -> str:
        return f"{value:.{UNITS[name]}f}" if name in UNITS else f"{100 * value:.1f}%"

    rows = []
    for k, told in NAMES.items():
        if own := found.figures.get(k):
            ends = f"{shown(k, own.low)} to {shown(k, own.high)}" if own.low == own.low else ""
            rows.append([told, shown(k, own.mean), ends, shown(k, found.corpus[k].mean) if k in found.corpus else ""])
    told = ", ".join(f"{w} ({n})" for w, n in found.misspelled) or "none"
    return "\n".join([table(["prose", "stories", "95% interval", "corpus"], rows), f"words that stand nowhere: {told}"])
