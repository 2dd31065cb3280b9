"""onnx_form: onnxruntime gives the same logits, at once and step by step, and tells the same text."""

import json

import mlx.core as mx
import numpy as np
import onnxruntime
import pytest
from hub_models import ASCII, UNICODE, random_model

from gatsby_mlx.errors import UsageError
from gatsby_mlx.hub import onnx_form
from gatsby_mlx.hub.export import Form, export, prepare
from gatsby_mlx.hub.vocabulary import from_file
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.decode import Job, Sampling, decode
from gatsby_mlx.story.prime import build
from gatsby_mlx.tokenizer import CharTokenizer

TOLERANCE = 1e-4


def session(folder, model, alphabet: str = ASCII):
    onnx_form.write(folder, model, CharTokenizer(alphabet))
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def empty(model, B: int) -> np.ndarray:
    c = model.config
    return np.zeros((c.n_layer, 2, B, c.n_head, 0, c.n_embd // c.n_head), np.float32)


@pytest.mark.parametrize(
    "changes", [{}, {"bias": True, "gelu": "erf"}, {"n_layer": 1, "n_head": 1}, {"gelu": "erf", "n_head": 4}], ids=str
)
def test_logits_are_the_same_at_once_and_step_by_step(tmp_path, changes):
    model = random_model(**changes)
    run = session(tmp_path, model)
    ids = np.random.default_rng(0).integers(0, len(ASCII), (3, 90))
    ours = np.array(model(mx.array(ids)))
    whole, present = run.run(None, {"input_ids": ids, "past": empty(model, 3)})
    assert np.abs(whole - ours).max() < TOLERANCE
    assert present.shape[4] == 90
    kept = empty(model, 3)
    for begin, end in ((0, 40), (40, 41), (41, 42), (42, 90)):
        part, kept = run.run(None, {"input_ids": ids[:, begin:end], "past": kept})
        assert np.abs(part - ours[:, begin:end]).max() < TOLERANCE


@pytest.mark.parametrize("alphabet", [ASCII, UNICODE], ids=["ascii", "unicode"])
def test_greedy_text_is_the_same(tmp_path, alphabet):
    model = random_model(alphabet)
    run = session(tmp_path, model, alphabet)
    prime, tokenizer = build("a lost kitten", 2, alphabet=alphabet), CharTokenizer(alphabet)
    (story,) = decode(model, tokenizer, [Job(prime, 0)], Sampling(temp=0), max_chars=60, past_end=True)
    ids, past, ids_drawn = np.array([tokenizer.encode(prime)]), empty(model, 1), []
    for _ in range(60):
        logits, past = run.run(None, {"input_ids": ids, "past": past})
        ids = logits[:, -1:].argmax(-1)
        ids_drawn.append(int(ids[0, 0]))
    assert tokenizer.decode(ids_drawn) == story.run_on
    assert from_file(tmp_path / "vocab.json") == alphabet
    assert json.loads((tmp_path / "vocab.json").read_text())["block_size"] == 256


def test_float16_is_refused_and_a_missing_package_is_one_line(tmp_path, monkeypatch):
    import sys

    from gatsby_mlx.errors import GatsbyError

    with pytest.raises(UsageError, match="float32"):
        Form("onnx", dtype="float16")
    for kind in ("onnx", "gguf"):
        monkeypatch.setitem(sys.modules, kind, None)
        one = Checkpoint(tmp_path, random_model(), CharTokenizer(ASCII))
        with pytest.raises(GatsbyError) as caught:
            export(prepare(one, Form(kind)), tmp_path / "out", Form(kind))
        assert f"pip install '.[{kind}]'" in caught.value.line()
    assert list(tmp_path.iterdir()) == []
