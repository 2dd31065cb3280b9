"""peer: a peer process obeys requests, and its errors are one line; both peers compute the same."""

import importlib.util
import json
import mmap
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from gatsby_mlx.bench import suites
from gatsby_mlx.bench.peer import Peer
from gatsby_mlx.bench.work import Settings, TrainWork
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.device.memory import resident_peak_bytes
from gatsby_mlx.errors import BenchError, ParityError, UsageError
from gatsby_mlx.story.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer

SHAPE = GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=128, vocab_size=len(CharTokenizer(ALPHABET)))
HAS_TORCH = importlib.util.find_spec("torch") is not None


def test_mlx_peer_trains_tells_and_exits(tmp_path):
    job = TrainWork(SHAPE, 4, 64)
    draws = np.random.default_rng(0).integers(0, 20, (2, 4, 64)).astype(np.int32)
    np.savez(tmp_path / "batches.npz", ids=draws, targets=draws)
    with Peer("mlx") as peer:
        assert peer.ask("handshake", device="cpu")["device"] == "cpu"
        peer.ask("save", config=asdict(SHAPE), alphabet=ALPHABET, folder=str(tmp_path / "weights"))
        assert peer.ask("load", folder=str(tmp_path / "weights"))["seconds"] > 0
        peer.ask("start_training", job=job.to_json(), batches=str(tmp_path / "batches.npz"))
        answer = peer.ask("train_round", steps=12)
        assert len(answer["losses"]) == 12 and answer["losses"][-1] < answer["losses"][0]
        assert answer["seconds"] > 0 and answer["peak_bytes"] > 1e6
        answer = peer.ask("tell", jobs=[[build("a cat", 1), 1], [build("an owl", 2), 2]], n_chars=9, batch=2)
        assert answer["chars"] == 18
        assert peer.ask("tell_at", position=20, steps=3)["ms"] > 0
    assert peer._child.returncode == 0


def test_missing_device_is_one_line():
    missing = "mps" if sys.platform == "linux" else "cuda"
    with Peer("mlx") as peer, pytest.raises(UsageError, match=f"no {missing}") as error:
        peer.ask("handshake", device=missing)
    assert "--device cpu" in error.value.hint


def test_peer_that_dies_is_an_error():
    with pytest.raises(BenchError, match="ended with code") as error, Peer("mlx") as peer:
        peer.ask("no_such_method")
    assert error.value.exit_code == 1


@pytest.mark.parametrize(("version", "message"), [("", "cannot be imported"), ("2.1.0", "too old")])
def test_pytorch_missing_or_too_old_is_one_line_with_a_hint(version, message, tmp_path):
    (tmp_path / "torch.py").write_text(f"__version__ = {version!r}" if version else "raise ImportError('no torch')")
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    program = f"{first}\nfrom gatsby_mlx.bench import peer; peer.main('torch')"
    request = json.dumps({"do": "handshake"}) + "\n"
    ran = subprocess.run([sys.executable, "-c", program], input=request, capture_output=True, text=True, check=True)
    answer = json.loads(ran.stdout)
    assert message in answer["error"] and "pip install '.[bench]'" in answer["hint"]


def test_peak_memory_can_be_reset():
    with mmap.mmap(-1, 320_000_000) as block:  # freed when it is closed, whatever malloc keeps
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        high = resident_peak_bytes()
    if sys.platform == "linux":
        assert resident_peak_bytes(reset=True) < high - 200e6


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is an extra")
@pytest.mark.parametrize("changes", [{}, {"bias": True, "gelu": "erf"}])
def test_both_peers_compute_the_same_and_are_measured_alternately(changes):
    config = replace(SHAPE, n_layer=2, **changes)
    job = TrainWork(replace(config, dropout=0.1), 4, 128)
    settings = Settings(pairs=2, round_s=0.1, device="cpu", against="torch")
    with suites.open_bench(settings, config, lambda line: None) as bench:
        (result,) = suites.train(bench, [job])
        decoding = suites.decode(bench, (4,), 24)
    for name, limit in suites.LIMITS.items():
        assert 0 <= result["parity"][name] <= limit
    assert result["ratio"]["n"] == result["mlx"]["n"] == result["torch"]["n"] == 2
    assert [r["suite"] for r in decoding] == ["decode"] * 3 and all(r["ratio"] for r in decoding)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is an extra")
def test_nothing_is_timed_without_parity(monkeypatch):
    monkeypatch.setitem(suites.LIMITS, "logits", 0.0)
    settings = Settings(pairs=1, round_s=0.1, device="cpu", against="torch")
    with (
        suites.open_bench(settings, SHAPE, lambda line: None) as bench,
        pytest.raises(ParityError, match="logits"),
    ):
        suites.train(bench, [TrainWork(SHAPE, 2, 64)])
