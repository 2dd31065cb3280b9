"""device: each case is a process of its own, since a BLAS is chosen once and before MLX is imported."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gatsby_mlx import device
from gatsby_mlx.device import blas, check, forward

ROOT = Path(__file__).resolve().parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="nothing is promoted outside Linux")

# A slow, right BLAS that counts its calls. INT and NAME make the 64-bit variant, LIE and TEXT the wrong ones.
SOURCE = r"""
#ifndef INT
#define INT int
#define NAME(kind) cblas_##kind##gemm
#endif
#ifndef LIE
#define LIE(kind) 0
#endif
static int calls;
int gatsby_test_calls(void) { return calls; }
#ifdef TEXT
const char *openblas_get_config(void) { return TEXT; }
#endif
#define GEMM(kind, real, scalar, take)                                                                         \
  void NAME(kind)(int order, int ta, int tb, INT m, INT n, INT k, scalar alpha_, const real *a, INT lda,        \
                  const real *b, INT ldb, scalar beta_, real *c, INT ldc) {                                     \
    real alpha = take alpha_, beta = take beta_;                                                                \
    calls++;                                                                                                    \
    for (INT i = 0; i < m; i++)                                                                                 \
      for (INT j = 0; j < n; j++) {                                                                             \
        real sum = 0;                                                                                           \
        for (INT p = 0; p < k; p++)                                                                             \
          sum += (ta == 111 ? a[i * lda + p] : a[p * lda + i]) * (tb == 111 ? b[p * ldb + j] : b[j * ldb + p]); \
        sum = alpha * sum + (LIE(kind));                                                                        \
        c[i * ldc + j] = beta == (real)0 && !KEEP ? sum : sum + beta * c[i * ldc + j];                          \
      }                                                                                                         \
  }
#ifndef KEEP
#define KEEP 0
#endif
#ifdef VECTOR
void VECTOR(int order, int ta, INT m, INT n, float alpha, const float *a, INT lda, const float *x, INT incx,
            float beta, float *y, INT incy) {
  calls += 100;
  for (INT i = 0; i < (ta == 111 ? m : n); i++) {
    float sum = VECTOR_LIE;
    for (INT j = 0; j < (ta == 111 ? n : m); j++) sum += (ta == 111 ? a[i * lda + j] : a[j * lda + i]) * x[j * incx];
    y[i * incy] = alpha * sum + (beta == 0 ? 0 : beta * y[i * incy]);
  }
}
#endif
GEMM(s, float, float, )
GEMM(d, double, double, )
GEMM(c, float _Complex, const void *, *(const float _Complex *))
"""
VECTOR = ("-DVECTOR=cblas_sgemv", "-DVECTOR_LIE=0")
WIDE = ("-DINT=long long", "-DNAME(kind)=scipy_cblas_##kind##gemm64_")
LIES = {
    "at the edge of a tile": ("-DLIE(kind)=(i == 64)",),
    "for doubles": ("-DLIE(kind)=sizeof(real_##kind) == 8", "-Dreal_s=float", "-Dreal_d=double", "-Dreal_c=float"),
    "when threads are used": ("-DLIE(kind)=((double)m * n * k > (1 << 18) && i == 65)",),
    "only when transposed": ("-DLIE(kind)=(tb == 112 && n > 16)",),
    "by keeping what memory held": ("-DKEEP=1",),
    "about its integers": ('-DTEXT="OpenBLAS 0.3 USE64BITINT"',),
    "through the forwarder": (*WIDE, "-DLIE(kind)=(j == 33)"),
    "about vectors": ("-DVECTOR=cblas_sgemv", "-DVECTOR_LIE=(i == 96)"),
}


def build(path: Path, *flags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text(SOURCE)
    compiler = forward.find_compiler()
    assert compiler, "these tests need a C compiler"
    subprocess.run([*compiler, "-O2", "-fPIC", "-shared", *flags, "-o", str(path), str(source)], check=True)
    return path


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


def start(code: str, **environment: str) -> subprocess.Popen:
    dropped = ("GATSBY_BLAS", "LD_PRELOAD", "LD_LIBRARY_PATH", "CC", "MLX_DISABLE_COMPILE")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> dict:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(out)


PREPARE = """
import json, sys
from dataclasses import asdict
from gatsby_mlx import device
from gatsby_mlx.device import blas
from gatsby_mlx.errors import GatsbyError
blas._mkl = lambda: iter(())  # whatever this environment has installed
{before}
try:
    found = device.prepare()
    report = dict(asdict(found), warning=found.warning, fast=found.fast)
except GatsbyError as error:
    report = dict(kind=type(error).__name__, line=error.line(), cure=error.cure)
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
def test_named_library_serves_mlx(right):
    report = prepare(after=COUNT.format(path=str(right)), GATSBY_BLAS=str(right))
    assert (report["how"], report["path"], report["version"]) == ("named", str(right), "a right one")
    assert report["fast"] and not report["mlx"] and not report["warning"]
    assert report["right"] and report["calls"] == 1


