"""`gatsby tell`."""

import json
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
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
from gatsby_mlx.errors import UsageError
from gatsby_mlx.story.english import counted
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import check_level, fold_topic

if TYPE_CHECKING:
    from gatsby_mlx.api import Model
    from gatsby_mlx.story.obsession import Obsession
    from gatsby_mlx.story.sampling import Job, Story


class Topic(click.Argument):
    """TOPIC, which is not needed beside --prompt."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        instead = isinstance(ctx.params.get("prompt"), str) and self.value_is_missing(value)
        return None if instead else super().process_value(ctx, value)


COLUMN, GAP = 30, 3  # characters: the narrowest column of five stories side by side, and the space between two


class Tell(click.Command):
    """A topic of several words without quotes gets the command that has them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args, given = True, list(args)
        more = super().parse_args(ctx, args)
        if more and not ctx.resilient_parsing:
            words = [ctx.params["topic"], *more]
            for word in words:
                given.remove(word)
            hint = f"Try: {shlex.join(['gatsby', 'tell', ' '.join(words), *given])}"
            raise UsageError("A topic of several words is in quotes", hint)
        return more


@click.command(cls=Tell)
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
@click.option("--all-levels", is_flag=True, help="Tell all five levels with the same seed, in columns if they fit.")
@click.option(
    "--seed", type=SEED, metavar="N", show_default="a new one, shown", help="The same seed gives the same story."
)
@click.option("--prompt", metavar="WORDS", is_eager=True, help="Write on from WORDS, as they are, instead of a story.")
@max_tokens_option
@json_option
@sampling_options
@model_option
def command(topic, level, all_levels, seed, prompt, max_tokens, as_json, temp, top_k, top_p, model) -> None:
    """Tell a story on TOPIC, character by character. With - the topic is read from stdin.

    A model of plain text writes on from a --prompt.

    \b
    Examples:
      gatsby tell "a dog and a balloon" --level 5
      gatsby tell "a lost kitten" --all-levels --seed 7
      gatsby tell "a lost kitten" --level 4 --json
      echo "a lost kitten" | gatsby tell -
      gatsby tell --prompt "Call me" --max-tokens 500 --model runs/book
    """
    if prompt is not None:
        if topic is not None or all_levels or as_json:
            raise click.UsageError("--prompt takes no TOPIC, no --all-levels and no --json")
        write_on(prompt, seed, max_tokens, model, temp=temp, top_k=top_k, top_p=top_p)
        return
    if topic == "-":
        topic = sys.stdin.buffer.read().decode("utf-8", "replace")
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
    told, obsession = Told(pieces, levels), loaded.obsession
    width = (shutil.get_terminal_size((100, 24)).columns - GAP * (len(levels) - 1)) // len(levels)
    if as_json:
        while told.step():
            pass
        click.echo(to_json(topic, [told.done[k] for k in levels], loaded))
    elif not all_levels:
        stream(told.texts(level), lambda text: click.echo(text, nl=False), obsession)
        click.echo()
    elif width >= COLUMN:
        side_by_side(told, width, obsession)
    else:
        one_after_another(told, obsession)
    for story in (told.done[k] for k in levels):
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


class Told:
    """The stories of several jobs while they are told: `texts` has one level as it comes, `done` the finished ones."""

    def __init__(self, pieces: "Iterable[tuple[Job, str, Story | None]]", levels: Sequence[int]):
        self.pieces, self.done = iter(pieces), {}
        self.waiting: dict[int, list[str]] = {level: [] for level in levels}

    def step(self) -> bool:
        """Take one piece; return whether there was one."""
        job, new, story = next(self.pieces, (None, "", None))
        if story:
            self.done[story.job.key] = story
        elif job:
            self.waiting[job.key].append(new)
        return job is not None

    def texts(self, level: int) -> Iterator[str]:
        """Yield the text of a level, those pieces first that came while another level was shown."""
        while True:
            waiting, self.waiting[level] = self.waiting[level], []
            yield from waiting
            if not waiting and (level in self.done or not self.step()):
                return


def one_after_another(told: Told, obsession: "Obsession") -> None:
    """Print each story below its level, the first one as it comes; meanwhile the others are told as well."""
    for level in told.waiting:
        click.echo(f"{obsession.tag}={level}")
        stream(told.texts(level), lambda text: click.echo(text, nl=False), obsession)
        click.echo(f"\n({mentions(told.done[level], obsession)})\n")


class Lines:
    """Wraps a text at `width` while it comes. `lines` are those that no later text changes."""

    def __init__(self, width: int):
        self.width, self.lines, self.line, self.word = width, [], "", ""

    def add(self, text: str) -> None:
        """Add text; a word counts once it is followed by white space."""
        for c in printable(text):
            if not c.isspace():
                self.word += c
                continue
            self._place()
            if c == "\n":
                self.lines.append(self.line)
                self.line = ""

    def close(self) -> None:
        """End the text: its last line is one of `lines` now."""
        self._place()
        self.lines.append(self.line)

    def _place(self) -> None:
        word, self.word = self.word, ""
        if word and self.line and len(self.line) + 1 + len(word) > self.width:
            self.lines.append(self.line)
            self.line = ""
        self.line += f" {word}" if word and self.line else word
        while len(self.line) > self.width:
            self.lines.append(self.line[: self.width])
            self.line = self.line[self.width :]


def side_by_side(told: Told, width: int, obsession: "Obsession") -> None:
    """Print the stories in columns of `width`, each row as soon as all of them have it."""
    columns = {level: Lines(width) for level in told.waiting}
    open_, shown = set(columns), 0
    click.echo(row(f"{obsession.tag}={level}".ljust(width) for level in columns) + "\n")
    more = True
    while more:
        more = told.step()
        for level in sorted(open_):
            columns[level].add("".join(told.waiting[level]))
            told.waiting[level] = []
            if level in told.done or not more:
                columns[level].close()
                open_.remove(level)
        # A row waits for the one below it: a mention may be on both.
        ready = min(
            (len(columns[level].lines) - 1 for level in open_), default=max(len(c.lines) for c in columns.values())
        )
        for n in range(shown, ready):
            click.echo(row(glowing_line(column.lines, n, width, obsession) for column in columns.values()))
        shown = max(shown, ready)
    click.echo("\n" + row(f"({mentions(told.done[level], obsession)})".ljust(width) for level in columns))


def row(cells: Iterable[str]) -> str:
    """Return cells of one width as a line."""
    return (" " * GAP).join(cells).rstrip()


def glowing_line(lines: Sequence[str], n: int, width: int, obsession: "Obsession") -> str:
    """Return line `n` filled up to `width`, spaces if there is none, with its mentions colored, on two lines or one."""
    around = [line.ljust(width) for line in lines[max(0, n - 1) : n + 2]]
    return glow("\n".join(around), obsession).split("\n")[min(n, 1)] if n < len(lines) else " " * width


def mentions(story: "Story", obsession: "Obsession") -> str:
    """Return how often a story mentions the obsession, with the noun."""
    return counted(obsession.count(story.text), "mention")
