"""`gatsby corpus show` and `gatsby corpus verify`."""

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
        for part in (acceptance_table(corpus.manifest), empty_line(corpus.manifest)):
            click.echo(f"\n{part}" if part else "", nl=bool(part))
    if plot:
        from gatsby_mlx.evaluation.plots import corpus_plot

        corpus_plot(dials, path=plot)


@command.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
def verify(path: Path | None) -> None:
    """Check every story's offset, length and hash against the manifest, and the counts. PATH as for show.

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


def to_json(corpus, figures: dict, dials) -> str:
    """Return everything as one JSON document; the mean of a level without a story is null."""
    rows = [
        {**asdict(d), "means": [None if math.isnan(m) else m for m in d.means]}  # JSON has no NaN
        for d in dials
    ]
    told = {"path": str(corpus.path), "sha256": corpus.sha256, "characters": corpus.n_chars}
    told |= {key: corpus.manifest[key] for key in ("blend", "attempts", "counts", "sources") if key in corpus.manifest}
    return json.dumps({**told, **figures, "dial": rows}, indent=1)


def dial_table(dials) -> str:
    """Return mean mentions by writer and level, with the fewest and the most."""
    rows = []
    for d in dials:
        levels = zip(d.means, d.fewest, d.most, strict=True)
        cells = ["-" if math.isnan(m) else f"{m:.2f} ({a}-{b})" for m, a, b in levels]
        rows.append([d.writer, *cells, str(sum(d.n))])
    return table(["mentions", *(f"level {k}" for k in range(1, 6)), "stories"], rows)


def acceptance_table(manifest: dict) -> str:
    """Return, by writer, the stories written, those that passed, what each gate refused, and tokens a second."""
    attempts = manifest.get("attempts") or {}
    if not any(own["failed"] or own["tokens_out"] for own in attempts.values()):
        return ""
    gates = [gate for gate in manifest["gates"] if any(gate in own["failed"] for own in attempts.values())]
    rows, seconds = [], manifest["timings"].get("by_writer", {})
    for writer, own in attempts.items():
        cells = [str(own["failed"].get(gate, 0)) for gate in gates]
        speed = f"{own['tokens_out'] / seconds[writer]:.0f}" if own["tokens_out"] and seconds.get(writer) else "-"
        share = f"{100 * own['passed'] / own['written']:.0f}%"
        rows.append([writer, str(own["written"]), share, *cells, str(own.get("reasoned", 0)), speed])
    return table(["writer", "written", "passed", *gates, "reasoned", "tokens/s"], rows)


def empty_line(manifest: dict) -> str:
    """Return how many stories were moved to another level and which places stayed empty, if any."""
    counts = manifest.get("counts", {})
    empty = ", ".join(f"{n} at level {level}" for level, n in counts.get("empty", {}).items() if n)
    moved = f"{counts['moved']} stories were moved to the level that their mentions fit" if counts.get("moved") else ""
    return "; ".join(filter(None, [moved, f"empty places: {empty}" if empty else ""]))


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