@linux
def test_named_library_with_64_bit_integers_serves_mlx_through_the_forwarder(wide, cache):
    report = prepare(after=COUNT.format(path=str(wide)), GATSBY_BLAS=str(wide), XDG_CACHE_HOME=str(cache))
    assert (report["how"], report["path"]) == ("named", str(wide))
    assert report["right"] and report["calls"] == 1


ROWS = """
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
def test_one_row_goes_to_sgemv_and_more_to_sgemm(integers, tmp_path, cache):
    name = ("-DVECTOR=scipy_cblas_sgemv64_", *WIDE, "-DVECTOR_LIE=0") if integers == "wide" else VECTOR
    library = build(tmp_path / "libvector.so", *name)
    report = prepare(after=ROWS.format(path=str(library)), GATSBY_BLAS=str(library), XDG_CACHE_HOME=str(cache))
    assert (report["how"], report["path"]) == ("named", str(library))
    assert report["calls"] == [200, 2, 2]


@linux
def test_a_library_with_32_bit_integers_serves_without_a_compiler(tmp_path):
    library = build(tmp_path / "libvector.so", *VECTOR)
    environment = {"GATSBY_BLAS": str(library), "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    report = prepare(after=ROWS.format(path=str(library)), **environment)
    assert report["how"] == "named" and report["calls"] == [2, 2, 2]


@linux
@pytest.mark.parametrize("lie", LIES)
def test_wrong_library_is_refused(lie, tmp_path, cache):
    liar = build(tmp_path / "libliar.so", *LIES[lie])
    report = prepare(GATSBY_BLAS=str(liar), XDG_CACHE_HOME=str(cache))
    assert report["kind"] == "UsageError" and str(liar) in report["line"]
    assert "wrong cblas_" in report["line"] or "64-bit" in report["line"]
    assert "GATSBY_BLAS" in report["cure"]


@linux
def test_missing_library_is_refused(tmp_path):
    report = prepare(GATSBY_BLAS=str(tmp_path / "nowhere.so"))
    assert report["kind"] == "UsageError" and "nowhere.so" in report["line"] and report["cure"]


@linux
def test_off_changes_nothing(right):
    report = prepare(after=COUNT.format(path=str(right)), GATSBY_BLAS="off")
    assert report["how"] == "off" and not report["fast"] and not report["warning"]
    assert report["right"] and report["calls"] == 0


@linux
def test_system_library_comes_first(tmp_path):
    for name in blas.SYSTEM_NAMES:
        build(tmp_path / name)
    report = prepare(LD_LIBRARY_PATH=str(tmp_path))
    assert report["how"] == "system" and Path(report["path"]).parent == tmp_path


@linux
def test_wrong_system_library_gives_way_to_numpys(tmp_path, cache):
    for name in blas.SYSTEM_NAMES:
        build(tmp_path / name, "-DLIE(kind)=1")
    report = prepare(LD_LIBRARY_PATH=str(tmp_path), XDG_CACHE_HOME=str(cache))
    assert report["how"] == "numpy" and "openblas" in report["path"]
    assert "refused: wrong cblas_sgemm" in report["note"] and report["threads"] >= 1


@linux
def test_forwarder_is_compiled_once_and_healed_when_torn(tmp_path):
    hidden = without_system(tmp_path / "lib")
    environment = {"LD_LIBRARY_PATH": hidden, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert prepare(**environment)["how"] == "numpy"
    (made,) = (tmp_path / "cache" / "gatsby-mlx").iterdir()
    assert prepare(PATH="", **environment)["how"] == "numpy"
    made.write_bytes(b"\x7fELF torn")
    assert prepare(PATH="", **environment)["how"] == "reference"
    assert prepare(**environment)["how"] == "numpy"
    assert made.stat().st_size > 1000


@linux
def test_forwarder_works_without_a_cache_folder(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "tmp").mkdir()
    hidden = without_system(tmp_path / "lib")
    report = prepare(LD_LIBRARY_PATH=hidden, XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=str(tmp_path / "tmp"))
    assert report["how"] == "numpy"
    assert not list((tmp_path / "tmp").iterdir())


@linux
def test_forwarder_is_built_by_processes_at_once(tmp_path):
    environment = {"LD_LIBRARY_PATH": without_system(tmp_path / "lib"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    running = [start(PREPARE.format(before="", after=""), **environment) for _ in range(4)]
    assert [finish(process)["how"] for process in running] == ["numpy"] * 4
    assert len(list((tmp_path / "cache" / "gatsby-mlx").iterdir())) == 1


@linux
def test_forwarder_compiles_as_c_and_as_cxx(tmp_path, monkeypatch):
    for compiler in filter(shutil.which, ("gcc", "g++", "clang", "clang++")):
        monkeypatch.setenv("CC", compiler)
        forward.compile_to(tmp_path / f"{compiler}.so")
        assert forward.load_cached(tmp_path / f"{compiler}.so") is not None


@linux
def test_without_anything_a_warning_names_the_cure(tmp_path):
    hidden = without_system(tmp_path / "lib")
    report = prepare(LD_LIBRARY_PATH=hidden, XDG_CACHE_HOME=str(tmp_path), PATH="")
    assert report["how"] == "reference" and not report["fast"]
    assert "apt-get install libopenblas0-pthread" in report["warning"] and "no C compiler" in report["warning"]


@linux
def test_late_call_changes_nothing_and_says_so(right):
    report = prepare(before="import mlx.core", GATSBY_BLAS=str(right))
    assert report["how"] == "late" and not report["path"] and "imported first" in report["note"]


@linux
def test_preloaded_library_is_kept_when_right_and_refused_when_wrong(right, tmp_path):
    report = prepare(LD_PRELOAD=str(right), GATSBY_BLAS="")
    assert (report["how"], report["path"]) == ("preloaded", str(right))
    report = prepare(LD_PRELOAD=str(build(tmp_path / "libliar.so", "-DLIE(kind)=1")))
    assert report["kind"] == "GatsbyError" and "LD_PRELOAD" in report["cure"]


def test_macos_is_untouched(tmp_path):
    before = "sys.platform = 'darwin'\nimport ctypes\ndef never(*a, **k): raise AssertionError(a)\nctypes.CDLL = never"
    report = prepare(before=before, GATSBY_BLAS=str(tmp_path))
    assert report["how"] == "macos" and not report["warning"]


def test_prepare_is_idempotent_among_threads():
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda _: device.prepare(), range(32)))
report["same"] = len(set(map(id, found))) == 1
"""
    assert prepare(after=code)["same"]


