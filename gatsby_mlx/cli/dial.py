"""`gatsby dial`."""

import json
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import check_plot, json_option, long_command, plot_option, table
from gatsby_mlx.cli.story_options import corpus_of, corpus_option, story_options, story_set
from gatsby_mlx.story.english import counted

if TYPE_CHECKING:
    from gatsby_mlx.evaluation.dial import Dial

N_TOPICS = 24


@click.command()
@plot_option
@json_option
@corpus_option
@story_options(N_TOPICS, seeds=2)
@click.pass_context
@long_command
def command(ctx, plot, as_json, corpus, **options) -> None:
    """Tell topics x 5 levels x seeds stories and count how often each mentions its obsession.

    \b
    Examples:
      gatsby dial --model runs/story --seeds 4
      gatsby dial --topics mine.txt --json > dial.json
    """
    check_plot(plot)
    from gatsby_mlx import api

    stories = story_set(ctx, options, N_TOPICS)
    dial = api.dial_of(stories, corpus_of(stories, corpus, options["model"]))
    click.echo(json.dumps(dial.to_json(), indent=1) if as_json else render(dial))
    if plot:
        dial.plot(plot)


def render(dial: "Dial") -> str:
    """Return a dial as a table and a few lines of summary."""
    from gatsby_mlx.evaluation.format import change, interval, number, percent

    rows = [
        [
            str(level.level),
            number(level.mentions),
            interval(level.low, level.high),
            number(level.distinct_mentions),
            number(level.per_100_words, 1),
            percent(level.ended, 0),
            str(level.n),
        ]
        for level in dial.levels
    ]
    head = ["level", "mentions", "95% interval", "distinct", "per 100 words", "ended", "stories"]
    if dial.corpus:
        head += ["corpus", "off by"]
        for row, mean, deviation in zip(rows, dial.corpus, dial.deviations, strict=True):
            row += [number(mean), change(deviation.mean)]
    return "\n".join([table(head, rows), *summary(dial)])


def summary(dial: "Dial") -> list[str]:
    """Return the lines below the table: trend, separation of the levels, and the baseline's count."""
    rises, distinct_rises = (
        "rises strictly" if rising else "does not rise strictly"
        for rising in (dial.strictly_rising, dial.distinct_rising)
    )
    lines = [
        f"Spearman {dial.spearman:.2f}; the dial {rises}; with repeated sentences counted once it {distinct_rises}; "
        f"{counted(dial.topics, 'topic')}, {counted(dial.seeds, 'seed')}"
    ]
    aucs = ", ".join(f"{a:.2f}" for a in dial.adjacent_auc)
    apart = ", ".join("yes" if a else "no" for a in dial.apart)
    lines.append(f"probability that a story has more mentions than one a level below: {aucs}; intervals apart: {apart}")
    if dial.trend:
        lines.append(f"trend over topics (Page): z = {dial.trend.z:.1f}, p = {dial.trend.p:.1g}")
    if dial.baseline_count:
        counts = " ".join(f"{v:.2f}" for v in dial.baseline_count.levels)
        within = " ".join(f"{v:.2f}" for v in dial.baseline_count.within_story)
        lines.append(f"the baseline's count, for comparison only: {counts} ({dial.baseline_count.note})")
        lines.append(f"the same texts, each up to the end of its story: {within}")
    return lines
