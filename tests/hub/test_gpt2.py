"""gpt2: mlx-lm runs the exported folder and tells the same text; transformers does too (slow: needs PyTorch)."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hub_models import ASCII, INFO, UNICODE, random_model
from safetensors import safe_open

from gatsby_mlx.errors import UsageError
from gatsby_mlx.hub import gpt2
from gatsby_mlx.hub.export import Form, export, prepare
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.decode import Job, Sampling, decode
from gatsby_mlx.story.prime import build
from gatsby_mlx.tokenizer import CharTokenizer

ALPHABETS = pytest.mark.parametrize("alphabet", [ASCII, UNICODE], ids=["ascii", "unicode"])


def ready(alphabet: str = ASCII, **changes) -> Checkpoint:
    return Checkpoint(Path("tiny"), random_model(alphabet, **changes), CharTokenizer(alphabet), INFO)


def exported(one: Checkpoint, out: Path, **form) -> Path:
    export(prepare(one, Form("gpt2", **form)), out, Form("gpt2", **form))
    return out


def greedy(one: Checkpoint, n: int = 80) -> tuple[str, str]:
    """Return a prime and what our decoder tells after it, without the end marker, which the others leave out too."""
    prime = build("a lost kitten", 4, alphabet=one.tokenizer.alphabet)
    (story,) = decode(one.model, one.tokenizer, [Job(prime, 0)], Sampling(temp=0), max_chars=n, past_end=True)
    return prime, story.run_on.split("[")[0]


def mlx_lm_load(folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries that it imports, not the folder, raise these
        from mlx_lm import load

        return load(str(folder))


@ALPHABETS
@pytest.mark.parametrize("bias", [False, True])
def test_mlx_lm_has_our_logits_and_tells_our_text(tmp_path, alphabet, bias):
    from mlx_lm import stream_generate
    from mlx_lm.sample_utils import make_sampler

    one = ready(alphabet, bias=bias)
    model, tokenizer = mlx_lm_load(exported(one, tmp_path / "g"))  # type: ignore[misc]
    ids = mx.array(np.random.default_rng(3).integers(0, len(alphabet), (2, 200)))
    assert float(mx.abs(model(ids) - one.model(ids)).max()) < 1e-4
    prime, want = greedy(one)
    assert tokenizer.encode(prime) == one.tokenizer.encode(prime)
    assert tokenizer.decode(tokenizer.encode(prime)) == prime
    assert tokenizer.eos_token_ids == {one.tokenizer.end_id}
    generated = stream_generate(model, tokenizer, prime, max_tokens=80, sampler=make_sampler(temp=0.0))
    assert "".join(r.text for r in generated).split("[")[0] == want


def test_mlx_lm_stops_at_the_end_marker(tmp_path):
    """A model that predicts `[` after every character: the text is empty, and generation ends by itself."""
    from mlx_lm import stream_generate

    one = ready()
    one.model.ln_f.weight = mx.zeros_like(one.model.ln_f.weight)
    biased = random_model(bias=True)
    biased.ln_f.weight = mx.zeros_like(biased.ln_f.weight)
    biased.ln_f.bias = 100 * biased.wte.weight[one.tokenizer.end_id]
    model, tokenizer = mlx_lm_load(exported(Checkpoint(Path("x"), biased, one.tokenizer), tmp_path / "g"))  # type: ignore[misc]
    generated = list(stream_generate(model, tokenizer, "a dog", max_tokens=20))
    assert generated[-1].finish_reason == "stop"
    assert "".join(r.text for r in generated) == ""


@pytest.mark.parametrize("bits", [8, 4])
def test_mlx_lm_has_the_logits_that_were_measured_for_quantized_weights(tmp_path, bits):
    one = ready(n_embd=64)
    form = Form("gpt2", quantized=gpt2.Quantized(bits, mx.float32))
    prepared = prepare(one, form)
    folder = tmp_path / "q"
    export(prepared, folder, form)
    model, _ = mlx_lm_load(folder)  # type: ignore[misc]
    ids = mx.array(np.random.default_rng(3).integers(0, len(ASCII), (2, 60)))
    assert float(mx.abs(model(ids) - prepared.measured(ids)).max()) < 1e-4
    assert float(mx.abs(model(ids) - one.model(ids)).max()) > 1e-2
    assert f"{bits} bits" in prepared.notes[0]
    assert f"{bits} bits" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["quantization"]["bits"] == bits
    matrices = sum(one.model.named()[f"{name}.weight"].size for name in gpt2.matrices(one.model))
    whole = exported(one, tmp_path / "g")
    saved = (whole / "model.safetensors").stat().st_size - (folder / "model.safetensors").stat().st_size
    assert saved > matrices * (4 - bits / 8 - 8 / gpt2.GROUP) * 0.98


def test_bad_quantization_is_refused(tmp_path):
    with pytest.raises(UsageError, match="groups of 64"):
        exported(ready(), tmp_path / "q", quantized=gpt2.Quantized(4))
    with pytest.raises(UsageError, match="8 or 4 bits"):
        exported(ready(n_embd=64), tmp_path / "q", quantized=gpt2.Quantized(3))
    with pytest.raises(UsageError, match="not for onnx"):
        Form("onnx", quantized=gpt2.Quantized(4))
    assert list(tmp_path.iterdir()) == []


def test_erf_is_refused_or_measured(tmp_path):
    one = ready(gelu="erf")
    with pytest.raises(UsageError, match="erf form") as caught:
        exported(one, tmp_path / "g")
    assert "--allow-drift" in caught.value.hint
    folder = exported(one, tmp_path / "g", allow_drift=True)
    model, _ = mlx_lm_load(folder)  # type: ignore[misc]
    (note,) = prepare(one, Form("gpt2", allow_drift=True)).notes
    assert note in (folder / "README.md").read_text()
    ids = mx.array([one.tokenizer.encode(build("a lost kitten", 4))])
    difference = float(mx.abs(model(ids) - one.model(ids)).max())
    noted = float(note.split("differ by at most ")[1].split(",")[0])
    assert 1e-5 < difference < 3 * noted
    assert prepare(ready(), Form("gpt2", allow_drift=True)).notes == []


def test_drift_of_a_model_from_itself_is_nothing():
    one = ready()
    same = gpt2.drift(one.model, one.model, one.tokenizer, [build("a lost kitten", 4)])
    assert (same.logits, same.divergence, same.agreement) == (0, 0, 1)
    assert same.n_chars > 80


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_are_stored_as_asked_and_in_gpt2_s_shapes(tmp_path, dtype):
    one = ready()
    folder = exported(one, tmp_path / "g", dtype=dtype)
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "mlx"}
        dtypes = {file.get_slice(k).get_dtype() for k in file.keys()}  # noqa: SIM118  not a dict
        assert file.get_slice("h.0.attn.c_attn.weight").get_shape() == [32, 96]
        assert file.get_slice("h.0.mlp.c_fc.bias").get_shape() == [128]
    assert dtypes == {{"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]}
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype


def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}


@pytest.mark.slow
def test_mlx_lm_generate_tells_our_text_from_the_command_line(tmp_path):
    one = ready()
    folder = exported(one, tmp_path / "g")
    prime, want = greedy(one)
    words = [sys.executable, "-m", "mlx_lm", "generate", "--model", folder, "--prompt", prime.replace("\n", "\\n")]
    words += ["--temp", "0", "--max-tokens", "80", "--verbose", "False"]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert want.strip("\n") in done.stdout


@pytest.mark.slow
def test_mlx_lm_server_tells_our_text(tmp_path):
    import http.client
    import socket
    import time

    one = ready()
    folder = exported(one, tmp_path / "g")
    prime, want = greedy(one)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    words = [sys.executable, "-m", "mlx_lm", "server", "--model", folder, "--port", str(port)]
    server = subprocess.Popen(words, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        body = json.dumps({"prompt": prime, "max_tokens": 80, "temperature": 0})
        for _ in range(200):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
                connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                break
            except ConnectionRefusedError:
                assert server.poll() is None
                time.sleep(0.5)
        assert answer["choices"][0]["text"].split("[")[0] == want
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
@ALPHABETS
def test_transformers_has_our_logits_and_tells_our_text(tmp_path, alphabet):
    """In a separate process, where the warnings of transformers and PyTorch do no harm."""
    one = ready(alphabet)
    folder = exported(one, tmp_path / "g")
    prime, want = greedy(one)
    ids = np.random.default_rng(3).integers(0, len(alphabet), (2, 200))
    np.save(tmp_path / "ids.npy", ids)
    program = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, data, prime = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
with torch.no_grad():
    np.save(f"{data}/logits.npy", model(torch.tensor(np.load(f"{data}/ids.npy"))).logits.numpy())
    given = tokenizer(prime, return_tensors="pt")
    ids = model.generate(**given, max_new_tokens=80, do_sample=False)[0][given["input_ids"].shape[1]:]
json.dump({"prime": tokenizer.decode(given["input_ids"][0]), "text": tokenizer.decode(ids)}, sys.stdout)
"""
    words = [sys.executable, "-c", program, folder, tmp_path, prime]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    generated = json.loads(done.stdout)
    assert generated["prime"] == prime
    assert generated["text"].split("[")[0] == want
    assert np.abs(np.load(tmp_path / "logits.npy") - np.array(one.model(mx.array(ids)))).max() < 1e-4
