"""`gatsby corpus show`."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import click

from gatsby_mlx.cli.console import check_plot, printable, table


@click.group()
def command() -> None:
    """Look at a corpus.

    \b
    Example:
      gatsby corpus show
    """


@command.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--plot", type=click.Path(path_type=Path), help="Write the dial by writer and level as .svg or .png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(path: Path | None, plot: Path | None, as_json: bool) -> None:
    """Print a corpus's figures and its dial by writer and level. PATH is a file or a folder with raw.txt.

    \b
    Examples:
      gatsby corpus show                 # the corpus that ships
      gatsby corpus show stories --plot dial.svg
    """
    from gatsby_mlx import shipped
    from gatsby_mlx.corpus.load import load
    from gatsby_mlx.corpus.measure import measure
    from gatsby_mlx.evaluation.corpus_dial import corpus_dials

    check_plot(plot)
    corpus = load(path or shipped.corpus())
    figures, dials = measure(corpus.documents), corpus_dials(corpus.documents)
    if as_json:
        click.echo(to_json(corpus, figures, dials))
    else:
        head = f"{corpus.path}: {len(corpus.documents):,} stories, {corpus.n_chars:,} characters"
        click.echo(printable(head))
        click.echo(f"alphabet of {len(corpus.alphabet)}, sha256 {corpus.sha256[:16]}\n")
        click.echo(dial_table(dials))
        click.echo("\n" + figures_table(figures))
    if plot:
        from gatsby_mlx.evaluation.plots import corpus_plot

        corpus_plot(dials, path=plot)


def to_json(corpus, figures: dict, dials) -> str:
    """Return everything as one JSON document; the mean of a level without a story is null."""
    rows = [
        {**asdict(d), "means": [None if math.isnan(m) else m for m in d.means]}  # JSON has no NaN
        for d in dials
    ]
    told = {"path": str(corpus.path), "sha256": corpus.sha256, "characters": corpus.n_chars}
    return json.dumps({**told, **figures, "dial": rows}, indent=1)


def dial_table(dials) -> str:
    """Return mean mentions by writer and level, with the fewest and the most."""
    rows = []
    for d in dials:
        levels = zip(d.means, d.fewest, d.most, strict=True)
        cells = ["-" if math.isnan(m) else f"{m:.2f} ({a}-{b})" for m, a, b in levels]
        rows.append([d.writer, *cells, str(sum(d.n))])
    return table(["mentions", *(f"level {k}" for k in range(1, 6)), "stories"], rows)


LABELS = {
    "at_most_1000_chars": "documents of at most 1,000 characters",
    "words_80_to_170": "stories of 80 to 170 words",
    "ends_in_sentence": "stories that end in a sentence",
    "names_hero": "stories that name their hero",
    "topic_in_first_sentence": "every topic word in the first sentence",
    "topics_strictly_rising": "topics whose mentions rise at every level",
    "green_that_is_not_the_light": "`green` that is not the light",
    "distinct_words": "distinct words",
    "distinct_4_grams": "distinct 4-grams / all",
    "distinct_sentences": "distinct sentences / all",
    "first_sentences_shared": "first sentences shared verbatim",
    "commonest_pattern": "commonest sentence pattern, of stories",
    "highest_jaccard": "highest Jaccard of two stories, unlike topics",
}
PERCENT = set(list(LABELS)[:7]) | {"first_sentences_shared", "commonest_pattern"}


def figures_table(figures: dict) -> str:
    """Return the figures of `measure` as a table; variety is counted on the first 1,000 stories."""
    rows = []
    for key, label in LABELS.items():
        value = figures[key]
        if value is not None:
            shown = (
                f"{100 * value:.1f}%" if key in PERCENT else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
            )
            rows.append([label, shown])
    return table(["figure (variety: first 1,000 stories)", "value"], rows)
