"""`gatsby dial`."""

import json
import time
from pathlib import Path

import click

from gatsby_mlx.cli.console import (
    SEED,
    Status,
    check_plot,
    clock,
    load_model,
    max_tokens_option,
    model_option,
    sampling_options,
    table,
)


@click.command()
@click.option("--topics", type=click.Path(path_type=Path), help="Topics of yours, one a line.")
@click.option(
    "--n-topics", type=int, metavar="N", show_default="24", help="How many of the evaluation topics, up to 120."
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    metavar="N",
    default=2,
    show_default=True,
    help="Stories for each topic and level.",
)
@click.option(
    "--seed", type=SEED, metavar="N", default=1925, show_default=True, help="Where the stories' seeds come from."
)
@click.option(
    "--batch", type=click.IntRange(1), metavar="N", default=64, show_default=True, help="Stories decoded at once."
)
@max_tokens_option
@click.option("--plot", type=click.Path(path_type=Path), help="Write the dial as .svg or .png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@sampling_options
@model_option
def command(topics, n_topics, seeds, seed, batch, max_tokens, plot, as_json, temp, top_k, top_p, model) -> None:
    """Tell topics x 5 levels x seeds stories and count the mentions of the light in each story's own text.

    \b
    Examples:
      gatsby dial --model runs/story --seeds 4
      gatsby dial --topics mine.txt --json > dial.json
    """
    if topics and n_topics is not None:
        raise click.UsageError("--topics and --n-topics exclude each other")
    check_plot(plot)
    from gatsby_mlx.evaluation.dial import DialConfig, default_topics, read_topics, sweep
    from gatsby_mlx.model.decode import Sampling

    chosen = read_topics(topics) if topics else default_topics(24 if n_topics is None else n_topics)
    config = DialConfig(chosen, seeds, Sampling(temp, top_k, top_p), max_tokens, batch, seed)
    ready = load_model(model)
    dial, _ = sweep(ready.model, ready.tokenizer, config, progress_line())
    click.echo(json.dumps(dial.to_json(), indent=1) if as_json else render(dial))
    if plot:
        from gatsby_mlx.evaluation.plots import dial_plot

        dial_plot(dial, path=plot)


def progress_line():
    """Return a callback for `sweep` that keeps the status line, and clears it at the end."""
    status, begun = Status(), time.monotonic()

    def progress(done: int, total: int) -> None:
        if done == total:
            status.clear()
            return
        left = (time.monotonic() - begun) / done * (total - done)
        status(f"{done} of {total} stories told, {clock(left)} left")

    return progress


def render(dial) -> str:
    """Return a dial as a table with one line of summary."""

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
        ]
        for x in dial.levels
    ]
    head = ["level", "mentions", "95% interval", "distinct", "per 100 words", "ended", "stories"]
    rises = "rises strictly" if dial.strictly_rising else "does not rise strictly"
    lines = [
        table(head, rows),
        f"Spearman {dial.spearman:.2f}; the dial {rises}; {dial.topics} topics, {dial.seeds} seeds",
    ]
    if dial.seed_count:
        counts = " ".join(f"{v:.2f}" for v in dial.seed_count.levels)
        lines.append(f"the seed's own count, for comparison only: {counts} ({dial.seed_count.note})")
    return "\n".join(lines)
