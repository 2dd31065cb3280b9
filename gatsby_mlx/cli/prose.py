"""`gatsby prose`."""

import json
from pathlib import Path

import click

from gatsby_mlx.cli.console import table
from gatsby_mlx.cli.evaluating import corpus_of, corpus_option, interval, progress_line, story_options, told_stories

N_TOPICS = 24
PLAIN = {"words": 0, "copy": 0, "nats_per_char": 3}  # figures that are no shares, and their digits


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


def make_judge(folder: str | None):
    """Return the judge at `folder`, or None; before any work, since a folder may be none."""
    if folder is None:
        return None
    from gatsby_mlx.evaluation.judge import Judge

    return Judge(folder, progress_line("texts judged"))


def to_json(found) -> dict:
    from gatsby_mlx.evaluation.stats import plain

    return plain(found.to_json())


def render(found) -> str:
    """Return the figures as a table, the corpus's beside them."""
    from gatsby_mlx.evaluation.prose import NAMES

    rows = []
    for k, told in NAMES.items():
        if k in found.figures:
            own = found.figures[k]
            shown = interval(own, True) if k not in PLAIN else f"{_figure(k, own.low)} to {_figure(k, own.high)}"
            row = [told, _figure(k, own.mean), shown if own.low == own.low else ""]
            rows.append(row + [_figure(k, found.corpus[k].mean) if k in found.corpus else ""])
    told = ", ".join(f"{w} ({n})" for w, n in found.misspelled) or "none"
    return "\n".join([table(["prose", "stories", "95% interval", "corpus"], rows), f"words that stand nowhere: {told}"])


def _figure(name: str, value: float) -> str:
    return f"{value:.{PLAIN[name]}f}" if name in PLAIN else f"{100 * value:.1f}%"
