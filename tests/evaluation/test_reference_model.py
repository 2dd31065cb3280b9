"""reference_model: a tiny random llama, loaded by mlx-lm, and its likelihoods computed in NumPy."""

import json
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest

from gatsby_mlx.errors import CheckpointError
from gatsby_mlx.evaluation.reference_model import STORIES, ReferenceModel
from gatsby_mlx.evaluation.stories import Piece

V = 260
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "vocab_size": V,
    "eos_token_id": 0,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = tmp_path_factory.mktemp("reference") / "tiny-llama"
    made.mkdir()
    mx.random.seed(4)
    model = llama.Model(llama.ModelArgs.from_dict(dict(LLAMA)))
    mx.save_safetensors(str(made / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (made / "config.json").write_text(json.dumps(LLAMA))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({t: i for i, t in enumerate(["<|end|>", *letters])}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["<|end|>"])
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>").save_pretrained(made)
    return made


def test_nats_are_the_sum_over_all_tokens_after_the_first(folder):
    reader = ReferenceModel(folder)
    story = "A cat sat."
    ids = [0, *reader.tokenizer.encode(story)]
    assert len(ids) == len(story) + 1
    logits = np.array(reader.model(mx.array([ids])))[0].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -sum(log_p[i, ids[i + 1]] for i in range(len(ids) - 1))
    assert reader.nats(story) == pytest.approx(expected, rel=1e-4)
    assert reader.nats(story + story) > reader.nats(story) > 0


def test_reference_model_reads_a_spread_of_stories_with_their_topics(folder):
    calls = []
    reader = ReferenceModel(folder, lambda done, total: calls.append((done, total)))
    found = reader([Piece("a cat", 1, "A cat.", True), Piece("a dog", 2, "", True), Piece("a fox", 3, "Fox", True)])
    assert [(topic, n) for topic, _, n in found] == [("a cat", 6), ("a fox", 3)]
    assert calls == [(1, 3), (2, 3), (3, 3)] and reader.name == "tiny-llama"
    assert len(reader([Piece(f"a {i}", 1, "x", True) for i in range(STORIES + 40)])) == STORIES


def test_folder_without_a_model_raises_an_error(tmp_path, folder):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        ReferenceModel(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "model_type": "llamma"}))
    with pytest.raises(CheckpointError, match="cannot load") as caught:
        ReferenceModel(tmp_path)
    assert caught.value.hint and "\n" not in caught.value.line()


def test_mlx_lm_is_imported_only_for_a_reference_model():
    code = "import sys; from gatsby_mlx.evaluation import reference_model, report; assert 'mlx_lm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
