"""The architectures of the four models as tiny random models, made with mlx-lm's classes and saved to disk."""

import copy
import json
from pathlib import Path

V = 320
_TEXT = {"model_type": "ministral3", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
_TEXT |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5, "vocab_size": V}
_ROPE = {"type": "yarn", "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0}
_ROPE |= {"original_max_position_embeddings": 16384, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}
_TEXT |= {"max_position_embeddings": 262144, "tie_word_embeddings": False, "rope_parameters": _ROPE}
_OLMO = {"model_type": "olmo3", "hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 128, "vocab_size": V}
_OLMO |= {"num_attention_heads": 4, "rms_norm_eps": 1e-6, "max_position_embeddings": 512, "sliding_window": 16}
_GEMMA = {"model_type": "gemma4_text", "hidden_size": 64, "num_hidden_layers": 6, "intermediate_size": 64}
_GEMMA |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_global_key_value_heads": 1, "head_dim": 16}
_GEMMA |= {"global_head_dim": 32, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "sliding_window": 16}
_GEMMA |= {"attention_k_eq_v": True, "use_double_wide_mlp": False, "enable_moe_block": True, "num_experts": 4}
_GEMMA |= {"top_k_experts": 2, "moe_intermediate_size": 64}
_GEMMA |= {"layer_types": ["sliding_attention"] * 5 + ["full_attention"]}
_GRANITE = {"model_type": "granite", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
_GRANITE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": V}
_GRANITE |= {"logits_scaling": 16.0, "attention_multiplier": 0.0078125, "embedding_multiplier": 12.0}
_GRANITE |= {"residual_multiplier": 0.22, "max_position_embeddings": 512, "attention_bias": False, "mlp_bias": False}
CONFIGS = {
    "olmo": {**_OLMO, "rope_theta": 500000},
    "ministral": {"model_type": "mistral3", "text_config": _TEXT},
    "gemma": {"model_type": "gemma4", "vocab_size": V, "text_config": _GEMMA},
    "granite": {**_GRANITE, "rope_theta": 10000000},
}
PLAIN = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# A template that thinks unless `enable_thinking` is false, as those of Gemma 4 and Qwen 3 do.
THINKING = PLAIN.replace(
    "<|assistant|>{% endif",
    "<|assistant|>{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}{% endif",
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + PLAIN
BROKEN = "{{ raise_exception('torn') }}"
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<think>", "</think>"]


# Words that a tokenizer has beside its bytes, so that a random model writes some.
WORDS = """the a and but then she he it was had saw went to of in on at with for her his from into looked ran sat came
took gave said found made felt small big red blue old new cat dog tree road sea boat day night wind rain door""".split()


def save(
    folder: Path, name: str, template: str | None = PLAIN, seed: int = 1, words: tuple[str, ...] | list[str] = ()
) -> Path:
    """Save a random model of the architecture `name` with a byte-level tokenizer to `folder`; return `folder`.

    The tokenizer has tokens for `words` and a space, too.
    """
    from gatsby_mlx import device

    device.prepare()
    import mlx.core as mx
    from mlx_lm.utils import _get_classes, save_config, save_model

    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(CONFIGS[name]) | {"eos_token_id": 256}
    model_class, args = _get_classes(config)
    mx.random.seed(seed)
    model = model_class(args.from_dict(copy.deepcopy(config)))
    mx.eval(model.parameters())
    save_model(folder, model)
    save_config(config, folder / "config.json")
    tokenizer(template, words).save_pretrained(folder)
    return folder


def tokenizer(template: str | None, words: tuple[str, ...] | list[str] = ()):
    """Return a byte-level tokenizer with the special tokens, the chat template `template` and `words`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIAL)
    core.add_tokens([f" {word}" for word in words])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    tokenizer.chat_template = template
    return tokenizer


def break_index(folder: Path) -> None:
    """Write an index that lists a missing file."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-9.safetensors"}}))
