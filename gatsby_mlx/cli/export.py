"""`gatsby export`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import (
    PATH,
    check_room,
    force_option,
    json_option,
    load_model,
    long_command,
    table,
)

if TYPE_CHECKING:
    from gatsby_mlx.hub.export import Prepared


@click.command()
@click.argument("model", metavar="DIR", type=PATH)
@click.option(
    "--to", "kind", type=click.Choice(["native", "gpt2", "gguf", "onnx"]), required=True, help="Output format."
)
@click.option("--out", "-o", type=PATH, metavar="DIR", show_default="DIR-FORMAT", help="Output folder.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    show_default="float32; float16 with --quantize",
    help="Type of the stored weights.",
)
@click.option("--quantize", type=click.Choice(["8", "4"]), help="Bits of a quantized weight, for mlx-lm (--to gpt2).")
@click.option(
    "--allow-drift", is_flag=True, help="Replace the erf form of GELU by its tanh form, and measure the change."
)
@click.option(
    "--n-topics",
    type=click.IntRange(0, 120),
    default=12,
    show_default=True,
    metavar="N",
    help="Topics of the dial that is measured before and after --quantize; 0 is none.",
)
@force_option
@json_option
@long_command
def command(model, kind, out, dtype, quantize, allow_drift, n_topics, force, as_json) -> None:
    """Convert the model in DIR to a format of other libraries, with a card.

    gpt2 is for mlx_lm.generate, mlx_lm.server and transformers; gguf for llama.cpp; onnx for onnxruntime, also in a
    browser; native is a checkpoint folder, half as large with --dtype float16. In a checkout, pip install '.[gguf]'
    or '.[onnx]' installs what these two need.

    \b
    Examples:
      gatsby export runs/story --to gpt2 --out story-gpt2
      gatsby export runs/story --to gpt2 --quantize 4 --out story-4bit
      gatsby export runs/story --to native --dtype float16 --out story-half
    """
    from gatsby_mlx.hub.export import DTYPES, Form, export, prepare
    from gatsby_mlx.hub.gpt2 import Quantized

    dtype = dtype or ("float16" if quantize else "float32")
    form = Form(kind, dtype, Quantized(int(quantize), DTYPES[dtype]) if quantize else None, allow_drift)
    out = out or Path(f"{str(model).rstrip('/')}-{kind}")
    check_room(out, force)
    prepared = prepare(load_model(str(model)).checkpoint, form)
    if form.quantized and n_topics and not prepared.ready.is_prose:
        prepared.notes.append(dials(prepared, n_topics))
    for note in prepared.notes:
        click.echo(note, err=True)
    export(prepared, out, form, replace=force)
    facts = {"path": str(out), "format": kind, "dtype": dtype, "notes": prepared.notes}
    click.echo(json.dumps(facts, indent=1) if as_json else out)


def dials(prepared: "Prepared", n_topics: int) -> str:
    """Return a table of the model's dial with its weights as they were and as they are stored."""
    from gatsby_mlx import api
    from gatsby_mlx.cli.story_options import ProgressLine
    from gatsby_mlx.evaluation.dial import measure
    from gatsby_mlx.evaluation.stories import StoryPlan, tell

    obsession, topics = prepared.ready.obsession, api.evaluation_topics(api.Model(prepared.ready), n_topics)
    plan = StoryPlan(topics, seeds=1, obsession=obsession)
    rows = []
    for label, model in (("before", prepared.ready.model), ("after", prepared.measured)):
        stories = tell(model, prepared.ready.tokenizer, plan, progress=ProgressLine()).stories
        dial = measure(stories, obsession=obsession)
        ended = sum(level.ended for level in dial.levels) / len(dial.levels)
        means = [f"{mean:.2f}" for mean in dial.means]
        rows.append([label, *means, f"{dial.spearman:.2f}", f"{100 * ended:.0f}%"])
    head = ["mentions at level", "1", "2", "3", "4", "5", "Spearman", "ended"]
    title = f"The dial before and after, {len(topics)} topics, one story a level:"
    return f"{title}\n\n```\n{table(head, rows)}\n```"
