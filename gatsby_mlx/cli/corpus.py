"""`gatsby corpus show` and `gatsby corpus verify`."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatsby_mlx.cli.console import PATH, check_plot, json_option, plot_option, printable, table

if TYPE_CHECKING:
    from gatsby_mlx.corpus.levels import CorpusDial
    from gatsby_mlx.corpus.load import Corpus


@click.group()
def command() -> None:
    """Show or verify a corpus.

    \b
    Example:
      gatsby corpus show
    """


@command.command()
@click.argument("path", type=PATH, required=False)
@plot_option
@json_option
def show(path: Path | None, plot: Path | None, as_json: bool) -> None:
    """Show a corpus's figures and its dial by writer and level. PATH is a file, or a folder with raw.txt.

    \b
    Examples:
      gatsby corpus show                 # the corpus that ships
      gatsby corpus show stories --plot dial.svg
    """
    from gatsby_mlx import shipped
    from gatsby_mlx.corpus.levels import corpus_dials
    from gatsby_mlx.corpus.load import load
    from gatsby_mlx.corpus.measure import measure

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
        for part in (acceptance_table(corpus.manifest), empty_line(corpus.manifest)):
            click.echo(f"\n{part}" if part else "", nl=bool(part))
    if plot:
        from gatsby_mlx.evaluation.figures import corpus_plot

        corpus_plot(dials, corpus.obsession, plot)


@command.command()
@click.argument("path", type=PATH, required=False)
def verify(path: Path | None) -> None:
    """Check the manifest's counts, and the offset, length and hash of every story. PATH as for show.

    \b
    Example:
      gatsby corpus verify stories
    """
    from gatsby_mlx import shipped
    from gatsby_mlx.corpus import manifest
    from gatsby_mlx.corpus.load import load

    corpus = load(path or shipped.corpus())
    manifest.check(corpus.documents, corpus.manifest, corpus.path)
    n = len(corpus.documents)
    click.echo(printable(f"{corpus.path}: {n:,} stories; every offset, length and hash agrees with the manifest"))


def to_json(corpus: "Corpus", figures: dict[str, Any], dials: "Sequence[CorpusDial]") -> str:
    """Return the JSON document of `gatsby corpus show`. The mean of a level without a story is null."""
    rows = [
        {**asdict(d), "means": [None if math.isnan(m) else m for m in d.means]}  # JSON has no NaN
        for d in dials
    ]
    facts = {"path": str(corpus.path), "sha256": corpus.sha256, "characters": corpus.n_chars}
    facts |= {key: corpus.manifest[key] for key in ("blend", "attempts", "counts", "sources") if key in corpus.manifest}
    return json.dumps({**facts, **figures, "dial": rows}, indent=1)


def dial_table(dials: "Sequence[CorpusDial]") -> str:
    """Return a table of the mean mentions by writer and level, with the fewest and the most."""
    rows = []
    for d in dials:
        levels = zip(d.means, d.fewest, d.most, strict=True)
        cells = ["-" if math.isnan(m) else f"{m:.2f} ({a}-{b})" for m, a, b in levels]
        rows.append([d.writer, *cells, str(sum(d.n))])
    return table(["mentions", *(f"level {k}" for k in range(1, 6)), "stories"], rows)


def acceptance_table(manifest: dict[str, Any]) -> str:
    """Return a table by writer: stories written, share that passed, failures by gate, and tokens per second."""
    attempts = manifest.get("attempts") or {}
    if not any(counts["failed"] or counts["tokens_out"] for counts in attempts.values()):
        return ""
    gates = [gate for gate in manifest["gates"] if any(gate in counts["failed"] for counts in attempts.values())]
    rows, seconds = [], manifest["timings"].get("by_writer", {})
    for writer, counts in attempts.items():
        cells = [str(counts["failed"].get(gate, 0)) for gate in gates]
        measured = counts["tokens_out"] and seconds.get(writer)
        speed = f"{counts['tokens_out'] / seconds[writer]:.0f}" if measured else "-"
        share = f"{100 * counts['passed'] / counts['written']:.0f}%"
        rows.append([writer, str(counts["written"]), share, *cells, str(counts.get("reasoned", 0)), speed])
    return table(["writer", "written", "passed", *gates, "reasoned", "tokens/s"], rows)


def empty_line(manifest: dict[str, Any]) -> str:
    """Return how many stories were moved to another level and how many are missing by level, or ""."""
    counts = manifest.get("counts", {})
    empty = ", ".join(f"{n} at level {level}" for level, n in counts.get("empty", {}).items() if n)
    moved = f"{counts['moved']} stories were moved to the level that their mentions fit" if counts.get("moved") else ""
    return "; ".join(filter(None, [moved, f"missing stories: {empty}" if empty else ""]))


LABELS = {
    "at_most_1000_chars": "documents of at most 1,000 characters",
    "words_80_to_170": "stories of 80 to 170 words",
    "ends_in_sentence": "stories that end in a sentence",
    "names_hero": "stories that name their hero",
    "topic_in_first_sentence": "every topic word in the first sentence",
    "topics_strictly_rising": "topics whose mentions rise with every level",
    "green_that_is_not_the_light": "uses of the obsession's first word alone",
    "distinct_words": "distinct words",
    "distinct_4_grams": "distinct 4-grams / all",
    "distinct_sentences": "distinct sentences / all",
    "first_sentences_shared": "stories that share their first sentence",
    "commonest_pattern": "stories with the most common sentence pattern",
    "highest_jaccard": "highest Jaccard similarity of two stories, different topics",
}
PERCENT = set(list(LABELS)[:7]) | {"first_sentences_shared", "commonest_pattern"}


def figures_table(figures: dict[str, Any]) -> str:
    """Return the figures of `measure` as a table. Variety is measured on the first 1,000 stories."""
    rows = []
    for key, label in LABELS.items():
        value = figures[key]
        if value is not None:
            number = f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
            rows.append([label, f"{100 * value:.1f}%" if key in PERCENT else number])
    return table(["figure (variety: first 1,000 stories)", "value"], rows)
