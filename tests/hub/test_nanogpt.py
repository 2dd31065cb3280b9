"""nanogpt: weights, arguments and vocabulary are imported exactly, and any other file gets one line."""

import json
import pickle

import mlx.core as mx
import numpy as np
import pytest
from hub_models import ASCII, UNICODE, nanogpt_args, nanogpt_names, random_model, save_nanogpt
from torch_writer import checkpoint, nanogpt

from gatsby_mlx.errors import CheckpointError, CorpusError
from gatsby_mlx.hub import nanogpt as ours
from gatsby_mlx.hub import vocabulary


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("alphabet", [ASCII, UNICODE], ids=["ascii", "unicode"])
def test_every_weight_and_argument_is_imported(tmp_path, bias, alphabet):
    model = random_model(alphabet, bias=bias, gelu="erf", dropout=0.2)
    read = ours.load(save_nanogpt(tmp_path / "ckpt.pt", model), alphabet)
    assert read.model.config == model.config
    assert read.tokenizer.alphabet == alphabet
    assert read.info["step"] == 2000
    assert read.info["evaluation"]["loss"] == pytest.approx(0.622)
    want, have = model.named(), read.model.named()
    assert want.keys() == have.keys()
    assert all(bool((want[k] == have[k]).all()) for k in want)


def test_keys_of_a_compiled_model_float16_and_columns_are_imported(tmp_path):
    model = random_model(gelu="erf")
    halves = {k: v.astype(np.float16) for k, v in nanogpt_names(model).items()}
    turned = {f"_orig_mod.{k}": np.asfortranarray(v) for k, v in halves.items()}
    read = ours.load(nanogpt(tmp_path / "ckpt.pt", turned, nanogpt_args(model)), ASCII)
    for name, value in read.model.named().items():
        np.testing.assert_array_equal(np.array(value), halves[f"transformer.{name}"].astype(np.float32))


def test_old_checkpoint_with_masks_and_without_bias_argument(tmp_path):
    model = random_model(gelu="erf", bias=True)
    mask = np.tril(np.ones((1, 1, 8, 8), np.float32))
    weights = {**nanogpt_names(model), "transformer.h.0.attn.bias": mask}
    args = {k: v for k, v in nanogpt_args(model).items() if k not in ("bias", "dropout")}
    args["vocab_size"] = None
    assert ours.load(nanogpt(tmp_path / "ckpt.pt", weights, args), ASCII).model.config.bias


