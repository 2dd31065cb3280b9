"""`gatsby corpus show`, `verify` and `import`."""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatsby_mlx.cli.console import (
    PATH,
    Status,
    check_plot,
    json_option,
    obsession_option,
    plot_option,
    printable,
    table,
)
from gatsby_mlx.cli.group import Group
from gatsby_mlx.story.english import counted

if TYPE_CHECKING:
    from gatsby_mlx.corpus.import_ import Imported
    from gatsby_mlx.corpus.levels import CorpusDial
    from gatsby_mlx.corpus.load import Corpus


@click.group(cls=Group)
def command() -> None:
    """Show or verify a corpus, or make one of your own stories.

    \b
    Examples:
      gatsby corpus show
      gatsby corpus import stories.txt --out stories
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
        head = f"{corpus.path}: {counted(len(corpus.documents), 'story')}, {corpus.n_chars:,} characters"
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
@json_option
def verify(path: Path | None, as_json: bool) -> None:
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
    if as_json:
        facts = {"path": str(corpus.path), "sha256": corpus.sha256, "stories": n, "characters": corpus.n_chars}
        click.echo(json.dumps({**facts, "sound": True}, indent=1))
        return
    agrees = "every offset, length and hash agrees with the manifest"
    click.echo(printable(f"{corpus.path}: {counted(n, 'story')}; {agrees}"))


@command.command("import")
@click.argument("source", metavar="SOURCE")
@click.option("--out", type=PATH, metavar="DIR", required=True, help="Output folder, for raw.txt and manifest.json.")
@obsession_option
@click.option(
    "--fields",
    metavar="NAME=FIELD,...",
    show_default="guessed",
    help="What the fields of JSONL or CSV are: topic=title,text=story. Names: text, topic, level, name, writer, split. "
    "An empty one (level=) is read from the story.",
)
@click.option(
    "--levels",
    type=click.Choice(["bands", "even"]),
    default="bands",
    show_default=True,
    help="Level of a story that has none: the band of its mentions, or five groups of equal size.",
)
@click.option(
    "--long",
    "too_long",
    type=click.Choice(["cut", "leave"]),
    default="cut",
    show_default=True,
    help="Cut stories that do not fit a sequence of 1,000 characters at a sentence, or leave them out.",
)
@click.option(
    "--alphabet",
    type=click.Choice(["auto", "ascii", "own"]),
    default="auto",
    show_default=True,
    help="Letters beyond ASCII: kept (own), made plain (ascii), or kept where they are many.",
)
@click.option("--language", metavar="CODE", help="The stories' language, such as de; publishing asks for it.")
@json_option
def import_(source, out, obsession, fields, levels, too_long, alphabet, language, as_json) -> None:
    """Make a corpus of your own stories, and say what was kept, mended and refused.

    SOURCE is a .jsonl or .csv file, a text file with stories between blank lines, rules or headings, a folder of .txt
    or .md files with a story each, or a dataset of the hub (datasets/OWNER/NAME). Topics, heroes and levels that the
    source does not give are read from the stories. Refused stories are in DIR/refused.jsonl.

    \b
    Examples:
      gatsby corpus import stories.txt --out stories
      gatsby corpus import tales.csv --fields topic=title,text=tale --out tales
      gatsby corpus import moby.jsonl --obsession whale.toml --levels even --out whales
      gatsby corpus import datasets/sup-computer/tiny-green-light-stories --out tiny
    """
    from gatsby_mlx import api
    from gatsby_mlx.corpus.levels import corpus_dials, problems
    from gatsby_mlx.corpus.sources import parse_fields

    status = Status()
    imported = api.import_stories(
        source,
        out,
        obsession=obsession,
        fields=parse_fields(fields) if fields else None,
        levels=levels,
        too_long=too_long,
        alphabet=alphabet,
        language=language,
        on_progress=lambda done, total: status(f"{done:,} of {total:,} stories read") if done % 50 == 0 else None,
    )
    status.clear()
    dials, found = corpus_dials(imported.documents), problems(imported.documents)
    if as_json:
        click.echo(json.dumps({**imported.to_json(), "out": str(out), "problems": found}, indent=1))
    else:
        click.echo(printable(import_table(imported)) + "\n\n" + dial_table(dials))
    for problem in found:
        click.echo(f"note: {problem}", err=True)
    name = shlex.quote(str(out))
    if imported.refused:
        click.echo(f"the refused stories are in {out / 'refused.jsonl'}", err=True)
    click.echo(f"gatsby train --preset pocket --corpus {name}", err=True)


SHOWN_PLACES = 6


def import_table(imported: "Imported") -> str:
    """Return what an import kept, read, mended and refused, with the first lines of each."""
    n = imported.n
    head = f"{imported.source}: {len(imported.documents):,} of {n:,} {'story' if n == 1 else 'stories'} kept"
    head += f" ({imported.how})" if imported.how else ""
    rows = []
    for row in imported.rows:
        where = ", ".join(row.places[:SHOWN_PLACES])
        more = len(row.places) - SHOWN_PLACES
        rows.append([row.kind, row.reason, f"{len(row.places):,}", f"{where} and {more:,} more" if more > 0 else where])
    lines = [head, *(f"{what}: {count:,}" for what, count in imported.folded.items())]
    if letters := imported.to_json()["letters"]:
        lines.append(f"letters beyond ASCII that are kept: {letters}")
        lines.append("left out for other languages than English: spelling, and topic adherence by stems")
    return "\n".join([*lines, "", table(["", "what", "stories", "lines"], rows)])


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
    failed = {writer: counts["failed"] or {} for writer, counts in attempts.items()}
    if not any(failed[writer] or counts["tokens_out"] for writer, counts in attempts.items()):
        return ""
    gates = [gate for gate in manifest.get("gates") or () if any(gate in by_gate for by_gate in failed.values())]
    rows, seconds = [], (manifest.get("timings") or {}).get("by_writer") or {}
    for writer, counts in attempts.items():
        cells = [str(failed[writer].get(gate, 0)) for gate in gates]
        measured = counts["tokens_out"] and seconds.get(writer)
        speed = f"{counts['tokens_out'] / seconds[writer]:.0f}" if measured else "-"
        share = f"{100 * counts['passed'] / counts['written']:.0f}%" if counts["written"] else "-"
        rows.append([writer, str(counts["written"]), share, *cells, str(counts.get("reasoned", 0)), speed])
    return table(["writer", "written", "passed", *gates, "reasoned", "tokens/s"], rows)


def empty_line(manifest: dict[str, Any]) -> str:
    """Return how many stories were moved to another level and how many are missing by level, or ""."""
    counts = manifest.get("counts") or {}
    empty = ", ".join(f"{n} at level {level}" for level, n in (counts.get("empty") or {}).items() if n)
    n = counts.get("moved") or 0
    were = (
        "was moved to the level that its mentions fit" if n == 1 else "were moved to the level that their mentions fit"
    )
    moved = f"{counted(n, 'story')} {were}" if n else ""
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
