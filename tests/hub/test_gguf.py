"""gguf_form: the file has what llama.cpp reads, and a real llama.cpp (marked network: from npm) tells the same text."""

import json
import shutil
import subprocess
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest
from hub_models import ASCII, UNICODE, random_model

from gatsby_mlx.errors import UsageError
from gatsby_mlx.hub import gguf_form
from gatsby_mlx.model.decode import Job, Sampling, decode
from gatsby_mlx.story.prime import build
from gatsby_mlx.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer(ASCII)


@pytest.mark.parametrize(("dtype", "kept"), [(mx.float32, np.float32), (mx.float16, np.float16)])
def test_file_has_every_weight_under_its_name(tmp_path, dtype, kept):
    model = random_model(bias=True)
    gguf_form.write(tmp_path / "m.gguf", model, TOKENIZER, "tiny", dtype)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    found = {t.name: t.data for t in reader.tensors}
    want = {gguf_form.rename(name): np.array(value) for name, value in model.named().items()}
    assert found.keys() == want.keys()
    for name, value in want.items():
        wide = value.ndim < 2 or name == "position_embd.weight"
        assert found[name].dtype == (np.float32 if wide else kept)
        np.testing.assert_array_equal(found[name].reshape(value.shape), value.astype(found[name].dtype))
    arch = reader.fields["gpt2.context_length"]
    assert arch.parts[arch.data[0]][0] == 256
    tokens = reader.fields["tokenizer.ggml.tokens"]
    listed = [bytes(tokens.parts[i]).decode() for i in tokens.data]
    assert listed == sorted(json.loads(TOKENIZER.to_json())["model"]["vocab"], key=lambda t: listed.index(t))
    assert len(listed) == len(ASCII)


def test_model_without_biases_gets_zeros(tmp_path):
    gguf_form.write(tmp_path / "m.gguf", random_model(), TOKENIZER, "tiny")
    found = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    biases = [name for name in found if name.endswith(".bias")]
    assert len(biases) == 2 * 6 + 1
    assert not any(found[name].any() for name in biases)


def test_what_a_gguf_file_cannot_express_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    with pytest.raises(UsageError, match="erf form"):
        gguf_form.write(path, random_model(gelu="erf"), TOKENIZER, "x")
    with pytest.raises(UsageError, match="ASCII"):
        gguf_form.write(path, random_model(UNICODE), CharTokenizer(UNICODE), "x")
    with pytest.raises(UsageError, match="float16"):
        gguf_form.write(path, random_model(), TOKENIZER, "x", mx.bfloat16)
    assert not path.exists()


TELL = """
import {getLlama, LlamaCompletion} from "node-llama-cpp";
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: process.argv[2]});
const context = await model.createContext({contextSize: 256, threads: 1});
const completion = new LlamaCompletion({contextSequence: context.getSequence()});
const text = await completion.generateCompletion(process.argv[3], {temperature: 0, maxTokens: 80});
process.stdout.write(JSON.stringify(text));
process.exit(0);
"""


@pytest.mark.network
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_llama_cpp_tells_our_text(tmp_path, dtype):
    """node-llama-cpp includes a compiled llama.cpp; it is installed into the test's folder."""
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm, "this test needs Node.js"
    assert node
    packages = ["node-llama-cpp@3", "@node-llama-cpp/linux-x64@3"]
    words = [npm, "install", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", *packages]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    (tmp_path / "tell.mjs").write_text(TELL)
    model = random_model()
    model.update({"wte": {"weight": model.wte.weight.astype(dtype).astype(mx.float32)}})
    path = Path(tmp_path / "m.gguf")
    gguf_form.write(path, model, TOKENIZER, "tiny", dtype)
    prime = build("a lost kitten", 4)
    (story,) = decode(model, TOKENIZER, [Job(prime, 0)], Sampling(temp=0), max_chars=80, past_end=True)
    done = subprocess.run(
        [node, "tell.mjs", path, prime], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    n = 80 if dtype == mx.float32 else 20  # float16 gives the same text until two characters are nearly as likely
    assert json.loads(done.stdout).split("[")[0][:n] == story.run_on.split("[")[0][:n]
