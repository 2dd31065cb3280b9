"""A forwarder of three functions: `cblas_?gemm` with 32-bit integers, handed on to a BLAS that takes 64-bit ones.

numpy's wheel carries a modern OpenBLAS, but under names of its own (`scipy_cblas_sgemm64_`) and with 64-bit integers.
MLX calls `cblas_sgemm` with 32-bit integers. The C below stands between them. It holds three pointers that
`gatsby_forward` fills after loading, so the compiled file depends neither on numpy's version nor on where numpy lies,
and it includes no header and links no library: any C or C++ compiler that can link makes it, without libc's headers.
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
typedef long long wide; /* 64 bits wherever MLX runs */

typedef void sgemm_t(int, int, int, wide, wide, wide, float, const float *, wide, const float *, wide, float, float *,
                     wide);
typedef void dgemm_t(int, int, int, wide, wide, wide, double, const double *, wide, const double *, wide, double,
                     double *, wide);
typedef void cgemm_t(int, int, int, wide, wide, wide, const void *, const void *, wide, const void *, wide,
                     const void *, void *, wide);

static sgemm_t *sgemm;
static dgemm_t *dgemm;
static cgemm_t *cgemm;

void gatsby_forward(sgemm_t *s, dgemm_t *d, cgemm_t *c) {
  sgemm = s;
  dgemm = d;
  cgemm = c;
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc) {
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

WIDE_NAMES = ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_")  # numpy 1.26 and later; earlier wheels
FLAGS = ("-O2", "-fPIC", "-shared", "-nostdlib")  # -nostdlib: a bare gcc without libc6-dev has no crti.o
COMPILE_LIMIT_S = 60


class ForwardError(Exception):
    """The forwarder cannot be made here; `str(error)` says why, `needs_compiler` whether a compiler would mend it."""

    def __init__(self, message: str, needs_compiler: bool = False):
        super().__init__(message)
        self.needs_compiler = needs_compiler


def wide_functions(library: ctypes.CDLL) -> list[int] | None:
    """Return the addresses of a library's 64-bit sgemm, dgemm and cgemm, or None when it has no such names."""
    for name in WIDE_NAMES:
        try:
            found = [getattr(library, name.format(kind)) for kind in "sdc"]
        except AttributeError:
            continue
        return [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in found]
    return None


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler: `$CC` if it is set and found, else gcc, cc, clang, g++ or c++; else None."""
    for command in (shlex.split(os.environ.get("CC", "")), ["gcc"], ["cc"], ["clang"], ["g++"], ["c++"]):
        path = shutil.which(command[0]) if command else None
        if path:
            return [path, *command[1:]]
    return None


def cache_folder() -> Path:
    """Return the folder for compiled forwarders: `$XDG_CACHE_HOME/gatsby-mlx`, else `~/.cache/gatsby-mlx`.

    Raises OSError for a user who has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification says to ignore relative paths
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        raise FileNotFoundError("this user has no home folder")
    return Path(base, "gatsby-mlx")


def cached_file() -> Path:
    """Return where the compiled forwarder of this source, these flags and this kind of processor lies."""
    key = hashlib.sha256("\0".join((SOURCE, *FLAGS, platform.machine())).encode()).hexdigest()[:16]
    return cache_folder() / f"blas-forward-{key}.so"


def compile_to(path: Path) -> None:
    """Compile the forwarder to `path`: under a temporary name beside it, then renamed, so no reader sees a torn file.

    Raises ForwardError without a compiler or when it fails, OSError when the folder cannot be written.
    """
    compiler = find_compiler()
    if compiler is None:
        raise ForwardError("no C compiler found", needs_compiler=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=path.parent) as folder:
        source, made = Path(folder, "forward.c"), Path(folder, "forward.so")
        source.write_text(SOURCE)
        command = [*compiler, *FLAGS, "-o", str(made), str(source)]
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=COMPILE_LIMIT_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise ForwardError(f"{compiler[0]} took more than {COMPILE_LIMIT_S} s", needs_compiler=True) from error
        if ran.returncode != 0 or not made.exists():
            why = (ran.stderr or ran.stdout).strip().splitlines()
            raise ForwardError(f"{compiler[0]} failed: {why[-1] if why else ran.returncode}", needs_compiler=True)
        os.replace(made, path)


def load_cached(path: Path) -> ctypes.CDLL | None:
    """Load a forwarder that lies in the cache; None when it is absent, torn, or not a file of this user or root."""
    try:
        if os.stat(path).st_uid not in (os.geteuid(), 0):
            return None
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
        return library if hasattr(library, "gatsby_forward") else None
    except OSError:
        return None


def load_forwarder() -> ctypes.CDLL:
    """Return the forwarder, not yet bound: from the cache, else compiled into it, else compiled into a passing folder.

    A passing folder (private, under the temporary folder) is removed once the file is loaded: nothing is cached, and
    nobody else can have put a file there. It serves when the cache cannot be written or forbids execution.
    Raises ForwardError when there is no compiler, or no folder from which a library can be loaded.
    """
    try:
        path = cached_file()
        library = load_cached(path)
        if library is None:
            compile_to(path)
            library = load_cached(path)
        if library is not None:
            return library
    except OSError:
        pass  # the cache cannot be written: the passing folder is next
    try:
        with tempfile.TemporaryDirectory(prefix="gatsby-mlx-") as folder:
            passing = Path(folder, "forward.so")
            compile_to(passing)
            return ctypes.CDLL(str(passing), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise ForwardError(f"no folder to load a compiled library from: {error}") from error


def bind(forwarder: ctypes.CDLL, functions: list[int]) -> None:
    """Point the forwarder at three functions, given as addresses of sgemm, dgemm, cgemm with 64-bit integers."""
    forwarder.gatsby_forward.argtypes = [ctypes.c_void_p] * 3
    forwarder.gatsby_forward.restype = None
    forwarder.gatsby_forward(*functions)
