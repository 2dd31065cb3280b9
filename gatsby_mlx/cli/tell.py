"""`gatsby tell`."""

import json
import secrets
import shutil
import textwrap
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from gatsby_mlx.cli.console import (
    SEED,
    glow,
    json_option,
    load_model,
    max_tokens_option,
    model_option,
    names_a_model,
    printable,
    sampling_options,
    stream,
)
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import check_level, fold_topic

if TYPE_CHECKING:
    from gatsby_mlx.api import Model
    from gatsby_mlx.story.obsession import Obsession
    from gatsby_mlx.story.sampling import Story


class Topic(click.Argument):
    """TOPIC, which is not needed beside --prompt."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        instead = isinstance(ctx.params.get("prompt"), str) and self.value_is_missing(value)
        return None if instead else super().process_value(ctx, value)


COLUMN = 30  # characters: the narrowest column of five stories side by side


@click.command()
@click.argument("topic", cls=Topic)
@click.option(
    "--green",
    "--level",
    "level",
    metavar="N",
    default=3,
    show_default=True,
    help="The dial, from 1 (a soft undertow) to 5 (swallowed).",
)
@click.option("--all-levels", is_flag=True, help="Tell all five levels with the same seed, side by side.")
@click.option(
    "--seed", type=SEED, metavar="N", show_default="a new one, shown", help="The same seed gives the same story."
)
@click.option("--prompt", metavar="WORDS", is_eager=True, help="Write on from WORDS, as they are, instead of a story.")
@max_tokens_option
@json_option
@sampling_options
@model_option
def command(topic, level, all_levels, seed, prompt, max_tokens, as_json, temp, top_k, top_p, model) -> None:
    """Tell a story on TOPIC, character by character. A model of plain text writes on from a --prompt.

    \b
    Examples:
      gatsby tell "a dog and a balloon" --level 5
      gatsby tell "a lost kitten" --all-levels --seed 7
      gatsby tell "a lost kitten" --level 4 --json
      gatsby tell --prompt "Call me" --max-tokens 500 --model runs/book
    """
    if prompt is not None:
        if topic is not None or all_levels or as_json:
            raise click.UsageError("--prompt takes no TOPIC, no --all-levels and no --json")
        write_on(prompt, seed, max_tokens, model, temp=temp, top_k=top_k, top_p=top_p)
        return
    levels = LEVELS if all_levels else (check_level(level),)
    if topic.isascii() or not names_a_model(model):
        fold_topic(topic)  # refuses most bad topics before the model is loaded
    from gatsby_mlx.story.sampling import Sampling

    sampling = Sampling(temp, top_k, top_p)
    loaded = load_model(model)
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    pieces = loaded.pieces([loaded.job(topic, k, chosen, k) for k in levels], sampling, max_tokens)
    if seed is None:
        click.echo(f"seed {chosen}", err=True)
    stories: list[Story] = []
    if as_json or all_levels:
        stories = sorted((story for _, _, story in pieces if story), key=lambda story: story.job.key)
        click.echo(to_json(topic, stories, loaded) if as_json else side_by_side(stories, loaded.obsession))
    else:
        texts = (new for _, new, story in pieces if not (story and stories.append(story)))
        stream(texts, lambda text: click.echo(text, nl=False), loaded.obsession)
        click.echo()
    for story in stories:
        if story.finish != "end":
            why = "the context is full" if story.finish == "context" else "--max-tokens is reached"
            click.echo(f"(cut{f' at level {story.job.key}' if all_levels else ''}: {why})", err=True)


def write_on(prompt: str, seed: int | None, max_tokens: int | None, model: str | None, **sampling: Any) -> None:
    """Print a prompt and what the model writes after it."""
    from gatsby_mlx import api

    loaded = load_model(model)
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    pieces = loaded.write_on(prompt, chosen, max_chars=max_tokens or api.WRITE_ON, **sampling)
    if seed is None:
        click.echo(f"seed {chosen}", err=True)
    obsession = None if loaded.is_prose else loaded.obsession
    if obsession:
        stream(chain([prompt], pieces), lambda text: click.echo(text, nl=False), obsession)
    else:
        for text in chain([prompt], pieces):
            click.echo(printable(text), nl=False)
    click.echo()


def to_json(topic: str, stories: "Sequence[Story]", model: "Model") -> str:
    """Return the JSON document of the stories on one topic."""
    rows = [
        {
            "level": s.job.key,
            "story": s.text,
            "mentions": model.obsession.count(s.text),
            "finish": s.finish,
            "characters": s.n_chars,
        }
        for s in stories
    ]
    seed = stories[0].job.seed
    folded = fold_topic(topic, model.checkpoint.tokenizer.alphabet, model.obsession)
    return json.dumps({"topic": folded, "seed": seed, "model": str(model.path), "stories": rows}, indent=1)


def side_by_side(stories: "Sequence[Story]", obsession: "Obsession") -> str:
    """Return the stories in columns where the terminal is wide enough, else one below the other."""
    heads = [f"{obsession.tag}={s.job.key} ({obsession.count(s.text)})" for s in stories]
    width = shutil.get_terminal_size((100, 24)).columns
    column = (width - 3 * (len(stories) - 1)) // len(stories)
    if column < COLUMN:
        return "\n\n".join(f"{head}\n{glow(s.text, obsession)}" for head, s in zip(heads, stories, strict=True))
    columns = [[head, "", *_wrap(s.text, column)] for head, s in zip(heads, stories, strict=True)]
    height = max(map(len, columns))
    filled = [[line.ljust(column) for line in c + [""] * (height - len(c))] for c in columns]
    # Color each column at once: a mention may be on two lines.
    glowing = [glow("\n".join(c), obsession).split("\n") for c in filled]
    return "\n".join("   ".join(row).rstrip() for row in zip(*glowing, strict=True))


def _wrap(story: str, width: int) -> list[str]:
    lines = []
    for paragraph in printable(story).split("\n"):
        lines += textwrap.wrap(paragraph, width) or [""]
    return lines
