"""`gatsby dial`."""

import json
from pathlib import Path

import click

from gatsby_mlx.cli.console import check_plot, table
from gatsby_mlx.cli.evaluating import corpus_of, corpus_option, story_options, told_stories

N_TOPICS = 24


@click.command()
@click.option("--plot", type=click.Path(path_type=Path), help="Write the dial as .svg or .png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@corpus_option
@story_options(N_TOPICS, seeds=2)
@click.pass_context
def command(ctx, plot, as_json, corpus, **asked) -> None:
    """Tell topics x 5 levels x seeds stories and count the mentions of the light in each story's own text.

    \b
    Examples:
      gatsby dial --model runs/story --seeds 4
      gatsby dial --topics mine.txt --json > dial.json
    """
    check_plot(plot)
    from gatsby_mlx.evaluation.corpus_dial import corpus_dials
    from gatsby_mlx.evaluation.dial import measure

    told = told_stories(ctx, asked, N_TOPICS)
    taught = corpus_of(told, corpus)
    means = corpus_dials(taught.documents)[0].means if taught else None
    dial = measure(told.stories, told.run_on, told.plan, means)
    click.echo(json.dumps(dial.to_json(), indent=1) if as_json else render(dial))
    if plot:
        from gatsby_mlx.evaluation.plots import dial_plot

        dial_plot(dial, means, path=plot)


def render(dial) -> str:
    """Return a dial as a table with a few lines of summary."""

    def interval(low: float, high: float) -> str:
        return "" if low != low else f"{low:.2f} to {high:.2f}"

    rows = [
        [
            str(x.level),
            f"{x.mentions:.2f}",
            interval(x.low, x.high),
            f"{x.distinct_mentions:.2f}",
            f"{x.per_100_words:.1f}",
            f"{100 * x.ended:.0f}%",
            str(x.n),
            *([f"{c:.2f}", f"{100 * d.mean:+.1f}%"] if dial.corpus else []),
        ]
        for x, c, d in zip(dial.levels, dial.corpus or dial.means, dial.deviations or dial.levels, strict=True)
    ]
    head = ["level", "mentions", "95% interval", "distinct", "per 100 words", "ended", "stories"]
    head += ["corpus", "off by"] if dial.corpus else []
    return "\n".join([table(head, rows), *summary(dial)])


def summary(dial) -> list[str]:
    """Return what is to be said of a dial beside its table."""
    rises = "rises strictly" if dial.strictly_rising else "does not rise strictly"
    distinct = "too" if dial.distinct_rising == dial.strictly_rising else "not so"
    lines = [
        f"Spearman {dial.spearman:.2f}; the dial {rises}, repeated sentences counted once {distinct}; "
        f"{dial.topics} topics, {dial.seeds} seeds"
    ]
    aucs = ", ".join(f"{a:.2f}" for a in dial.adjacent_auc)
    apart = ", ".join("yes" if a else "no" for a in dial.apart)
    lines.append(f"a story has more mentions than one a level below with probability {aucs}; intervals apart: {apart}")
    if dial.trend:
        lines.append(f"trend over topics (Page): z = {dial.trend.z:.1f}, p = {dial.trend.p:.1g}")
    if dial.seed_count:
        counts = " ".join(f"{v:.2f}" for v in dial.seed_count.levels)
        own = " ".join(f"{v:.2f}" for v in dial.seed_count.own)
        lines.append(f"the seed's own count, for comparison only: {counts} ({dial.seed_count.note})")
        lines.append(f"the same texts up to their story's end: {own}")
    return lines
