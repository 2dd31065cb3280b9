"""A forwarder of three functions, `cblas_?gemm` with 32-bit integers, between MLX and the BLAS that does the work.

It does two things. numpy's wheel carries a modern OpenBLAS, but under names of its own (`scipy_cblas_sgemm64_`) and
with 64-bit integers, and MLX calls `cblas_sgemm` with 32-bit ones. And MLX asks for the product of one row and a matrix
as for any other, where sgemm first copies the whole matrix into blocks that it then uses once: sgemv reads it in place,
in a quarter of the time (decoding one story is nothing but such products). The C below holds four pointers that
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

void gatsby_forward(sgemm_t *s, dgemm_t *d, cgemm_t *c, sgemv_t *v) {
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
FLAGS = ("-O2", "-fPIC", "-shared", "-nostdlib")  # -nostdlib: a bare gcc without libc6-dev has no crti.o
COMPILE_LIMIT_S = 60


class ForwardError(Exception):
    """The forwarder cannot be made here; `str(error)` says why, `needs_compiler` whether a compiler would mend it."""

    def __init__(self, message: str, needs_compiler: bool = False):
        super().__init__(message)
        self.needs_compiler = needs_compiler


def functions(library: ctypes.CDLL, wide: bool) -> list[int | None] | None:
    """Return the addresses of a library's sgemm, dgemm, cgemm and sgemv, with 64-bit integers (`wide`) or 32-bit ones.

    None when it has no such products; the address of sgemv alone may be None.
    """
    for form in WIDE_NAMES if wide else NARROW_NAMES:
        found = [getattr(library, form.format(name), None) for name in (*PRODUCTS, "sgemv")]
        if all(found[: len(PRODUCTS)]):
            return [ctypes.cast(function, ctypes.c_void_p).value if function else None for function in found]
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


def source(wide: bool) -> str:
    """Return the C of the forwarder to a BLAS with 64-bit integers (`wide`) or 32-bit ones."""
    return SOURCE.replace("INTEGER", "long long" if wide else "int")


def cached_file(wide: bool) -> Path:
    """Return where the compiled forwarder of this source, these flags and this kind of processor lies."""
    key = hashlib.sha256("\0".join((source(wide), *FLAGS, platform.machine())).encode()).hexdigest()[:16]
    return cache_folder() / f"blas-forward-{key}.so"


def compile_to(path: Path, wide: bool = True) -> None:
    """Compile the forwarder to `path`: under a temporary name beside it, then renamed, so no reader sees a torn file.

    Raises ForwardError without a compiler or when it fails, OSError when the folder cannot be written.
    """
    compiler = find_compiler()
    if compiler is None:
        raise ForwardError("no C compiler found", needs_compiler=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=path.parent) as folder:
        text, made = Path(folder, "forward.c"), Path(folder, "forward.so")
        text.write_text(source(wide))
        command = [*compiler, *FLAGS, "-o", str(made), str(text)]
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


def load_forwarder(wide: bool) -> ctypes.CDLL:
    """Return the forwarder, not yet bound: from the cache, else compiled into it, else compiled into a passing folder.

    A passing folder (private, under the temporary folder) is removed once the file is loaded: nothing is cached, and
    nobody else can have put a file there. It serves when the cache cannot be written or forbids execution.
    Raises ForwardError when there is no compiler, or no folder from which a library can be loaded.
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
        pass  # the cache cannot be written: the passing folder is next
    try:
        with tempfile.TemporaryDirectory(prefix="gatsby-mlx-") as folder:
            passing = Path(folder, "forward.so")
            compile_to(passing, wide)
            return ctypes.CDLL(str(passing), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise ForwardError(f"no folder to load a compiled library from: {error}") from error


def bind(forwarder: ctypes.CDLL, addresses: list[int | None]) -> None:
    """Point the forwarder at what `functions` returned."""
    forwarder.gatsby_forward.argtypes = [ctypes.c_void_p] * 4
    forwarder.gatsby_forward.restype = None
    forwarder.gatsby_forward(*addresses)
