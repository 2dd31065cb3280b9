"""device.doctor: a report that JSON can hold, and advice where something is slow."""

import pytest
from device_tools import finish, linux, start

from gatsby_mlx.device import blas, doctor


def test_doctor_report_is_json():
    code = "import json; from gatsby_mlx import device; print(json.dumps(device.machine()))"
    report = finish(start(code))
    keys = "platform python mlx device products blas measured_gflop_s memory limits disk power compiler advice"
    assert set(report) == set(keys.split())
    assert set(report["blas"]) == {"how", "name", "path", "version", "threads", "note", "cure", "fast"}
    assert report["device"]["kind"] in ("cpu", "gpu")
    figure = report["measured_gflop_s"]
    assert 0 < figure["low"] <= figure["median"] <= figure["high"]
    assert 0 < report["memory"]["available"] <= report["memory"]["total"]
    assert report["products"] == {"bits": 23, "name": "float32"}, "the suite sets MLX_ENABLE_TF32=0"
    assert (report["limits"]["cache"] is None) == (report["limits"]["gpu"] == 0) == (report["device"]["kind"] == "cpu")
    assert report["disk"]["free"] > 0


@linux
def test_doctor_advises_against_settings_that_slow_openblas(monkeypatch):
    report = {"platform": {}, "device": {"kind": "cpu"}, "compiler": {"works": True}, "disk": {"free": 10**11}}
    report |= {"measured_gflop_s": {"high": 100.0}}
    used = blas.Blas("numpy", "OpenBLAS", "/x", "OpenBLAS 0.3.31 DYNAMIC_ARCH Haswell MAX_THREADS=64", 2)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    for flags, advised in (("fpu avx2 avx512f", True), ("fpu avx2", False)):
        monkeypatch.setattr(doctor.Path, "read_text", lambda self, flags=flags: f"flags : {flags}")
        lines = doctor.advice(report, used)
        assert any("unset OPENBLAS_CORETYPE" in line for line in lines) == advised, lines
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    assert doctor.advice(report, used) == []
    (line,) = doctor.advice(report | {"disk": {"free": 10**9}}, used)
    assert "1.0 GB of disk" in line


@pytest.mark.parametrize(
    ("mac", "kind", "power", "words"),
    [
        ({"rosetta": True}, "cpu", "", ["brew install python@3.12", "uses the CPU"]),
        ({"macos": "13.6"}, "gpu", "", ["macOS 14", "Software Update"]),
        ({"virtual": True}, "gpu", "", ["virtual machine"]),
        ({}, "gpu", "Battery Power; lowpowermode 1", ["Low Power Mode"]),
        ({}, "gpu", "AC Power; powermode 2", []),
    ],
)
def test_doctor_advises_a_mac_in_its_own_words(mac, kind, power, words):
    report = {"platform": {"macos": "26.2", **mac}, "device": {"kind": kind}, "power": power, "disk": {"free": 10**11}}
    report |= {"compiler": {"works": True}, "measured_gflop_s": {"high": 3.0}}
    lines = doctor.advice(report, blas.Blas("macos", "Accelerate and Metal"))
    text = " ".join(lines)
    assert all(word in text for word in words) and bool(lines) == bool(words)
    assert "apt-get" not in text


@linux
def test_doctor_advises_when_something_is_slow():
    code = "import json; from gatsby_mlx import device; print(json.dumps(device.machine()))"
    report = finish(start(code, GATSBY_BLAS="off", PATH=""))
    advice = " ".join(report["advice"])
    assert "GATSBY_BLAS=off" in advice and "apt-get install g++" in advice