def test_linear_algebra_works_with_what_was_chosen():
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


@pytest.mark.parametrize(
    ("text", "share"), [("max 100000", 0), ("150000 100000", 2), ("200000 100000", 2), ("nonsense", 0)]
)
def test_cpu_share_reads_a_containers_quota(text, share, monkeypatch):
    def read(path: Path) -> str:
        if path.name != "cpu.max":
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert blas.cpu_share() == share


COMPILE = """
import json
from gatsby_mlx import device
from gatsby_mlx.device.compiler import compiler_report
device.prepare()
print(json.dumps(dict(cheap=device.compile_works(), **compiler_report())))
"""


@linux
def test_compile_works_with_gxx(tmp_path):
    report = finish(start(COMPILE, TMPDIR=str(tmp_path)))
    assert report["cheap"] and report["works"] and not report["note"] and report["version"]


@linux
def test_compile_problem_is_named(tmp_path):
    report = finish(start(COMPILE, PATH=""))
    assert not report["cheap"] and not report["works"] and "g++" in report["note"]
    report = finish(start(COMPILE, TMPDIR=str(tmp_path / "absent")))
    assert not report["cheap"] and "absent" in report["note"]
    report = finish(start(COMPILE, MLX_DISABLE_COMPILE="1"))
    assert not report["cheap"] and "MLX_DISABLE_COMPILE" in report["note"]


@linux
def test_compiler_that_fails_is_found_out_by_the_probe(tmp_path):
    fake = tmp_path / "g++"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho no headers here\nexit 1\n')
    fake.chmod(0o755)
    report = finish(start(COMPILE, PATH=f"{tmp_path}:/bin", TMPDIR=str(tmp_path)))
    assert report["cheap"] and not report["works"] and "Failed to compile" in report["note"]


def test_memory_limits_are_put_back():
    device.prepare()
    import mlx.core as mx

    def now() -> int:
        limit = mx.set_cache_limit(0)
        mx.set_cache_limit(limit)
        return limit

    before = now()
    with device.memory_limits(cache_bytes=12345):
        assert now() == 12345
    assert now() == before
    with pytest.raises(KeyError), device.memory_limits(cache_bytes=1):
        raise KeyError
    assert now() == before
    with device.memory_limits():
        assert now() == before
    with pytest.raises(ValueError, match="cache_bytes"), device.memory_limits(cache_bytes=-1):
        pass


def test_machine_reports_what_json_can_hold():
    code = "import json; from gatsby_mlx import device; print(json.dumps(device.machine()))"
    report = finish(start(code))
    keys = "platform python mlx device blas measured_gflop_s memory compiler advice"
    assert set(report) == set(keys.split())
    assert report["device"]["kind"] in ("cpu", "gpu")
    figure = report["measured_gflop_s"]
    assert 0 < figure["low"] <= figure["median"] <= figure["high"]
    assert 0 < report["memory"]["available"] <= report["memory"]["total"]


@linux
def test_settings_that_hold_openblas_back_are_advised_against(monkeypatch):
    from gatsby_mlx.device import doctor

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
def test_machine_advises_where_something_is_slow():
    code = "import json; from gatsby_mlx import device; print(json.dumps(device.machine()))"
    report = finish(start(code, GATSBY_BLAS="off", PATH=""))
    advice = " ".join(report["advice"])
    assert "GATSBY_BLAS=off" in advice and "apt-get install g++" in advice
