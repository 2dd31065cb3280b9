"""`gatsby export`."""

from pathlib import Path

import click

from gatsby_mlx.cli.console import load_model, table


@click.command()
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--to", "kind", type=click.Choice(["native", "gpt2", "gguf", "onnx"]), required=True, help="The form to write."
)
@click.option("--out", type=click.Path(path_type=Path), show_default="DIR-FORM", help="Folder to write.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    show_default="float32; float16 with --quantize",
    help="How weights are stored.",
)
@click.option("--quantize", type=click.Choice(["8", "4"]), help="Bits of a weight, for mlx-lm (--to gpt2).")
@click.option("--allow-drift", is_flag=True, help="Put GELU's tanh form in the place of its erf form, and measure it.")
@click.option(
    "--n-topics",
    type=click.IntRange(0, 120),
    default=12,
    show_default=True,
    metavar="N",
    help="Topics of the dial that is read before and after --quantize; 0 reads none.",
)
def command(model, kind, out, dtype, quantize, allow_drift, n_topics) -> None:
    """Write a model in a form that other libraries run, with a card.

    gpt2 is for mlx_lm.generate, mlx_lm.server and transformers; gguf for llama.cpp (pip install "gatsby-mlx[gguf]");
    onnx for onnxruntime, in a browser too (pip install "gatsby-mlx[onnx]"); native is our own folder, at half the size
    with --dtype float16.

    \b
    Examples:
      gatsby export runs/story --to gpt2 --out story-gpt2
      gatsby export runs/story --to gpt2 --quantize 4 --out story-4bit
      gatsby export runs/story --to native --dtype float16 --out story-half
    """
    from gatsby_mlx.hub.export import DTYPES, Form, export, prepare
    from gatsby_mlx.hub.gpt2 import Quantised
    from gatsby_mlx.hub.place import check_free

    dtype = dtype or ("float16" if quantize else "float32")
    form = Form(kind, dtype, Quantised(int(quantize), DTYPES[dtype]) if quantize else None, allow_drift)
    out = out or Path(f"{str(model).rstrip('/')}-{kind}")
    check_free(out)
    ready = load_model(str(model))
    prepared = prepare(ready, form)
    if form.quantised and n_topics:
        prepared.notes.append(dials(prepared, n_topics))
    for note in prepared.notes:
        click.echo(note, err=True)
    export(prepared, out, form)
    click.echo(out)


def dials(prepared, n_topics: int) -> str:
    """Return the dial of a model and of what its stored weights stand for, on the same topics and seeds, as a table."""
    from gatsby_mlx.cli.evaluating import progress_line
    from gatsby_mlx.evaluation.dial import measure
    from gatsby_mlx.evaluation.stories import Plan, tell
    from gatsby_mlx.evaluation.topics import default_topics

    plan = Plan(default_topics(n_topics), seeds=1)
    rows = []
    for label, model in (("before", prepared.ready.model), ("after", prepared.measured)):
        dial = measure(tell(model, prepared.ready.tokenizer, plan, progress=progress_line()).stories)
        ended = sum(level.ended for level in dial.levels) / len(dial.levels)
        means = [f"{mean:.2f}" for mean in dial.means]
        rows.append([label, *means, f"{dial.spearman:.2f}", f"{100 * ended:.0f}%"])
    head = ["mentions at level", "1", "2", "3", "4", "5", "Spearman", "ended"]
    told = f"The dial before and after, {n_topics} topics, one story a level:"
    return f"{told}\n\n```\n{table(head, rows)}\n```"