def refused(path, message: str, alphabet: str = ASCII) -> None:
    with pytest.raises(CheckpointError) as caught:
        ours.load(path, alphabet)
    line = caught.value.line()
    assert message in line, line
    assert "\n" not in line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layer": 3}, "h.2"),
        ({"n_layer": 10**9}, "h."),
        ({"n_layer": 0}, "arguments that describe no model"),
        ({"n_layer": 2.5}, "whole number"),
        ({"n_layer": float("nan")}, "arguments that describe no model"),
        ({"n_layer": "2"}, "whole number"),
        ({"n_layer": None}, "arguments that describe no model"),
        ({"n_layer": True}, "whole number"),
        ({"n_head": 3}, "arguments that describe no model"),
        ({"n_embd": 2**62}, "c_attn.weight is (96, 32) and should be"),
        ({"block_size": 2**62}, "wpe.weight"),
        ({"block_size": 128}, "wpe.weight"),
        ({"vocab_size": 65}, "The vocabulary has 74 characters"),
        ({"bias": True}, "bias"),
        ({"dropout": 3}, "arguments that describe no model"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(tmp_path, changes, message):
    refused(save_nanogpt(tmp_path / "ckpt.pt", random_model(gelu="erf"), **changes), message)


def test_bad_weights_are_refused(tmp_path):
    model = random_model(gelu="erf")
    weights, args = nanogpt_names(model), nanogpt_args(model)
    path = tmp_path / "ckpt.pt"

    def with_weights(changed: dict, message: str) -> None:
        refused(nanogpt(path, {**weights, **changed}, args), message)

    bad = weights["transformer.ln_f.weight"].copy()
    bad[3] = np.nan
    with_weights({"transformer.ln_f.weight": bad}, "not a finite number")
    with_weights({"transformer.ln_f.weight": np.full(32, 1e300)}, "not a finite number")
    with_weights({"transformer.ln_f.weight": np.ones(32, np.int64)}, "int64")
    with_weights({"transformer.ln_f.weight": "text"}, "is not a tensor")
    with_weights({"_orig_mod.transformer.ln_f.weight": bad}, "occurs twice")
    with_weights({"transformer.more.weight": bad}, "more.weight")
    with_weights({"lm_head.weight": weights["lm_head.weight"] + 1}, "a separate output matrix")


def test_checkpoint_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "ckpt.pt"
    for value in ([], "text", None, {}, {"model": {}}, {"model": [], "model_args": {}}, {"model_args": {}, "model": 3}):
        refused(checkpoint(path, lambda _, value=value: value), "no `model` and `model_args`")
    refused(checkpoint(path, lambda _: {"model": {}, "model_args": {}}), "it has no 'n_layer'")
    refused(tmp_path / "none.pt", "There is no file")
    refused(tmp_path, "cannot be read")


def test_weights_that_share_a_storage_are_refused(tmp_path):
    """Otherwise a file of a few kilobytes could describe a model of any size."""
    model = random_model(gelu="erf")

    def build(writer):
        state = nanogpt_names(model)
        one = writer.tensor(np.ones(32, np.float32))
        from torch_writer import Raw

        norms = {k: Raw(one) for k in state if ".ln_" in k}
        return {"model": writer.state({**state, **norms}), "model_args": nanogpt_args(model)}

    refused(checkpoint(tmp_path / "ckpt.pt", build), "share one storage")


def test_vocabulary_from_a_corpus_is_its_sorted_characters(tmp_path):
    (tmp_path / "raw.txt").write_bytes("b\u2014a\r\n[".encode())
    assert vocabulary.from_corpus(tmp_path) == "\n[ab\u2014"
    assert vocabulary.from_corpus(tmp_path / "raw.txt") == "\n[ab\u2014"
    (tmp_path / "raw.txt").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CorpusError) as caught:
            vocabulary.from_corpus(path)
        assert "--corpus" in caught.value.hint


STOI = {c: i for i, c in enumerate("\n[ba")}
ITOS = {i: c for c, i in STOI.items()}


@pytest.mark.parametrize("content", [STOI, ITOS, list("\n[ba"), "\n[ba", {"vocab_size": 4, "itos": ITOS, "stoi": STOI}])
def test_vocabulary_from_a_file_keeps_its_order(tmp_path, content):
    (tmp_path / "vocab.json").write_text(json.dumps(content))
    assert vocabulary.from_file(tmp_path / "vocab.json") == "\n[ba"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_vocabulary_from_nanogpt_s_meta(tmp_path, protocol):
    meta = {"vocab_size": 4, "itos": ITOS, "stoi": STOI}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta, protocol))
    assert vocabulary.from_file(tmp_path / "meta.pkl") == "\n[ba"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{}", b"[]", b"3", b'["ab"]', b'{"a": 0, "b": 2}', b'{"a": 0, "b": 0}', b"[" * 100_000, b"\xff"],
)
def test_file_that_is_not_a_vocabulary_is_refused(tmp_path, content):
    for name in ("vocab.json", "meta.pkl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            vocabulary.from_file(tmp_path / name)
        assert len(caught.value.line()) < 400


def test_imported_model_tells_a_story(tmp_path):
    model = random_model(gelu="erf")
    read = ours.load(save_nanogpt(tmp_path / "ckpt.pt", model), ASCII)
    ids = mx.array([[3, 1, 4, 1, 5]])
    assert bool((read.model(ids) == model(ids)).all())
    assert not read.model.training


@pytest.mark.baseline
def test_vocabularies_of_the_baseline_corpora(baseline_corpora):
    """80 characters, and 72 with an em dash and an ellipsis, as their cards say."""
    assert len(vocabulary.from_corpus(baseline_corpora / "gatsby-2.raw.txt")) == 80
    first = vocabulary.from_corpus(baseline_corpora / "gatsby-1.raw.txt")
    assert len(first) == 72
    assert not first.isascii()
