"""side: a half answers line by line from a process of its own, and what it cannot do is one line."""

import importlib.util
import json
import mmap
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gatsby_mlx.bench import suites, work
from gatsby_mlx.bench.side import Side, SideError, resident_peak_bytes
from gatsby_mlx.bench.work import Settings, TrainWork
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.errors import UsageError
from gatsby_mlx.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer

SHAPE = GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=128, vocab_size=len(CharTokenizer(ALPHABET)))
HAS_TORCH = importlib.util.find_spec("torch") is not None


def test_mlx_s_half_trains_tells_and_leaves(tmp_path):
    job = TrainWork(SHAPE, 4, 64)
    draws = np.random.default_rng(0).integers(0, 20, (2, 4, 64)).astype(np.int32)
    np.savez(tmp_path / "batches.npz", ids=draws, targets=draws)
    with Side("mlx") as side:
        assert side.ask("hello", device="cpu")["device"] == "cpu"
        side.ask("save", config=work.plain(SHAPE), alphabet=ALPHABET, folder=str(tmp_path / "weights"))
        assert side.ask("load", folder=str(tmp_path / "weights"))["seconds"] > 0
        side.ask("start_training", job=work.plain(job), batches=str(tmp_path / "batches.npz"))
        turn = side.ask("train_turn", steps=12)
        assert len(turn["losses"]) == 12 and turn["losses"][-1] < turn["losses"][0]
        assert turn["seconds"] > 0 and turn["peak_bytes"] > 1e6
        told = side.ask("tell", jobs=[[build("a cat", 1), 1], [build("an owl", 2), 2]], n_chars=9, batch=2)
        assert told["chars"] == 18
        assert side.ask("tell_at", position=20, steps=3)["ms"] > 0
    assert side._child.returncode == 0


def test_a_device_that_is_not_there_is_one_line():
    with Side("mlx") as side, pytest.raises(UsageError, match="no cuda") as error:
        import mlx.core as mx

        if mx.is_available(mx.gpu):
            pytest.skip("there is a GPU")
        side.ask("hello", device="cuda")
    assert "--device cpu" in error.value.cure


def test_a_half_that_dies_is_told_of():
    with pytest.raises(SideError, match="ended with code") as error, Side("mlx") as side:
        side.ask("nothing of the kind")
    assert error.value.exit_code == 1


@pytest.mark.parametrize(("version", "told"), [("", "cannot be imported"), ("2.1.0", "too old")])
def test_pytorch_missing_or_too_old_is_one_line_with_its_cure(version, told, tmp_path):
    (tmp_path / "torch.py").write_text(f"__version__ = {version!r}" if version else "raise ImportError('no torch')")
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    program = f"{first}\nfrom gatsby_mlx.bench import side; side.main('torch')"
    asked = json.dumps({"do": "hello"}) + "\n"
    ran = subprocess.run([sys.executable, "-c", program], input=asked, capture_output=True, text=True, check=True)
    answer = json.loads(ran.stdout)
    assert told in answer["error"] and "gatsby-mlx[bench]" in answer["cure"]


def test_peak_memory_can_be_set_back():
    with mmap.mmap(-1, 320_000_000) as block:  # given back when it is closed, whatever malloc keeps
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        high = resident_peak_bytes()
    if sys.platform == "linux":
        assert resident_peak_bytes(reset=True) < high - 200e6


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is an extra")
@pytest.mark.parametrize("changes", [{}, {"bias": True, "gelu": "erf"}])
def test_both_halves_compute_the_same_and_are_measured_in_turn(changes):
    config = replace(SHAPE, n_layer=2, **changes)
    job = TrainWork(replace(config, dropout=0.1), 4, 128)
    settings = Settings(pairs=2, turn_s=0.1, device="cpu", against="torch")
    with suites.opened(settings, config, lambda line: None) as bench:
        (result,) = suites.train(bench, [job])
        told = suites.decode(bench, (4,), 24)
    for name, limit in suites.LIMITS.items():
        assert 0 <= result["parity"][name] <= limit
    assert result["ratio"]["n"] == result["mlx"]["n"] == result["torch"]["n"] == 2
    assert [r["suite"] for r in told] == ["decode"] * 3 and all(r["ratio"] for r in told)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is an extra")
def test_nothing_is_timed_without_parity(monkeypatch):
    monkeypatch.setitem(suites.LIMITS, "logits", 0.0)
    settings = Settings(pairs=1, turn_s=0.1, device="cpu", against="torch")
    with (
        suites.opened(settings, SHAPE, lambda line: None) as bench,
        pytest.raises(suites.ParityError, match="logits"),
    ):
        suites.train(bench, [TrainWork(SHAPE, 2, 64)])
