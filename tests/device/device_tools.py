"""Tools of the device tests: programs in processes of their own, because a BLAS is chosen once per process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import platforms

from gatsby_mlx.device.blas import shim

ROOT = Path(__file__).resolve().parents[2]
linux = platforms.linux_blas

# A slow, correct BLAS that counts its calls. INT and NAME make the variant with 64-bit integers; FAULT and TEXT make
# wrong ones.
SOURCE = r"""
#ifndef INT
#define INT int
#define NAME(kind) cblas_##kind##gemm
#endif
#ifndef FAULT
#define FAULT(kind) 0
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
        sum = alpha * sum + (FAULT(kind));                                                                        \
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
    float sum = VECTOR_FAULT;
    for (INT j = 0; j < (ta == 111 ? n : m); j++) sum += (ta == 111 ? a[i * lda + j] : a[j * lda + i]) * x[j * incx];
    y[i * incy] = alpha * sum + (beta == 0 ? 0 : beta * y[i * incy]);
  }
}
#endif
GEMM(s, float, float, )
GEMM(d, double, double, )
GEMM(c, float _Complex, const void *, *(const float _Complex *))
"""
VECTOR = ("-DVECTOR=cblas_sgemv", "-DVECTOR_FAULT=0")
WIDE = ("-DINT=long long", "-DNAME(kind)=scipy_cblas_##kind##gemm64_")
FAULTS = {
    "at the edge of a tile": ("-DFAULT(kind)=(i == 64)",),
    "for doubles": ("-DFAULT(kind)=sizeof(real_##kind) == 8", "-Dreal_s=float", "-Dreal_d=double", "-Dreal_c=float"),
    "when threads are used": ("-DFAULT(kind)=((double)m * n * k > (1 << 18) && i == 65)",),
    "only when transposed": ("-DFAULT(kind)=(tb == 112 && n > 16)",),
    "with what was in memory before": ("-DKEEP=1",),
    "with other integers than its names say": ('-DTEXT="OpenBLAS 0.3 USE64BITINT"',),
    "through the shim": (*WIDE, "-DFAULT(kind)=(j == 33)"),
    "for vectors": ("-DVECTOR=cblas_sgemv", "-DVECTOR_FAULT=(i == 96)"),
}


def build(path: Path, *flags: str) -> Path:
    """Compile SOURCE to the library `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text(SOURCE)
    compiler = shim.find_compiler()
    assert compiler, "these tests need a C compiler"
    subprocess.run([*compiler, "-O2", "-fPIC", "-shared", *flags, "-o", str(path), str(source)], check=True)
    return path


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    """Run Python `code` in a new process, with `environment` and without settings that choose a BLAS or a compiler."""
    dropped = ("GATSBY_BLAS", "LD_PRELOAD", "LD_LIBRARY_PATH", "CC", "MLX_DISABLE_COMPILE")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the JSON document that a process printed."""
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return json.loads(out)
