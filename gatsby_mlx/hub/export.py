"""A model in a form of choice, in a folder of its own with a card: native, gpt2, gguf or onnx."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from gatsby_mlx import files, prime
from gatsby_mlx.errors import UsageError
from gatsby_mlx.hub import card, gguf_form, gpt2, onnx_form
from gatsby_mlx.hub.place import check_free
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.gpt import GPT

FORMS = ("native", "gpt2", "gguf", "onnx")
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
DRIFT_TOPICS = ("a dog and a balloon", "a lost kitten")


@dataclass(frozen=True)
class Form:
    """What to write. `quantised` and another GELU (`allow_drift`) are for gpt2; the latter for gguf too.

    Raises UsageError for what does not go together.
    """

    kind: str
    dtype: str = "float32"
    quantised: gpt2.Quantised | None = None
    allow_drift: bool = False

    def __post_init__(self):
        if self.kind not in FORMS or self.dtype not in DTYPES:
            raise UsageError(f"There is no form {self.kind!r} in {self.dtype!r}", f"Choose one of {', '.join(FORMS)}")
        if self.quantised and self.kind != "gpt2":
            raise UsageError(f"Weights are quantised for mlx-lm, not for {self.kind}", "Add --to gpt2")
        if self.kind == "onnx" and self.dtype != "float32":
            raise UsageError("An ONNX graph is written in float32 here", "Leave --dtype out")


@dataclass(frozen=True)
class Prepared:
    """What `export` writes (`ready`, with the form's GELU), what its stored weights stand for (`measured`: the same
    unless they are quantised), and `notes` for its card on what the form changed."""

    ready: Checkpoint
    measured: GPT
    notes: list[str]


def prepare(ready: Checkpoint, form: Form) -> Prepared:
    """Make a model ready for `form`, and measure what that costs.

    Raises UsageError for an erf model in a form that knows tanh only, unless `allow_drift`: the difference is then
    measured and noted.
    """
    model, notes = ready.model, []
    measured = model
    primes = [prime.build(t, k, alphabet=ready.tokenizer.alphabet) for t in DRIFT_TOPICS for k in prime.LEVELS]
    if model.config.gelu == "erf" and form.kind in ("gpt2", "gguf"):
        if not form.allow_drift:
            told = f"This model has GELU in its erf form, and {form.kind} knows its tanh form only"
            raise UsageError(told, "Export it with --allow-drift, which measures the difference, or --to onnx")
        model = measured = gpt2.with_tanh(model)
        seen = gpt2.drift(ready.model, model, ready.tokenizer, primes).line()
        notes.append(f"GELU in its tanh form, where the model was trained with its erf form: {seen}.")
    if form.quantised:
        form.quantised.check(model)
        measured = form.quantised.applied(model)
        seen = gpt2.drift(model, measured, ready.tokenizer, primes).line()
        notes.append(f"The blocks' matrices in {form.quantised.bits} bits, groups of {gpt2.GROUP}: {seen}.")
    elif form.dtype != "float32":
        notes.append(f"Weights stored in {form.dtype}.")
    return Prepared(replace(ready, model=model), measured, notes)


def export(prepared: Prepared, out: Path, form: Form) -> None:
    """Write a model in its form to the folder `out`, as a whole or not at all, with a card.

    Raises OutputError, UsageError and GatsbyError (a package that the form needs is missing).
    """
    check_free(out)
    staged = files.staging_folder(out)
    try:
        with files.output_errors(str(out)):
            write(staged, prepared.ready, form, out.name)
            text = card.model_card(prepared.ready, form.kind, out.name, prepared.notes)
            (staged / card.NAME).write_text(text, "utf-8")
        files.publish_folder(staged, out)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def write(folder: Path, ready: Checkpoint, form: Form, name: str) -> None:
    """Write the form's files into an existing folder."""
    model, tokenizer, dtype = ready.model, ready.tokenizer, DTYPES[form.dtype]
    if form.kind == "native":
        checkpoint.write(folder, model, tokenizer, ready.info, dtype)
    elif form.kind == "gpt2":
        gpt2.write(folder, model, tokenizer, dtype, form.quantised)
    elif form.kind == "gguf":
        gguf_form.write(folder / "model.gguf", model, tokenizer, name, dtype)
    else:
        onnx_form.write(folder, model, tokenizer)
