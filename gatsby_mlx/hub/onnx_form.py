"""Write a model as an ONNX graph, for onnxruntime in a browser or elsewhere: one step of decoding with its cache.

    inputs   input_ids  int64   [B, T]                 the new characters
             past       float32 [L, 2, B, H, P, D]     keys and values of the P characters before; P is 0 at first
    outputs  logits     float32 [B, T, V]              after each new character
             present    float32 [L, 2, B, H, P + T, D] the next step's `past`

P + T must not exceed the context. The graph is built node by node from the weights, without PyTorch. The operators are
those of ONNX opset 20, the first with Gelu.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx import files
from gatsby_mlx.errors import GatsbyError
from gatsby_mlx.model.gpt import GPT, LAYER_NORM_EPS
from gatsby_mlx.tokenizer import CharTokenizer

OPSET = 20
IR_VERSION = 10  # what onnxruntime 1.18 and its browser build read


class _Graph:
    """Nodes and constants in order. Each method adds one and returns the name of its output."""

    def __init__(self, helper: Any, numpy_helper: Any):
        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = self.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def split(self, value: str, n: int, axis: int) -> list[str]:
        outputs = [f"{value}_part{i}" for i in range(n)]
        self.nodes.append(self.helper.make_node("Split", [value], outputs, axis=axis, num_outputs=n))
        return outputs


def build(model: GPT) -> Any:
    """Return the checked graph as an onnx.ModelProto. Raises GatsbyError if the `onnx` package is missing."""
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError as error:
        hint = "Install it from a checkout: pip install '.[onnx]'"
        raise GatsbyError(f"An ONNX file needs the onnx package ({error})", hint) from None
    c = model.config
    g = _Graph(helper, numpy_helper)
    w = {name: g.constant(name, np.array(value)) for name, value in model.named().items()}
    length, past_length = _lengths(g)
    x = g.add("Add", g.add("Gather", w["wte.weight"], "input_ids"), _positions(g, w, length, past_length))
    visible = _mask(g, length, past_length)
    layers = g.split("past", c.n_layer, axis=0) if c.n_layer > 1 else ["past"]
    present = []
    for layer, past in enumerate(layers):
        x, cache = _block(g, w, f"h.{layer}", x, past, visible, model)
        present.append(cache)
    x = _norm(g, w, "ln_f", x)
    g.add("MatMul", x, g.add("Transpose", w["wte.weight"], perm=[1, 0]), output="logits")
    g.add("Concat", *present, output="present", axis=0)

    def value(name: str, kind: int, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, kind, list(shape))

    H, D = c.n_head, c.n_embd // c.n_head
    graph = helper.make_graph(
        g.nodes,
        "gatsby",
        [
            value("input_ids", TensorProto.INT64, "B", "T"),
            value("past", TensorProto.FLOAT, c.n_layer, 2, "B", H, "P", D),
        ],
        [
            value("logits", TensorProto.FLOAT, "B", "T", c.vocab_size),
            value("present", TensorProto.FLOAT, c.n_layer, 2, "B", H, "S", D),
        ],
        list(g.constants.values()),
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="gatsby-mlx")
    proto.ir_version = IR_VERSION
    helper.set_model_props(proto, {"block_size": str(c.block_size)})
    checker.check_model(proto, full_check=True)
    return proto


def _lengths(g: _Graph) -> tuple[str, str]:
    """Return T and P, each [1]."""
    ids, past = g.add("Shape", "input_ids"), g.add("Shape", "past")
    return g.add("Slice", ids, g.ints(1), g.ints(2)), g.add("Slice", past, g.ints(4), g.ints(5))


def _range(g: _Graph, begin: str, end: str) -> str:
    scalars = [g.add("Squeeze", v, g.ints(0)) for v in (begin, end)]
    one = g.constant("one", np.array(1, np.int64))
    return g.add("Range", *scalars, one)


def _positions(g: _Graph, w: dict[str, str], length: str, past: str) -> str:
    """Return the position embeddings [T, C] of P .. P + T - 1."""
    return g.add("Gather", w["wpe.weight"], _range(g, past, g.add("Add", past, length)))


def _mask(g: _Graph, length: str, past: str) -> str:
    """Return what is added to scores [T, P + T]: 0, or a large negative number for a key after its query."""
    total = g.add("Add", past, length)
    keys = g.add("Unsqueeze", _range(g, g.ints(0), total), g.ints(0))
    queries = g.add("Unsqueeze", _range(g, past, total), g.ints(1))
    zero, far = (g.constant(n, np.array(v, np.float32)) for n, v in (("zero", 0.0), ("far", -1e9)))
    return g.add("Where", g.add("LessOrEqual", keys, queries), zero, far)


def _norm(g: _Graph, w: dict[str, str], name: str, x: str) -> str:
    inputs = [w[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in w]
    return g.add("LayerNormalization", x, *inputs, axis=-1, epsilon=LAYER_NORM_EPS)


def _linear(g: _Graph, w: dict[str, str], name: str, x: str) -> str:
    y = g.add("MatMul", x, g.add("Transpose", w[f"{name}.weight"], perm=[1, 0]))
    return g.add("Add", y, w[f"{name}.bias"]) if f"{name}.bias" in w else y


def _block(g: _Graph, w: dict[str, str], h: str, x: str, past: str, visible: str, model: GPT) -> tuple[str, str]:
    """Return a block's output [B, T, C] and its keys and values [1, 2, B, H, P + T, D]."""
    c = model.config
    H, D = c.n_head, c.n_embd // c.n_head
    qkv = _linear(g, w, f"{h}.attn.c_attn", _norm(g, w, f"{h}.ln_1", x))
    heads = g.add("Reshape", qkv, g.ints(0, 0, 3, H, D))
    heads = g.add("Transpose", heads, perm=[2, 0, 3, 1, 4])  # [3, B, H, T, D]
    q, k, v = (g.add("Squeeze", part, g.ints(0)) for part in g.split(heads, 3, axis=0))
    new = g.add("Concat", *(g.add("Unsqueeze", part, g.ints(0, 1)) for part in (k, v)), axis=1)
    cache = g.add("Concat", past, new, axis=4)
    keys, values = (g.add("Squeeze", part, g.ints(0, 1)) for part in g.split(cache, 2, axis=1))
    scale = g.constant("scale", np.array(D**-0.5, np.float32))
    scores = g.add("MatMul", g.add("Mul", q, scale), g.add("Transpose", keys, perm=[0, 1, 3, 2]))
    weights = g.add("Softmax", g.add("Add", scores, visible), axis=-1)
    y = g.add("Transpose", g.add("MatMul", weights, values), perm=[0, 2, 1, 3])
    y = _linear(g, w, f"{h}.attn.c_proj", g.add("Reshape", y, g.ints(0, 0, c.n_embd)))
    x = g.add("Add", x, y)
    hidden = _linear(g, w, f"{h}.mlp.c_fc", _norm(g, w, f"{h}.ln_2", x))
    hidden = g.add("Gelu", hidden, approximate="tanh" if c.gelu == "tanh" else "none")
    return g.add("Add", x, _linear(g, w, f"{h}.mlp.c_proj", hidden)), cache


def write(folder: Path, model: GPT, tokenizer: CharTokenizer) -> None:
    """Write model.onnx, tokenizer.json, and vocab.json (the characters in id order, for web pages) into `folder`."""
    data = build(model).SerializeToString()
    vocabulary = {"characters": list(tokenizer.alphabet), "end_id": tokenizer.end_id}
    vocabulary["block_size"] = model.config.block_size
    with files.output_errors(str(folder)):
        (folder / "model.onnx").write_bytes(data)
        (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False, indent=1) + "\n", "utf-8")
