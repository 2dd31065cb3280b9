"""`gatsby tell`."""

import json
import secrets
import shutil
import textwrap

import click

from gatsby_mlx.cli.console import (
    SEED,
    glow,
    load_model,
    max_tokens_option,
    model_option,
    printable,
    sampling_options,
    stream,
)
from gatsby_mlx.prime import LEVELS, check_level, fold_topic

COLUMN = 30  # narrowest column in which five stories can stand side by side


@click.command()
@click.argument("topic")
@click.option(
    "--green", metavar="1-5", default=3, show_default=True, help="The dial: from a soft undertow to swallowed."
)
@click.option("--all-levels", is_flag=True, help="Tell all five levels from the same draws, side by side.")
@click.option("--seed", type=SEED, metavar="N", show_default="a new one, shown", help="Same seed, same story.")
@max_tokens_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of streaming.")
@sampling_options
@model_option
def command(topic, green, all_levels, seed, max_tokens, as_json, temp, top_k, top_p, model) -> None:
    """Tell a story on TOPIC, letter by letter.

    \b
    Examples:
      gatsby tell "a dog and a balloon" --green 5
      gatsby tell "a lost kitten" --all-levels --seed 7
    """
    topic = fold_topic(topic)
    levels = LEVELS if all_levels else (check_level(green),)
    from gatsby_mlx.model.decode import Decoder, Job, Sampling
    from gatsby_mlx.prime import build

    sampling = Sampling(temp, top_k, top_p)
    ready = load_model(model)
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    decoder = Decoder(ready.model, ready.tokenizer, len(levels), sampling, max_tokens)
    for level in levels:
        decoder.add(Job(build(topic, level, alphabet=ready.tokenizer.alphabet), chosen, level))
    if seed is None:
        click.echo(f"seed {chosen}", err=True)
    if as_json or all_levels:
        stories = sorted((s for _, _, s in decoder.pieces() if s), key=lambda s: s.job.key)
        click.echo(to_json(topic, stories, ready.path) if as_json else side_by_side(stories))
    else:
        stories = []
        stream(_characters(decoder, stories), lambda text: click.echo(text, nl=False))
        click.echo()
    for story in stories:
        if story.finish != "end":
            why = "the context is full" if story.finish == "context" else "--max-tokens is reached"
            click.echo(f"(cut{f' at level {story.job.key}' if all_levels else ''}: {why})", err=True)


def _characters(decoder, stories: list):
    """Yield the characters of one story, without the blank line before its end marker."""
    waiting = ""
    for _, character, story in decoder.pieces():
        if story is not None:
            stories.append(story)
        elif character == "\n":
            waiting += character
        else:
            yield from waiting + character
            waiting = ""


def to_json(topic: str, stories, path) -> str:
    from gatsby_mlx.text import count_mentions

    rows = [
        {
            "level": s.job.key,
            "story": s.text,
            "mentions": count_mentions(s.text),
            "finish": s.finish,
            "characters": s.n_chars,
        }
        for s in stories
    ]
    return json.dumps({"topic": topic, "seed": stories[0].job.seed, "model": str(path), "stories": rows}, indent=1)


def side_by_side(stories) -> str:
    """Lay the stories out in columns where the terminal is wide enough, else one under another."""
    from gatsby_mlx.text import count_mentions

    heads = [f"green={s.job.key} ({count_mentions(s.text)})" for s in stories]
    width = shutil.get_terminal_size((100, 24)).columns
    column = (width - 3 * (len(stories) - 1)) // len(stories)
    if column < COLUMN:
        return "\n\n".join(f"{head}\n{glow(s.text)}" for head, s in zip(heads, stories, strict=True))
    columns = [[head, "", *_wrap(s.text, column)] for head, s in zip(heads, stories, strict=True)]
    height = max(map(len, columns))
    filled = [[line.ljust(column) for line in c + [""] * (height - len(c))] for c in columns]
    glowing = [glow("\n".join(c)).split("\n") for c in filled]  # a whole column: a mention may stand on two lines
    return "\n".join("   ".join(row).rstrip() for row in zip(*glowing, strict=True))


def _wrap(story: str, width: int) -> list[str]:
    lines = []
    for paragraph in printable(story).split("\n"):
        lines += textwrap.wrap(paragraph, width) or [""]
    return lines
