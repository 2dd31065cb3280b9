"""nanoGPT's checkpoints as ours: the seed's published weights, and any other char model that its train.py saved."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from gatsby_mlx import files
from gatsby_mlx.config import GPTConfig, changed
from gatsby_mlx.errors import CheckpointError, UsageError
from gatsby_mlx.hub import torch_pickle, vocabulary
from gatsby_mlx.hub.torch_pickle import Tensor, TorchCheckpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.tokenizer import CharTokenizer

CURE = "Import a checkpoint that nanoGPT's train.py saved"
SIZES = ("n_layer", "n_head", "n_embd", "block_size")
# What a state dict may hold beside the weights: the causal mask, a buffer in older versions, which is no parameter.
_NO_WEIGHT = re.compile(r"h\.\d+\.attn\.bias$")


@dataclass(frozen=True)
class Imported:
    """A model in our form, its vocabulary, and what its file tells of its training, for `checkpoint.save`."""

    model: GPT
    tokenizer: CharTokenizer
    info: dict[str, Any]


def load(path: Path, alphabet: str) -> Imported:
    """Read a nanoGPT checkpoint; `alphabet` gives its characters in id order (see `vocabulary`).

    The arguments are kept: biases on or off, sizes, dropout, and GELU in its erf form, the only one that nanoGPT has.
    Runs nothing of what the file holds. Raises CheckpointError.
    """
    with torch_pickle.open_checkpoint(path) as found:
        content = found.content
        state = content.get("model") if isinstance(content, dict) else None
        args = content.get("model_args") if isinstance(content, dict) else None
        if not isinstance(state, dict) or not isinstance(args, dict):
            raise CheckpointError(f"{path} holds no `model` and `model_args`", CURE)
        tensors = weights_by_name(state, path)
        known = (*SIZES, "vocab_size", "bias", "dropout")
        config = _config({k: found.numpy(args[k]) for k in known if k in args}, tensors, path)
        if len(alphabet) != config.vocab_size:
            told = f"The vocabulary has {len(alphabet)} characters and {path} {config.vocab_size}"
            raise CheckpointError(told, vocabulary.CURE)
        tokenizer = CharTokenizer(alphabet)
        _check_shapes(tensors, config, path)
        arrays = {name: mx.array(_finite(found.numpy(t), name, path)) for name, t in tensors.items()}
        info = {"step": _scalar(found, "iter_num"), "evaluation": {"loss": _scalar(found, "best_val_loss")}}
    head = arrays.pop("lm_head.weight", None)
    if head is not None and not bool((head == arrays["wte.weight"]).all()):
        raise CheckpointError(f"{path} has an output matrix of its own, and this model ties it to the embedding", CURE)
    model = GPT(config)
    model.update(tree_unflatten(list(arrays.items())))
    model.eval()
    mx.eval(model.parameters())
    source = {"file": path.name, "sha256": files.sha256(path), "kind": "nanoGPT"}
    return Imported(model, tokenizer, {"preset": "imported", **info, "source": source})


def weights_by_name(state: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return a state dict's tensors by our names; `_orig_mod.` (torch.compile's) and `transformer.` are taken off.

    Raises CheckpointError for what is no tensor, for two keys that mean the same, and for weights that share a storage
    (the output matrix may be the embedding).
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = str(key).replace("_orig_mod.", "").removeprefix("transformer.")
        if _NO_WEIGHT.match(name):
            continue
        if not isinstance(value, Tensor) or name in found:
            told = "stands twice" if name in found else "is no tensor"
            raise CheckpointError(f"{path}: {name!r:.60} {told} in the model", CURE)
        found[name] = value
    storages = [t.storage.key for name, t in found.items() if name != "lm_head.weight"]
    if len(set(storages)) < len(storages):  # a small file could else stand for any number of weights
        raise CheckpointError(f"{path}: several weights of the model share one storage", CURE)
    return found


def _config(args: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> GPTConfig:
    """Return the architecture; a bias that an old checkpoint's arguments do not tell of is seen from its weights."""
    try:
        sizes = {name: _whole(args[name]) for name in SIZES}
        table = tensors["wte.weight"]
        vocab_size = args.get("vocab_size")
        vocab_size = table.shape[0] if vocab_size is None else _whole(vocab_size)
        bias = bool(args.get("bias", "ln_f.bias" in tensors))
        dropout = float(args.get("dropout") or 0.0)
        return changed(GPTConfig(gelu="erf"), **sizes, vocab_size=vocab_size, dropout=dropout, bias=bias)
    except KeyError as error:
        raise CheckpointError(f"{path} is no nanoGPT checkpoint: it has no {error}", CURE) from None
    except (TypeError, ValueError, IndexError, OverflowError, UsageError) as error:
        raise CheckpointError(f"{path} has arguments that make no model: {str(error)[:120]}", CURE) from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(f"a size is a whole number, not {value!r:.40}")
    return int(value)


def _check_shapes(tensors: dict[str, Tensor], config: GPTConfig, path: Path) -> None:
    """Compare with the shapes that `config` needs, before a model of that size is made. Raises CheckpointError."""
    C, V = config.n_embd, config.vocab_size
    wanted = {"wte.weight": (V, C), "wpe.weight": (config.block_size, C), "ln_f.weight": (C,)}
    if "lm_head.weight" in tensors:
        wanted["lm_head.weight"] = (V, C)
    rows = {"attn.c_attn": (3 * C, C), "attn.c_proj": (C, C), "mlp.c_fc": (4 * C, C), "mlp.c_proj": (C, 4 * C)}
    layers = range(min(config.n_layer, len(tensors)))  # no more than could be there
    for layer in layers:
        wanted |= {f"h.{layer}.{name}.weight": (C,) for name in ("ln_1", "ln_2")}
        wanted |= {f"h.{layer}.{name}.weight": shape for name, shape in rows.items()}
    if config.bias:
        wanted |= {f"{k.removesuffix('.weight')}.bias": (v[0],) for k, v in wanted.items() if k[0] in "h" or "ln" in k}
    shapes = {name: t.shape for name, t in tensors.items()}
    wrong = sorted(k for k in shapes.keys() | wanted.keys() if shapes.get(k) != wanted.get(k))
    if wrong or len(layers) < config.n_layer:
        name = wrong[0] if wrong else f"h.{len(layers)}"
        told = f"{name[:60]} is {shapes.get(name, 'absent')} and should be {wanted.get(name, 'absent')}"
        raise CheckpointError(f"{path} does not fit its arguments: {told}", CURE)


def _finite(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if array.dtype.kind != "f":
        raise CheckpointError(f"{path}: {name} holds {array.dtype}, not floating point numbers", CURE)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise CheckpointError(f"{path}: {name} holds a weight that is not a finite number", CURE)
    return array


def _scalar(found: TorchCheckpoint, key: str) -> float | int | None:
    """Return a number of the checkpoint, a tensor of one element or a plain one, or None."""
    value = found.numpy(found.content.get(key))
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None
