"""Write a model as a GPT-2, which mlx-lm, transformers and llama.cpp run without this package.

It differs from a native checkpoint: a GPT-2 always has biases (zeros if the model has none), stores its four matrices
[in, out], and only has the tanh form of GELU. Names and keys are those of transformers' GPT2Config and GPT2LMHeadModel.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from gatsby_mlx import files
from gatsby_mlx.config import changed
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.gpt import GPT, LAYER_NORM_EPS
from gatsby_mlx.tokenizer import CharTokenizer

MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
GROUP = 64  # weights that share a scale: the default of mlx-lm


@dataclass(frozen=True)
class Quantized:
    """How the blocks' matrices are stored: in `bits` (8 or 4) per weight, with a scale and a bias for each GROUP.

    Scales, biases and everything else are stored in `dtype`.
    """

    bits: int
    dtype: mx.Dtype = mx.float16

    def check(self, model: GPT) -> None:
        """Raise UsageError for other bits, and for a model whose width is not a multiple of GROUP."""
        if self.bits not in (4, 8):
            raise UsageError(f"Weights can be quantized to 8 or 4 bits, not {self.bits}", "Try --quantize 8")
        if model.config.n_embd % GROUP:
            message = f"Weights are quantized in groups of {GROUP}, and this model is {model.config.n_embd} wide"
            raise UsageError(message, "Leave --quantize out: the model is small anyway")

    def parts(self, weight: mx.array) -> dict[str, mx.array]:
        """Return a matrix [out, in] as mlx.nn.QuantizedLinear's weight, scales and biases."""
        packed, scales, *biases = mx.quantize(weight.astype(self.dtype), group_size=GROUP, bits=self.bits)
        return {"weight": packed, "scales": scales, "biases": biases[0]}

    def applied(self, model: GPT) -> GPT:
        """Return a float32 model with the values of the stored weights, to measure what quantizing changes."""
        self.check(model)
        arrays = {name: value.astype(self.dtype) for name, value in model.named().items()}
        for name in matrices(model):
            part = self.parts(arrays[f"{name}.weight"])
            arrays[f"{name}.weight"] = mx.dequantize(
                part["weight"], part["scales"], part["biases"], group_size=GROUP, bits=self.bits
            )
        return _with_arrays(model, {name: value.astype(mx.float32) for name, value in arrays.items()})


def matrices(model: GPT) -> list[str]:
    """Return the names of the blocks' matrices, without `.weight`."""
    return [f"h.{layer}.{name}" for layer in range(model.config.n_layer) for name in MATRICES]


def with_tanh(model: GPT) -> GPT:
    """Return a model with the tanh form of GELU and the weights of `model`."""
    return _with_arrays(model, model.named(), gelu="tanh")


def _with_arrays(model: GPT, arrays: dict[str, mx.array], **changes: Any) -> GPT:
    other = GPT(changed(model.config, **changes))
    other.update(tree_unflatten(list(arrays.items())))
    other.eval()
    mx.eval(other.parameters())
    return other


def with_biases(model: GPT) -> dict[str, mx.array]:
    """Return the weights by name, matrices [out, in], with zeros for biases that the model does not have."""
    arrays = model.named()
    for name, value in list(arrays.items()):
        if name.startswith(("h.", "ln_f")) and name.endswith(".weight"):
            arrays.setdefault(f"{name.removesuffix('.weight')}.bias", mx.zeros(value.shape[0]))
    return arrays


