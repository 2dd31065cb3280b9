"""device.blas: which library is chosen, checked and refused, and which one MLX then calls."""

import shutil
from pathlib import Path

import pytest
from device_tools import FAULTS, VECTOR, WIDE, build, finish, linux, start

from gatsby_mlx.device import blas
from gatsby_mlx.device.blas import check, shim


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("right") / "libright.so", '-DTEXT="a right one"')


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("wide") / "libwide.so", *WIDE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def without_system(folder: Path) -> str:
    """Return an LD_LIBRARY_PATH that hides the system's OpenBLAS behind libraries that have no product at all."""
    for name in blas.SYSTEM_NAMES:
        build(folder / name, "-DNAME(kind)=other_##kind", "-DINT=int")
    return str(folder)


PREPARE = """
import json, sys
from dataclasses import asdict
from gatsby_mlx import device
from gatsby_mlx.device import blas
from gatsby_mlx.errors import GatsbyError
blas._mkl = lambda: iter(())  # whatever this environment has installed
{before}
try:
    chosen = device.prepare()
    report = dict(asdict(chosen), warning=chosen.warning, fast=chosen.fast)
except GatsbyError as error:
    report = dict(kind=type(error).__name__, line=error.line(), hint=error.hint)
report["mlx"] = "mlx.core" in sys.modules
{after}
print(json.dumps(report))
"""
COUNT = """
import ctypes, numpy as np
library = ctypes.CDLL({path!r})
before = library.gatsby_test_calls()
import mlx.core as mx
mx.set_default_device(mx.cpu)
a, b = np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(20, dtype=np.float32).reshape(4, 5)
report["right"] = bool((np.array(mx.array(a) @ mx.array(b)) == a @ b).all())
report["calls"] = library.gatsby_test_calls() - before
"""


def prepare(before: str = "", after: str = "", **environment: str) -> dict:
    return finish(start(PREPARE.format(before=before, after=after), **environment))


@linux
def test_blas_named_library_serves_mlx(right):
    report = prepare(after=COUNT.format(path=str(right)), GATSBY_BLAS=str(right))
    assert (report["how"], report["path"], report["version"]) == ("named", str(right), "a right one")
    assert report["fast"] and not report["mlx"] and not report["warning"]
    assert report["right"] and report["calls"] == 1


@linux
def test_blas_named_library_with_64_bit_integers_serves_mlx_through_the_shim(wide, cache):
    report = prepare(after=COUNT.format(path=str(wide)), GATSBY_BLAS=str(wide), XDG_CACHE_HOME=str(cache))
    assert (report["how"], report["path"]) == ("named", str(wide))
    assert report["right"] and report["calls"] == 1


PRODUCTS = """
import ctypes, numpy as np
library = ctypes.CDLL({path!r})
import mlx.core as mx
mx.set_default_device(mx.cpu)
report["calls"] = []
for m, n in ((1, 5), (5, 1), (3, 5)):
    a, b = np.arange(4 * m, dtype=np.float32).reshape(m, 4), np.arange(4 * n, dtype=np.float32).reshape(4, n)
    before = library.gatsby_test_calls()
    assert (np.array(mx.array(a) @ mx.array(b)) == a @ b).all()
    assert (np.array(mx.array(a) @ mx.array(b.T.copy()).T) == a @ b).all()
    report["calls"].append(library.gatsby_test_calls() - before)
"""


@linux
@pytest.mark.parametrize("integers", ["narrow", "wide"])
def test_blas_one_row_goes_to_sgemv_and_more_to_sgemm(integers, tmp_path, cache):
    name = ("-DVECTOR=scipy_cblas_sgemv64_", *WIDE, "-DVECTOR_FAULT=0") if integers == "wide" else VECTOR
    library = build(tmp_path / "libvector.so", *name)
    report = prepare(after=PRODUCTS.format(path=str(library)), GATSBY_BLAS=str(library), XDG_CACHE_HOME=str(cache))
    assert (report["how"], report["path"]) == ("named", str(library))
    assert report["calls"] == [200, 2, 2]


