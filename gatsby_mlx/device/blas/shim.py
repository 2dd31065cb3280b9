"""A compiled shim between MLX and the BLAS that does the work: three functions, `cblas_?gemm` with 32-bit integers.

It does two things. First, numpy's wheel contains a modern OpenBLAS, but with other names (`scipy_cblas_sgemm64_`) and
64-bit integers, while MLX calls `cblas_sgemm` with 32-bit integers. Second, MLX also calls sgemm for the product of a
single row and a matrix. There, sgemm copies the matrix into blocks that it uses only once, while sgemv reads it in
place, in a quarter of the time. Decoding one story consists of such products.

The C code has four pointers that `gatsby_set_blas` sets after loading. So the compiled file depends neither on numpy's
version nor on its location. It includes no header and links no library: any C or C++ compiler that can link can build
it, even without libc's headers.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = """\
#ifdef __cplusplus
extern "C" {
#endif
typedef INTEGER wide; /* what the BLAS takes: int, or long long, which has 64 bits wherever MLX runs */

typedef void sgemm_t(int, int, int, wide, wide, wide, float, const float *, wide, const float *, wide, float, float *,
                     wide);
typedef void dgemm_t(int, int, int, wide, wide, wide, double, const double *, wide, const double *, wide, double,
                     double *, wide);
typedef void cgemm_t(int, int, int, wide, wide, wide, const void *, const void *, wide, const void *, wide,
                     const void *, void *, wide);

typedef void sgemv_t(int, int, wide, wide, float, const float *, wide, const float *, wide, float, float *, wide);

static sgemm_t *sgemm;
static dgemm_t *dgemm;
static cgemm_t *cgemm;
static sgemv_t *sgemv;

void gatsby_set_blas(sgemm_t *s, dgemm_t *d, cgemm_t *c, sgemv_t *v) {
  sgemm = s;
  dgemm = d;
  cgemm = c;
  sgemv = v;
}

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 }; /* cblas.h */

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
  if (m == 1 && sgemv && order == ROW_MAJOR) { /* a is a row, c = op(b) transposed times it */
    int stored = tb == NO_TRANS;
    sgemv(order, stored ? TRANS : NO_TRANS, stored ? k : n, stored ? n : k, alpha, b, ldb, a, ta == NO_TRANS ? 1 : lda,
          beta, c, 1);
    return;
  }
  sgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void cblas_dgemm(int order, int ta, int tb, int m, int n, int k, double alpha, const double *a, int lda,
                 const double *b, int ldb, double beta, double *c, int ldc) {
  dgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void cblas_cgemm(int order, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int lda,
                 const void *b, int ldb, const void *beta, void *c, int ldc) {
  cgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#ifdef __cplusplus
}
#endif
"""

WIDE_NAMES = ("scipy_cblas_{}64_", "cblas_{}64_")  # numpy 1.26 and later; earlier wheels
NARROW_NAMES = ("cblas_{}",)
PRODUCTS = ("sgemm", "dgemm", "cgemm")
FLAGS = ("-O2", "-fPIC", "-shared", "-nostdlib")  # -nostdlib: a gcc without libc6-dev has no crti.o
COMPILE_LIMIT_S = 60


class ShimError(Exception):
    """The shim cannot be built or loaded here. `str(error)` says why."""


def functions(library: ctypes.CDLL, wide: bool) -> list[int | None] | None:
    """Return the addresses of a library's sgemm, dgemm, cgemm and sgemv, with 64-bit integers (`wide`) or 32-bit ones.

    The result is None if it lacks one of the products. The address of sgemv may be None.
    """
    for form in WIDE_NAMES if wide else NARROW_NAMES:
        pointers = [getattr(library, form.format(name), None) for name in (*PRODUCTS, "sgemv")]
        if all(pointers[: len(PRODUCTS)]):
            return [ctypes.cast(pointer, ctypes.c_void_p).value if pointer else None for pointer in pointers]
    return None


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler: `$CC` if it exists, else gcc, cc, clang, g++ or c++; None without any."""
    for command in (shlex.split(os.environ.get("CC", "")), ["gcc"], ["cc"], ["clang"], ["g++"], ["c++"]):
        path = shutil.which(command[0]) if command else None
        if path:
            return [path, *command[1:]]
    return None


def cache_folder() -> Path:
    """Return the folder for compiled shims: `$XDG_CACHE_HOME/gatsby-mlx`, else `~/.cache/gatsby-mlx`.

    Raises OSError for a user without a home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification says to ignore relative paths
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        raise FileNotFoundError("this user has no home folder")
    return Path(base, "gatsby-mlx")


def source(wide: bool) -> str:
    """Return the C code of the shim for a BLAS with 64-bit integers (`wide`) or 32-bit ones."""
    return SOURCE.replace("INTEGER", "long long" if wide else "int")


def cached_file(wide: bool) -> Path:
    """Return the path of the compiled shim for this source, these flags and this kind of processor."""
    key = hashlib.sha256("\0".join((source(wide), *FLAGS, platform.machine())).encode()).hexdigest()[:16]
    return cache_folder() / f"blas-shim-{key}.so"


def compile_to(path: Path, wide: bool = True) -> None:
    """Compile the shim to `path`: to a temporary name next to it first, so nobody reads an incomplete file.

    Raises ShimError without a compiler or if it fails, OSError if the folder is not writable.
    """
    compiler = find_compiler()
    if compiler is None:
        raise ShimError("no C compiler found")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=path.parent) as folder:
        code, library = Path(folder, "shim.c"), Path(folder, "shim.so")
        code.write_text(source(wide))
        command = [*compiler, *FLAGS, "-o", str(library), str(code)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMPILE_LIMIT_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise ShimError(f"{compiler[0]} took more than {COMPILE_LIMIT_S} s") from error
        if done.returncode != 0 or not library.exists():
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise ShimError(f"{compiler[0]} failed: {lines[-1] if lines else done.returncode}")
        os.replace(library, path)


def load_cached(path: Path) -> ctypes.CDLL | None:
    """Load a shim from the cache; return None if it is missing, incomplete, or not owned by this user or root."""
    try:
        if os.stat(path).st_uid not in (os.geteuid(), 0):
            return None
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
        return library if hasattr(library, "gatsby_set_blas") else None
    except OSError:
        return None


def load_shim(wide: bool) -> ctypes.CDLL:
    """Return the shim, not yet bound: from the cache, or compiled into the cache, or compiled into a temporary folder.

    The temporary folder is for a cache that is not writable or forbids execution. It is private, so nobody else can put
    a file there, and it is removed when the file is loaded. Raises ShimError without a compiler, or without a folder
    from which a library can be loaded.
    """
    try:
        path = cached_file(wide)
        library = load_cached(path)
        if library is None:
            compile_to(path, wide)
            library = load_cached(path)
        if library is not None:
            return library
    except OSError:
        pass  # the cache is not writable: use a temporary folder
    try:
        with tempfile.TemporaryDirectory(prefix="gatsby-mlx-") as folder:
            path = Path(folder, "shim.so")
            compile_to(path, wide)
            return ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise ShimError(f"no folder to load a compiled library from: {error}") from error


def bind(shim: ctypes.CDLL, addresses: list[int | None]) -> None:
    """Let the shim call the four functions at `addresses`, as `functions` returns them."""
    shim.gatsby_set_blas.argtypes = [ctypes.c_void_p] * 4
    shim.gatsby_set_blas.restype = None
    shim.gatsby_set_blas(*addresses)
