"""Export a model to a folder with a card, in one of four forms: native, gpt2, gguf or onnx."""

import shutil
from dataclasses import dataclass
from dataclasses import replace as with_changes
from pathlib import Path

import mlx.core as mx

from gatsby_mlx import files
from gatsby_mlx.errors import UsageError
from gatsby_mlx.files import check_free
from gatsby_mlx.hub import card, gguf_form, gpt2, onnx_form
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.gpt import GPT

FORMS = ("native", "gpt2", "gguf", "onnx")
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
DRIFT_TOPICS = ("a dog and a balloon", "a lost kitten")


@dataclass(frozen=True)
class Form:
    """What to write. `quantized` is for gpt2; `allow_drift` (another GELU) is for gpt2 and gguf.

    Raises UsageError for options that exclude each other.
    """

    kind: str
    dtype: str = "float32"
    quantized: gpt2.Quantized | None = None
    allow_drift: bool = False

    def __post_init__(self):
        if self.kind not in FORMS or self.dtype not in DTYPES:
            raise UsageError(f"There is no form {self.kind!r} in {self.dtype!r}", f"Choose one of {', '.join(FORMS)}")
        if self.quantized and self.kind != "gpt2":
            raise UsageError(f"Weights can be quantized only for mlx-lm, not for {self.kind}", "Add --to gpt2")
        if self.kind == "onnx" and self.dtype != "float32":
            raise UsageError("An ONNX graph can be written only in float32", "Leave --dtype out")


@dataclass(frozen=True)
class Prepared:
    """What `export` writes.

    `ready` has the form's GELU. `measured` is the model with the stored weights' values: the same, unless they are
    quantized. `notes` for the card say what the form changed.
    """

    ready: Checkpoint
    measured: GPT
    notes: list[str]


def prepare(ready: Checkpoint, form: Form) -> Prepared:
    """Prepare a model for `form`, and measure what that changes.

    Raises UsageError for an erf model in a form that only has the tanh GELU. With `allow_drift` the GELU is replaced,
    and the difference is measured and noted.
    """
    model, notes = ready.model, []
    measured = model
    primes = ready.primes(DRIFT_TOPICS)
    if model.config.gelu == "erf" and form.kind in ("gpt2", "gguf"):
        if not form.allow_drift:
            message = f"This model uses the erf form of GELU, and {form.kind} has only the tanh form"
            raise UsageError(message, "Export it with --allow-drift, which measures the difference, or --to onnx")
        model = measured = gpt2.with_tanh(model)
        drift = gpt2.drift(ready.model, model, ready.tokenizer, primes).line()
        notes.append(f"It has the tanh form of GELU, and was trained with the erf form: {drift}.")
    if form.quantized:
        form.quantized.check(model)
        measured = form.quantized.applied(model)
        drift = gpt2.drift(model, measured, ready.tokenizer, primes).line()
        notes.append(f"The blocks' matrices are stored in {form.quantized.bits} bits, groups of {gpt2.GROUP}: {drift}.")
    elif form.dtype != "float32":
        notes.append(f"Weights stored in {form.dtype}.")
    return Prepared(with_changes(ready, model=model), measured, notes)


def export(prepared: Prepared, out: Path, form: Form, replace: bool = False) -> None:
    """Write a model and its card to the folder `out`, completely or not at all. With `replace`, `out` need not be free.

    Raises OutputError, UsageError, and GatsbyError if a package that the form needs is missing.
    """
    if not replace:
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
    """Write the files of a form into an existing folder."""
    model, tokenizer, dtype = ready.model, ready.tokenizer, DTYPES[form.dtype]
    if form.kind == "native":
        checkpoint.write(folder, model, tokenizer, ready.info, dtype)
    elif form.kind == "gpt2":
        gpt2.write(folder, model, tokenizer, dtype, form.quantized)
    elif form.kind == "gguf":
        gguf_form.write(folder / "model.gguf", model, tokenizer, name, dtype)
    else:
        onnx_form.write(folder, model, tokenizer)
