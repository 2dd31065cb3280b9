"""device.doctor: a report that JSON can hold, and advice where something is slow."""

from device_tools import finish, linux, start

from gatsby_mlx.device import blas, doctor


def test_doctor_report_is_json():
    code = "import json; from gatsby_mlx import device; print(json.dumps(device.machine()))"
    report = finish(start(code))
    keys = "platform python mlx device blas measured_gflop_s memory compiler advice"
    assert set(report) == set(keys.split())
    assert set(report["blas"]) == {"how", "name", "path", "version", "threads", "note", "cure", "fast"}
    assert report["device"]["kind"] in ("cpu", "gpu")
    figure = report["measured_gflop_s"]
    assert 0 < figure["low"] <= figure["median"] <= figure["high"]
    assert 0 < report["memory"]["available"] <= report["memory"]["total"]


@linux
def test_doctor_advises_against_settings_that_slow_openblas(monkeypatch):
    report = {"platform": {}, "device": {"kind": "cpu"}, "compiler": {"works": True}}
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


@linux
def test_doctor_advises_when_something_is_slow():
    code = "import json; from gatsby_mlx import device; print(json.dumps(device.machine()))"
    report = finish(start(code, GATSBY_BLAS="off", PATH=""))
    advice = " ".join(report["advice"])
    assert "GATSBY_BLAS=off" in advice and "apt-get install g++" in advice
