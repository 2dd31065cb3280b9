"""Write a model as a GGUF file of llama.cpp's `gpt2` architecture, with the `gguf` package of the same project.

Keys and names are those of that package's constants. llama.cpp requires a list of merges, which a character vocabulary
does not have. The file has one that joins two NUL bytes, which do not occur in text.
"""

from pathlib import Path

import mlx.core as mx
import numpy as np

from gatsby_mlx import files
from gatsby_mlx.errors import GatsbyError, UsageError
from gatsby_mlx.hub.gpt2 import with_biases
from gatsby_mlx.model.gpt import GPT, LAYER_NORM_EPS
from gatsby_mlx.tokenizer import CharTokenizer, byte_level

NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
NO_MERGE = "\u0100 \u0100"  # byte 0, as GPT-2 spells it, twice


def rename(name: str) -> str:
    """Return llama.cpp's name of a weight: `h.0.attn.c_attn.weight` is `blk.0.attn_qkv.weight`."""
    stem, _, part = name.rpartition(".")
    if stem.startswith("h."):
        _, layer, rest = stem.split(".", 2)
        return f"blk.{layer}.{NAMES[rest]}.{part}"
    return f"{NAMES[stem]}.{part}"


def write(path: Path, model: GPT, tokenizer: CharTokenizer, name: str, dtype: mx.Dtype = mx.float32) -> None:
    """Write a GGUF file. `dtype` is that of the matrices, float32 or float16; vectors and positions stay float32.

    Raises UsageError for an erf model, for another dtype, and for a vocabulary that is not ASCII (a character of
    several bytes would need merges). Raises GatsbyError if the `gguf` package is missing.
    """
    if model.config.gelu != "tanh":
        raise UsageError(
            "llama.cpp has only the tanh form of GELU, and this model uses the erf form", "Add --allow-drift"
        )
    if not tokenizer.alphabet.isascii():
        raise UsageError("A GGUF file needs an ASCII vocabulary, and this model's is not", "Try --to gpt2 or --to onnx")
    if dtype not in (mx.float32, mx.float16):
        raise UsageError(f"A GGUF file can be written in float32 or float16, not {dtype}", "Try --dtype float16")
    try:
        import gguf
    except ImportError as error:
        hint = "Install it from a checkout: pip install '.[gguf]'"
        raise GatsbyError(f"A GGUF file needs the gguf package ({error})", hint) from None
    c = model.config
    writer = gguf.GGUFWriter(None, "gpt2")
    writer.add_name(name)
    writer.add_block_count(c.n_layer)
    writer.add_context_length(c.block_size)
    writer.add_embedding_length(c.n_embd)
    writer.add_feed_forward_length(4 * c.n_embd)
    writer.add_head_count(c.n_head)
    writer.add_layer_norm_eps(LAYER_NORM_EPS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if dtype == mx.float16 else gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([byte_level(character) for character in tokenizer.alphabet])
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokenizer))
    writer.add_token_merges([NO_MERGE])
    writer.add_eos_token_id(tokenizer.end_id)
    writer.add_bos_token_id(tokenizer.end_id)
    writer.add_add_bos_token(False)
    for key, value in with_biases(model).items():
        in_float32 = value.ndim < 2 or key == "wpe.weight"
        writer.add_tensor(rename(key), np.array(value if in_float32 else value.astype(dtype)))
    with files.output_errors(str(path)):
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
