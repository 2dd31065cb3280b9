"""`gatsby import`."""

from pathlib import Path

import click


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--corpus", type=click.Path(path_type=Path), help="Text that it was trained on: it has the characters.")
@click.option("--vocab", type=click.Path(path_type=Path), help="A vocab.json or meta.pkl, in place of --corpus.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Checkpoint folder to write.")
def command(file: Path, corpus: Path | None, vocab: Path | None, out: Path) -> None:
    """Read a PyTorch checkpoint that nanoGPT's train.py saved, and write it as one of ours. PyTorch is not needed.

    FILE is read by an interpreter that can build tensors and nothing else: nothing in it is ever run.

    \b
    Examples:
      gatsby import ckpt.pt --corpus raw.txt --out models/seed
      gatsby import ckpt.pt --vocab meta.pkl --out models/seed
    """
    from gatsby_mlx.errors import UsageError

    if corpus and vocab:
        raise UsageError("--corpus and --vocab both tell the characters", "Give one of the two")
    from gatsby_mlx.hub import nanogpt, vocabulary
    from gatsby_mlx.hub.place import check_free
    from gatsby_mlx.model import checkpoint

    check_free(out)
    if corpus:
        alphabet = vocabulary.from_corpus(corpus)
    elif vocab:
        alphabet = vocabulary.from_file(vocab)
    else:
        raise UsageError("A PyTorch checkpoint has no characters of its own", vocabulary.CURE)
    found = nanogpt.load(file, alphabet)
    checkpoint.save(out, found.model, found.tokenizer, found.info)
    click.echo(out)
    click.echo(describe(found.model), err=True)


def describe(model) -> str:
    """Return a model's shape in one line."""
    c = model.config
    size = f"{c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, context {c.block_size}, {c.vocab_size} characters"
    return f"{size}, {'with' if c.bias else 'no'} biases, {c.gelu} GELU; {model.n_params():,} parameters"