def write(
    folder: Path,
    model: GPT,
    tokenizer: CharTokenizer,
    dtype: mx.Dtype = mx.float32,
    quantized: Quantized | None = None,
) -> None:
    """Write config.json, generation_config.json, model.safetensors and the tokenizer's files into `folder`.

    Weights are stored in `dtype`, or as `quantized` says. Only mlx-lm can read a quantized folder: its names begin
    with `model.`, like those that mlx-lm's conversions write. Raises UsageError for an erf model (see `with_tanh`) and
    for one that cannot be quantized.
    """
    if model.config.gelu != "tanh":
        raise UsageError(
            "A GPT-2 has only the tanh form of GELU, and this model uses the erf form", "Add --allow-drift"
        )
    dtype = quantized.dtype if quantized else dtype
    arrays = {name: value.astype(dtype) for name, value in with_biases(model).items()}
    config = configuration(model, tokenizer, dtype)
    if quantized:
        quantized.check(model)
        for name in matrices(model):
            parts = quantized.parts(arrays.pop(f"{name}.weight"))
            arrays |= {f"{name}.{part}": value for part, value in parts.items()}
        arrays = {f"model.{name}": value for name, value in arrays.items()}
        quantization = {"group_size": GROUP, "bits": quantized.bits, "mode": "affine"}
        config |= {"quantization": quantization, "quantization_config": quantization}
    else:
        for name in matrices(model):
            arrays[f"{name}.weight"] = mx.contiguous(arrays[f"{name}.weight"].T)
    with files.output_errors(str(folder)):
        checkpoint.save_arrays(folder / "model.safetensors", arrays)
        _write_json(folder / "config.json", config)
        ends = {"eos_token_id": tokenizer.end_id, "pad_token_id": tokenizer.end_id}
        _write_json(folder / "generation_config.json", {**ends, "max_length": model.config.block_size})
        (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
        _write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": model.config.block_size,
                "clean_up_tokenization_spaces": False,
            },
        )


def configuration(model: GPT, tokenizer: CharTokenizer, dtype: mx.Dtype) -> dict[str, Any]:
    """Return the config.json of a GPT-2. The end token is `[`, with which the next document's control line begins."""
    c = model.config
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_ctx": c.block_size,
        "n_positions": c.block_size,
        "n_embd": c.n_embd,
        "n_head": c.n_head,
        "n_layer": c.n_layer,
        "n_inner": 4 * c.n_embd,
        "vocab_size": c.vocab_size,
        "layer_norm_epsilon": LAYER_NORM_EPS,
        "activation_function": "gelu_new",
        "attn_pdrop": c.dropout,
        "embd_pdrop": c.dropout,
        "resid_pdrop": c.dropout,
        "bos_token_id": tokenizer.end_id,
        "eos_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.end_id,
        "tie_word_embeddings": True,
        "dtype": str(dtype).removeprefix("mlx.core."),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


@dataclass(frozen=True)
class Drift:
    """How two models differ on `n_chars` characters of the first one's greedy text.

    `logits` is the largest difference of two logits, `divergence` the mean Kullback-Leibler divergence in nats per
    character, `agreement` the share (0 to 1) of characters for which both have the same best guess.
    """

    logits: float
    divergence: float
    agreement: float
    n_chars: int

    def line(self) -> str:
        """Return the figures in words."""
        return (
            f"logits differ by at most {self.logits:.1e}, distributions by {self.divergence:.1e} nats per character, "
            f"and {100 * self.agreement:.2f}% of the greedy characters agree, over {self.n_chars:,} characters"
        )


def drift(model: GPT, other: GPT, tokenizer: CharTokenizer, primes: list[str]) -> Drift:
    """Compare two models of one vocabulary on the stories that the first one tells greedily after each of `primes`."""
    from gatsby_mlx.model.decode import decode
    from gatsby_mlx.story.sampling import Job, Sampling

    stories = decode(model, tokenizer, [Job(p, seed=0) for p in primes], Sampling(temp=0), max_chars=400)
    largest, divergence, agreed, n = 0.0, 0.0, 0, 0
    for story in stories:
        ids = tokenizer.encode((story.job.prime + story.text)[: model.config.block_size])
        one, two = (np.array(m(mx.array([ids])))[0].astype(np.float64) for m in (model, other))
        largest = max(largest, float(np.abs(one - two).max()))
        p, q = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (one, two))
        divergence += float((np.exp(p) * (p - q)).sum())
        agreed += int((one.argmax(-1) == two.argmax(-1)).sum())
        n += len(ids)
    return Drift(largest, divergence / n, agreed / n, n)
