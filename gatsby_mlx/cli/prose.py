"""`gatsby prose`: text quality."""

import json
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import json_option, long_command, table
from gatsby_mlx.cli.story_options import (
    corpus_of,
    corpus_option,
    reference_model,
    reference_model_option,
    story_options,
    story_set,
)

if TYPE_CHECKING:
    from gatsby_mlx.evaluation.quality import TextQuality

N_TOPICS = 24


@click.command()
@reference_model_option
@json_option
@corpus_option
@story_options(N_TOPICS, seeds=2)
@click.pass_context
@long_command
def command(ctx, judge, as_json, corpus, **options) -> None:
    """Tell stories and measure their English: spelling, endings, repetition, errors, copies, and variety.

    \b
    Examples:
      gatsby prose --model runs/story --corpus stories
      gatsby prose --stories stories.jsonl --judge SmolLM2-135M --json
    """
    from gatsby_mlx.evaluation.quality import measure
    from gatsby_mlx.evaluation.reference import reference
    from gatsby_mlx.strict_json import plain

    reader = reference_model(judge)
    stories = story_set(ctx, options, N_TOPICS)
    learned_from = corpus_of(stories, corpus, options["model"])
    corpus_figures = reference(learned_from) if learned_from else None
    quality = measure(stories.pieces, corpus_figures, reader, stories.plan.obsession)
    click.echo(json.dumps(plain(quality.to_json()), indent=1) if as_json else render(quality))


def render(quality: "TextQuality") -> str:
    """Return the figures as a table, the corpus's beside them."""
    from gatsby_mlx.evaluation.format import in_unit, interval
    from gatsby_mlx.evaluation.quality import NAMES, UNITS

    rows = []
    for name, meaning in NAMES.items():
        if figure := quality.figures.get(name):
            show, beside = in_unit(UNITS.get(name)), quality.corpus.get(name)
            ends = interval(figure.low, figure.high, show)
            rows.append([meaning, show(figure.mean), ends, show(beside.mean) if beside else "-"])
    table_ = table(["text quality", "stories", "95% interval", "corpus"], rows)
    if quality.variety:
        table_ += f"\n\n{variety_table(quality)}"
    if quality.left_out:
        names = "; ".join(NAMES[name] for name in quality.left_out)
        return f"{table_}\nleft out, for these stories are not in English: {names}"
    words = ", ".join(f"{word} ({n})" for word, n in quality.misspelled) or "none"
    return f"{table_}\nunknown words: {words}"


def variety_table(quality: "TextQuality") -> str:
    """Return how much the stories of each level say the same, the corpus's figures beside them."""
    from gatsby_mlx.evaluation.format import percent
    from gatsby_mlx.evaluation.variety import NAMES

    rows = []
    for level, figure in quality.variety.items():
        beside = quality.corpus_variety.get(level)
        cells = [[percent(getattr(v, name)) if v else "-" for v in (figure, beside)] for name in NAMES]
        rows.append([str(level), *(cell for pair in cells for cell in pair), f'"{figure.run}"'])
    n = next(iter(quality.variety.values())).n
    head = ["level", "shared", "corpus", "commonest run", "corpus", "same words", "corpus", "which run"]
    legend = "\n".join(f"{short}: {NAMES[name]}" for name, short in zip(NAMES, head[1::2], strict=False))
    return f"variety of {n} stories, each about another topic; less is more various\n{table(head, rows)}\n{legend}"
