"""`gatsby import`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import PATH, check_room, force_option, json_option, needed_out_option
from gatsby_mlx.story.english import counted

if TYPE_CHECKING:
    from gatsby_mlx.model.gpt import GPT


@click.command()
@click.argument("file", metavar="FILE", type=PATH)
@click.option("--corpus", type=PATH, metavar="FILE", help="The text that it was trained on, for its characters.")
@click.option("--vocab", type=PATH, metavar="FILE", help="A vocab.json or meta.pkl, instead of --corpus.")
@needed_out_option("Checkpoint folder to write.")
@force_option
@json_option
def command(file: Path, corpus: Path | None, vocab: Path | None, out: Path, force: bool, as_json: bool) -> None:
    """Convert a PyTorch checkpoint of nanoGPT's train.py to a checkpoint of gatsby. PyTorch is not needed.

    FILE is read by an interpreter that can only build tensors: no code in it is ever run.

    \b
    Examples:
      gatsby import ckpt.pt --corpus raw.txt --out models/baseline
      gatsby import ckpt.pt --vocab meta.pkl --out models/baseline
    """
    from gatsby_mlx.errors import UsageError

    if corpus and vocab:
        raise UsageError("--corpus and --vocab both give the characters", "Use one of them")
    from gatsby_mlx.hub import nanogpt, vocabulary
    from gatsby_mlx.model import checkpoint

    check_room(out, force)
    if corpus:
        alphabet = vocabulary.from_corpus(corpus)
    elif vocab:
        alphabet = vocabulary.from_file(vocab)
    else:
        raise UsageError("A PyTorch checkpoint does not contain its characters", vocabulary.HINT)
    imported = nanogpt.load(file, alphabet)
    checkpoint.save(out, imported.model, imported.tokenizer, imported.info)
    shape = {"architecture": asdict(imported.model.config), "parameters": imported.model.n_params()}
    click.echo(json.dumps({"path": str(out), **shape}, indent=1) if as_json else out)
    click.echo(describe(imported.model), err=True)


def describe(model: "GPT") -> str:
    """Return a model's shape in one line."""
    c = model.config
    shape = f"{counted(c.n_layer, 'layer')}, {counted(c.n_head, 'head')}, {c.n_embd} wide, context {c.block_size}"
    size = f"{shape}, {c.vocab_size} characters"
    return f"{size}, {'with' if c.bias else 'no'} biases, {c.gelu} GELU; {model.n_params():,} parameters"
