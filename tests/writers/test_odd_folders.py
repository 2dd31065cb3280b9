"""A model's folder as it comes from others: a chat template in a file of its own."""

import json
from pathlib import Path

import pytest
from tiny import PLAIN, save

from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import mlx_lm

OTHER = PLAIN.replace("<|assistant|>", "<|assistant|>other")


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A model whose tokenizer has no chat template."""
    return save(tmp_path_factory.mktemp("bare") / "m", "granite", template=None)


def rendered(folder: Path) -> str:
    _, tokenizer = mlx_lm.load(folder, "mine")
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )


def test_a_template_beside_the_tokenizer_is_used_and_the_tokenizers_own_wins(bare):
    beside = bare / "chat_template.json"
    assert not mlx_lm.load(bare, "mine")[1].has_chat_template
    beside.write_bytes(b"\xef\xbb\xbf" + json.dumps({"chat_template": OTHER}).encode())
    assert rendered(bare).endswith("<|assistant|>other")
    config = json.loads((bare / "tokenizer_config.json").read_text("utf-8"))
    (bare / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": PLAIN}))
    assert rendered(bare).endswith("<|assistant|>")
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    for damaged in ("[1]", "{", '{"chat_template": 3}'):
        beside.write_text(damaged)
        with pytest.raises(WriterError, match=r"chat_template\.json of mine is damaged"):
            mlx_lm.load(bare, "mine")
