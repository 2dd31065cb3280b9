"""Import nanoGPT's checkpoints: the weights of gatsby-nanogpt-2, and any character model that its train.py saved."""

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
from gatsby_mlx.hub.torch_pickle import Described, Tensor, TorchCheckpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.tokenizer import CharTokenizer

HINT = "Import a checkpoint that nanoGPT's train.py saved"
SIZES = ("n_layer", "n_head", "n_embd", "block_size")
# What a state dict may have beside the weights: the causal mask, which is a buffer in older versions.
_WRAPPERS = re.compile(r"^(?:module\.)+")  # DistributedDataParallel's, often inside or around torch.compile's _orig_mod
_BUFFER = re.compile(r"h\.\d+\.attn\.bias$")


@dataclass(frozen=True)
class Imported:
    """A model, its vocabulary, and what its file says of its training, as `checkpoint.save` takes them."""

    model: GPT
    tokenizer: CharTokenizer
    info: dict[str, Any]


def load(path: Path, alphabet: str) -> Imported:
    """Read a nanoGPT checkpoint; `alphabet` gives its characters in id order (see `vocabulary`).

    Sizes, dropout and biases are those of the file; GELU has the erf form, the only one that nanoGPT has. No code from
    the file is run. Raises CheckpointError.
    """
    with torch_pickle.open_checkpoint(path) as opened:
        content = opened.content
        state = content.get("model") if isinstance(content, dict) else None
        args = content.get("model_args") if isinstance(content, dict) else None
        args = args.fields if isinstance(args, Described) else args  # an argparse.Namespace
        if not isinstance(state, dict) or not isinstance(args, dict):
            raise CheckpointError(f"{path} has no `model` and `model_args`", HINT)
        tensors = weights_by_name(state, path)
        known = (*SIZES, "vocab_size", "bias", "dropout")
        config = _config({k: opened.numpy(args[k]) for k in known if k in args}, tensors, path)
        if len(alphabet) != config.vocab_size:
            message = f"The vocabulary has {len(alphabet)} characters, and {path} has {config.vocab_size}"
            raise CheckpointError(message, vocabulary.HINT)
        tokenizer = CharTokenizer(alphabet)
        _check_shapes(tensors, config, path)
        arrays = {name: mx.array(_finite(opened.numpy(t), name, path)) for name, t in tensors.items()}
        info = {"step": _scalar(opened, "iter_num"), "evaluation": {"loss": _scalar(opened, "best_val_loss")}}
    head = arrays.pop("lm_head.weight", None)
    if head is not None and not bool((head == arrays["wte.weight"]).all()):
        raise CheckpointError(f"{path} has a separate output matrix, and this model ties it to the embedding", HINT)
    model = GPT(config)
    model.update(tree_unflatten(list(arrays.items())))
    model.eval()
    mx.eval(model.parameters())
    source = {"file": path.name, "sha256": files.sha256(path), "kind": "nanoGPT"}
    return Imported(model, tokenizer, {"preset": "imported", **info, "source": source})


def weights_by_name(state: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return a state dict's tensors by their names here, without `_orig_mod.` (torch.compile's) and `transformer.`.

    Raises CheckpointError for a value that is not a tensor, for two keys with one meaning, and for weights that share a
    storage (except that the output matrix may be the embedding).
    """
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _WRAPPERS.sub("", str(key).replace("_orig_mod.", "")).removeprefix("transformer.")
        if _BUFFER.match(name):
            continue
        if not isinstance(value, Tensor) or name in tensors:
            fault = "occurs twice" if name in tensors else "is not a tensor"
            raise CheckpointError(f"{path}: {name!r:.60} {fault} in the model", HINT)
        tensors[name] = value
    storages = [t.storage.key for name, t in tensors.items() if name != "lm_head.weight"]
    if len(set(storages)) < len(storages):  # or else a small file could describe any number of weights
        raise CheckpointError(f"{path}: several weights of the model share one storage", HINT)
    return tensors


def _config(args: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> GPTConfig:
    """Return the architecture. An old checkpoint's arguments have no `bias`; then its weights show it."""
    try:
        sizes = {name: _whole(args[name]) for name in SIZES}
        table = tensors["wte.weight"]
        vocab_size = args.get("vocab_size")
        vocab_size = table.shape[0] if vocab_size is None else _whole(vocab_size)
        bias = bool(args.get("bias", "ln_f.bias" in tensors))
        dropout = float(args.get("dropout") or 0.0)
        return changed(GPTConfig(gelu="erf"), **sizes, vocab_size=vocab_size, dropout=dropout, bias=bias)
    except KeyError as error:
        raise CheckpointError(f"{path} is not a nanoGPT checkpoint: it has no {error}", HINT) from None
    except (TypeError, ValueError, IndexError, OverflowError, UsageError) as error:
        raise CheckpointError(f"{path} has arguments that describe no model: {str(error)[:120]}", HINT) from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(f"a size must be a whole number, not {value!r:.40}")
    return int(value)


def _check_shapes(tensors: dict[str, Tensor], config: GPTConfig, path: Path) -> None:
    """Check the shapes against `config`, before a model of that size is created. Raises CheckpointError."""
    C, V = config.n_embd, config.vocab_size
    wanted = {"wte.weight": (V, C), "wpe.weight": (config.block_size, C), "ln_f.weight": (C,)}
    if "lm_head.weight" in tensors:
        wanted["lm_head.weight"] = (V, C)
    matrices = {"attn.c_attn": (3 * C, C), "attn.c_proj": (C, C), "mlp.c_fc": (4 * C, C), "mlp.c_proj": (C, 4 * C)}
    layers = range(min(config.n_layer, len(tensors)))  # at most as many as the file can have
    for layer in layers:
        wanted |= {f"h.{layer}.{name}.weight": (C,) for name in ("ln_1", "ln_2")}
        wanted |= {f"h.{layer}.{name}.weight": shape for name, shape in matrices.items()}
    if config.bias:
        wanted |= {f"{k.removesuffix('.weight')}.bias": (v[0],) for k, v in wanted.items() if k[0] in "h" or "ln" in k}
    shapes = {name: t.shape for name, t in tensors.items()}
    wrong = sorted(k for k in shapes.keys() | wanted.keys() if shapes.get(k) != wanted.get(k))
    if wrong or len(layers) < config.n_layer:
        name = wrong[0] if wrong else f"h.{len(layers)}"
        fault = f"{name[:60]} is {shapes.get(name, 'absent')} and should be {wanted.get(name, 'absent')}"
        raise CheckpointError(f"{path} does not match its arguments: {fault}", HINT)


def _finite(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if array.dtype.kind != "f":
        raise CheckpointError(f"{path}: {name} has {array.dtype}, not floating point numbers", HINT)
    with np.errstate(over="ignore"):  # a float64 beyond the range of float32 becomes infinite, and is refused below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise CheckpointError(f"{path}: {name} has a weight that is not a finite number", HINT)
    return array


def _scalar(opened: TorchCheckpoint, key: str) -> float | int | None:
    """Return a number of the checkpoint, plain or a tensor of one element, or None if there is none."""
    value = opened.numpy(opened.content.get(key))
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None