@linux
def test_blas_with_32_bit_integers_works_without_a_compiler(tmp_path):
    library = build(tmp_path / "libvector.so", *VECTOR)
    environment = {"GATSBY_BLAS": str(library), "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    report = prepare(after=PRODUCTS.format(path=str(library)), **environment)
    assert report["how"] == "named" and report["calls"] == [2, 2, 2]


@linux
@pytest.mark.parametrize("fault", FAULTS)
def test_blas_refuses_a_wrong_library(fault, tmp_path, cache):
    wrong = build(tmp_path / "libwrong.so", *FAULTS[fault])
    report = prepare(GATSBY_BLAS=str(wrong), XDG_CACHE_HOME=str(cache))
    assert report["kind"] == "UsageError" and str(wrong) in report["line"]
    assert "wrong cblas_" in report["line"] or "64-bit" in report["line"]
    assert "GATSBY_BLAS" in report["hint"]


@linux
def test_blas_refuses_a_missing_library(tmp_path):
    report = prepare(GATSBY_BLAS=str(tmp_path / "missing.so"))
    assert report["kind"] == "UsageError" and "missing.so" in report["line"] and report["hint"]


@linux
def test_blas_off_changes_nothing(right):
    report = prepare(after=COUNT.format(path=str(right)), GATSBY_BLAS="off")
    assert report["how"] == "off" and not report["fast"] and not report["warning"]
    assert report["right"] and report["calls"] == 0


@linux
def test_blas_prefers_the_system_library(tmp_path):
    for name in blas.SYSTEM_NAMES:
        build(tmp_path / name)
    report = prepare(LD_LIBRARY_PATH=str(tmp_path))
    assert report["how"] == "system" and Path(report["path"]).parent == tmp_path


@linux
def test_blas_replaces_a_wrong_system_library_by_numpys(tmp_path, cache):
    for name in blas.SYSTEM_NAMES:
        build(tmp_path / name, "-DFAULT(kind)=1")
    report = prepare(LD_LIBRARY_PATH=str(tmp_path), XDG_CACHE_HOME=str(cache))
    assert report["how"] == "numpy" and "openblas" in report["path"]
    assert "refused: wrong cblas_sgemm" in report["note"] and report["threads"] >= 1


@linux
def test_shim_is_compiled_once_and_again_when_incomplete(tmp_path):
    hidden = without_system(tmp_path / "lib")
    environment = {"LD_LIBRARY_PATH": hidden, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert prepare(**environment)["how"] == "numpy"
    (cached,) = (tmp_path / "cache" / "gatsby-mlx").iterdir()
    assert prepare(PATH="", **environment)["how"] == "numpy"
    cached.write_bytes(b"\x7fELF incomplete")
    assert prepare(PATH="", **environment)["how"] == "reference"
    assert prepare(**environment)["how"] == "numpy"
    assert cached.stat().st_size > 1000


@linux
def test_shim_works_without_a_cache_folder(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    hidden = without_system(tmp_path / "lib")
    report = prepare(LD_LIBRARY_PATH=hidden, XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=str(tmp_path / "tmp"))
    assert report["how"] == "numpy"
    assert not list((tmp_path / "tmp").iterdir())


@linux
def test_shim_is_built_by_several_processes_at_once(tmp_path):
    environment = {"LD_LIBRARY_PATH": without_system(tmp_path / "lib"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    running = [start(PREPARE.format(before="", after=""), **environment) for _ in range(4)]
    assert [finish(process)["how"] for process in running] == ["numpy"] * 4
    assert len(list((tmp_path / "cache" / "gatsby-mlx").iterdir())) == 1


@linux
def test_shim_compiles_as_c_and_as_cxx(tmp_path, monkeypatch):
    for compiler in filter(shutil.which, ("gcc", "g++", "clang", "clang++")):
        monkeypatch.setenv("CC", compiler)
        shim.compile_to(tmp_path / f"{compiler}.so")
        assert shim.load_cached(tmp_path / f"{compiler}.so") is not None


@linux
def test_blas_warning_without_any_library_has_a_hint(tmp_path):
    hidden = without_system(tmp_path / "lib")
    report = prepare(LD_LIBRARY_PATH=hidden, XDG_CACHE_HOME=str(tmp_path), PATH="")
    assert report["how"] == "reference" and not report["fast"]
    assert "apt-get install libopenblas0-pthread" in report["warning"] and "no C compiler" in report["warning"]


@linux
def test_blas_late_call_changes_nothing(right):
    report = prepare(before="import mlx.core", GATSBY_BLAS=str(right))
    assert report["how"] == "late" and not report["path"] and "imported first" in report["note"]


@linux
def test_blas_keeps_a_correct_preloaded_library_and_refuses_a_wrong_one(right, tmp_path):
    report = prepare(LD_PRELOAD=str(right), GATSBY_BLAS="")
    assert (report["how"], report["path"]) == ("preloaded", str(right))
    report = prepare(LD_PRELOAD=str(build(tmp_path / "libwrong.so", "-DFAULT(kind)=1")))
    assert report["kind"] == "GatsbyError" and "LD_PRELOAD" in report["hint"]


def test_blas_changes_nothing_on_macos(tmp_path):
    before = "sys.platform = 'darwin'\nimport ctypes\ndef never(*a, **k): raise AssertionError(a)\nctypes.CDLL = never"
    report = prepare(before=before, GATSBY_BLAS=str(tmp_path))
    assert report["how"] == "macos" and not report["warning"]


def test_prepare_gives_all_threads_one_result():
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(lambda _: device.prepare(), range(32)))
report["same"] = len(set(map(id, results))) == 1
"""
    assert prepare(after=code)["same"]


def test_linear_algebra_works_with_the_chosen_blas():
    code = """
import mlx.core as mx
with mx.stream(mx.cpu):
    x = mx.random.normal((24, 24), key=mx.random.key(0))
    s = x @ x.T + 24 * mx.eye(24)
    u, d, v = mx.linalg.svd(x)
    q, r = mx.linalg.qr(x)
    w, e = mx.linalg.eigh(s)
    chol = mx.linalg.cholesky(s)
    pairs = [((u * d) @ v, x), (q @ r, x), ((e * w) @ e.T, s), (chol @ chol.T, s), (mx.linalg.inv(s) @ s, mx.eye(24))]
    report["worst"] = max(float(mx.abs(a - b).max()) for a, b in pairs)
"""
    assert prepare(after=code)["worst"] < 1e-3


def test_check_shapes_stay_exact():
    for kind in check.KINDS:
        for _, _, k in kind.shapes:
            bound = min(2047, int((check.EXACT / (8 * k)) ** 0.5))
            assert 4 * bound * bound * k < check.EXACT  # complex: twice; the second call's 2: twice again
