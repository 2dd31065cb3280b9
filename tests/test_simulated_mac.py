"""The simulated Mac is believed by Python, its children and MLX; doctor, limits and arithmetic there are a Mac's.

Each test starts a process on the simulated Mac, so that these run wherever the suite runs.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAC = ROOT / "tests" / "mac"  # not this file's folder: pytest puts that on its path, and children would become Macs


def on_mac(*words: str, **environment: str) -> str:
    """Return what `python WORDS` prints on the simulated Mac."""
    env = {k: v for k, v in os.environ.items() if k != "MLX_ENABLE_TF32"}
    env |= {"PYTHONPATH": f"{MAC}:{ROOT}", **environment}
    done = subprocess.run([sys.executable, "-W", "error", *words], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_and_its_children_believe_that_they_are_on_a_mac():
    code = """
import os, platform, shutil, subprocess, sys
assert sys.platform == "darwin" and platform.system() == "Darwin" and platform.machine() == "arm64"
assert platform.mac_ver()[0] == "26.2"
assert not os.path.exists("/dev/full") and not os.path.exists("/proc/self")
try:
    open("/proc/meminfo")
    raise AssertionError("/proc is there")
except FileNotFoundError:
    pass
assert shutil.which("g++") is None and shutil.which("caffeinate") and shutil.which("git")
child = "import sys, mlx.core as mx; print(sys.platform, mx.default_device(), mx.metal.is_available())"
for env in (None, {"PATH": ""}):
    print(subprocess.check_output([sys.executable, "-c", child], env=env, text=True), end="")
"""
    assert on_mac("-c", code) == "darwin Device(gpu, 0) True\n" * 2


def test_products_are_rounded_to_ten_bits_unless_tf32_is_off():
    code = """
from gatsby_mlx.device.arithmetic import product_bits
import mlx.core as mx, mlx.nn as nn
x = mx.random.normal((64, 96), key=mx.random.key(0))
layer = nn.Linear(96, 32)
grad = mx.grad(lambda w: (x @ w.T).square().sum())(layer.weight)
with mx.stream(mx.cpu):
    exact = 2 * (x.T.astype(mx.float32) @ x @ layer.weight.T).T
print(product_bits(), float(mx.abs(grad - exact).max() / mx.abs(exact).max()))
"""
    bits, off = on_mac("-c", code, MLX_ENABLE_TF32="0").split()
    assert bits == "23" and float(off) < 1e-5
    bits, off = on_mac("-c", code).split()
    assert bits == "10"


PARITY = """
import gatsby_mlx as gatsby
from gatsby_mlx.model.batch import Slots
import mlx.core as mx
model = gatsby.load().checkpoint.model.eval()
ids = [7, 12, 30, 4, 9] * 16
whole, slots = model(mx.array([ids]))[0], Slots(model, 1)
slots.prefill(0, ids[:60])
told = [slots.logits[0]] + [slots.step(mx.array([i]))[0] for i in ids[60:]]
print(float(mx.abs(mx.stack(told) - whole[59:]).max()))
"""


def test_promises_of_1e_4_need_all_bits():
    """On an M5 a cached character goes through matrix-vector kernels, which keep all bits; a whole story does not."""
    assert float(on_mac("-c", PARITY, MLX_ENABLE_TF32="0")) < 1e-4
    assert float(on_mac("-c", PARITY)) > 1e-4


def test_peer_for_parity_keeps_all_bits_and_one_for_timing_computes_as_a_user_does():
    code = """
from gatsby_mlx.bench.peer import Peer
for exact in (True, False):
    with Peer("mlx", exact) as peer:
        answer = peer.ask("handshake")
        print(answer["device"], answer["product_bits"])
"""
    assert on_mac("-c", code).split() == ["gpu", "23", "gpu", "10"]


def test_doctor_speaks_a_macs_words():
    report = json.loads(on_mac("-m", "gatsby_mlx", "doctor", "--json"))
    assert report["platform"]["macos"] == "26.2" and report["platform"]["chip"] == "Apple M5"
    assert report["device"]["kind"] == "gpu" and report["products"] == {"bits": 10, "name": "TF32"}
    assert report["limits"] == {"gpu": 12_713_115_648, "cache": 12_713_115_648 // 4, "iogpu_wired": 0}
    assert report["memory"] == {"total": 16 << 30, "available": 580_000 * 16384}
    assert report["disk"]["free"] > 0 and report["power"] == "AC Power; powermode 0; lowpowermode 0"
    assert report["compiler"]["works"] and not any("apt-get" in line for line in report["advice"])
    settings = "kern.hv_vmm_present=1 iogpu.wired_limit_mb=14336"
    shown = on_mac("-m", "gatsby_mlx", "doctor", SIMULATED_SYSCTL=settings, SIMULATED_LOWPOWER="1", MLX_ENABLE_TF32="0")
    for words in (
        "uses the GPU, Apple M5, and may use 12.7 GB",
        "float32 keeps all",
        "15.0 GB by iogpu.wired_limit_mb",
    ):
        assert words in shown
    assert "virtual machine" in shown and "System Settings > Battery" in shown and "apt-get" not in shown


def test_doctor_calls_a_cpu_on_a_mac_slow():
    code = """
import mlx.core as mx
from gatsby_mlx import cli, device
device.prepare()
mx.set_default_device(mx.cpu)
cli.main(["doctor"])
"""
    shown = on_mac("-c", code)
    assert re.search(r"uses the CPU, which is slow on a Mac", shown)
    assert "MLX uses the CPU (MLX found no GPU), which is slow on a Mac" in shown
    assert "apt-get" not in shown and "OpenBLAS" not in shown


LIMITS = """
import time
import gatsby_mlx as gatsby
from gatsby_mlx.bench.mlx_peer import MlxPeer
from gatsby_mlx.device.memory import cache_limit_bytes
from gatsby_mlx.exhibit.engine import Engine
import mlx.core as mx
wanted, now = cache_limit_bytes(), 0
def limit():
    n = mx.set_cache_limit(1)
    mx.set_cache_limit(n)
    return n
before, model = limit(), gatsby.load()
assert before != wanted == 12_713_115_648 // 4
pieces = model.stream("a lost kitten", seed=1, max_chars=40)
next(pieces)
assert limit() == wanted, "telling"
events = gatsby.train_events(gatsby.write("five", n=50), preset="pocket", out="run")
next(events)
pieces.close()
assert limit() == wanted, "training, after a story that began before it"
events.close()
assert limit() == before
with Engine(model.checkpoint) as engine:
    while not engine.ready:
        time.sleep(0.01)
    assert limit() == wanted, "serving"
assert limit() == before
peer = MlxPeer()
peer.handshake()
assert limit() == wanted, "the benchmark"
"""


@pytest.mark.slow
def test_cache_is_limited_while_a_command_works_and_not_after_it(tmp_path):
    on_mac("-c", f"import os; os.chdir({str(tmp_path)!r})\n{LIMITS}")
