"""Give MLX a fast BLAS on Linux, before `mlx.core` is first imported.

MLX's Linux wheel links the reference BLAS, which is about 50 times slower than OpenBLAS. The dynamic loader looks for
`cblas_sgemm` first in libraries that were loaded globally (`RTLD_GLOBAL`), then in the one that the wheel links. So
`prepare` loads a library locally, checks it (`check.fault`), and then makes it global. On macOS, MLX uses Metal and
Accelerate, and `prepare` changes nothing.

A library that was made global is visible to everything that the process loads later, so import PyTorch in another
process.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatsby_mlx.device.blas import shim
from gatsby_mlx.errors import GatsbyError, UsageError

HINT = "apt-get install libopenblas0-pthread, or a C compiler (apt-get install g++), then run again"
SYSTEM_NAMES = ("libopenblasp.so.0", "libopenblas.so.0")  # Fedora's plain name is its build without threads
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
OPENBLAS_NAMES = ("{}", "{}64_", "scipy_{}64_", "scipy_{}")


@dataclass(frozen=True)
class Blas:
    """The BLAS that MLX uses in this process.

    `how` it was chosen: "system", "numpy" (the OpenBLAS in numpy's wheel, through the shim), "mkl", "named" (by
    GATSBY_BLAS), "preloaded" (it was global before), "reference" (there is no fast one), "off", "late" (MLX was
    imported first, so nothing was changed) or "macos". `hint` is a command that would make a slow one fast.
    """

    how: str
    name: str = "reference"
    path: str = ""
    version: str = ""
    threads: int = 0  # 0: unknown
    note: str = ""
    hint: str = ""

    @property
    def fast(self) -> bool:
        """Whether an optimized BLAS is known to be in use."""
        return self.how in ("system", "numpy", "mkl", "named", "preloaded", "macos") or bool(self.path)

    @property
    def warning(self) -> str:
        """One line to show when MLX uses a slow BLAS because there is no fast one, else ""."""
        if self.how != "reference":
            return ""
        return f"matrix products are about 50 times slower than with a fast BLAS: {self.note}. {self.hint}"


@dataclass(frozen=True)
class Candidate:
    """A library that was loaded locally: `narrow` has the names with 32-bit integers, `core` does the work.

    They differ when the shim is used. `path` is what dlopen was called with.
    """

    how: str
    path: str
    narrow: ctypes.CDLL
    core: ctypes.CDLL


_lock = threading.Lock()
_result: Blas | None = None


def prepare() -> Blas:
    """Find a fast BLAS, check it, make it global, and return it. Call this before the first `import mlx.core`.

    The first call decides and later ones return its result, in any thread. `GATSBY_BLAS=off` keeps the BLAS of MLX's
    wheel. `GATSBY_BLAS=PATH` allows only that library, and raises UsageError if it cannot be loaded or computes wrong
    products. Raises GatsbyError if a wrong BLAS is global already (LD_PRELOAD). The `note` of the result says which
    libraries were refused. Takes 15 to 50 ms when numpy is imported, and once 0.1 s for the compiler; imports no MLX.
    """
    global _result
    with _lock:
        if _result is None:
            _result = _decide()
        return _result


def _decide() -> Blas:
    if sys.platform == "darwin":
        return Blas("macos", "Accelerate and Metal")
    setting = os.environ.get("GATSBY_BLAS", "").strip()
    if "mlx.core" in sys.modules:
        return replace(_global() or Blas("late"), how="late", note="mlx.core was imported first; nothing was changed")
    if setting.lower() == "off":
        return Blas("off", note="GATSBY_BLAS=off")
    preloaded = _global()
    if preloaded is not None:
        _check_global(preloaded)
        return preloaded
    return _named(setting) if setting else _search()


def _search() -> Blas:
    refused: list[str] = []
    serial: list[Candidate] = []  # correct, but built without threads: used if there is nothing better
    for how, candidates in (("system", _system), ("numpy", _numpy), ("mkl", _mkl)):
        try:
            for candidate in candidates():
                wrong = _fault(candidate)
                if wrong:
                    refused.append(f"{candidate.path} refused: {wrong}")
                elif _is_serial(candidate.core):
                    serial.append(candidate)
                    refused.append(f"{candidate.path} is built without threads")
                else:
                    return _promote(candidate, "; ".join(refused))
        except (OSError, shim.ShimError) as error:
            refused.append(f"{how}: {error}")
    if serial:
        return _promote(serial[0], "; ".join(refused))
    return Blas("reference", note="; ".join(refused) or "there is no fast BLAS", hint=HINT)


def _named(path: str) -> Blas:
    hint = "Set GATSBY_BLAS to the path of a BLAS with cblas_sgemm, or unset it"
    try:
        candidate = _load("named", os.path.expanduser(path))
    except (OSError, shim.ShimError) as error:
        raise UsageError(f"GATSBY_BLAS={path} cannot be used: {error}", hint) from error
    wrong = _fault(candidate)
    if wrong:
        raise UsageError(f"GATSBY_BLAS={path} is refused: {wrong}", hint)
    return _promote(candidate, "GATSBY_BLAS")


def _load(how: str, path: str) -> Candidate:
    """Load a library locally, with the shim in front; one with 32-bit integers alone if there is no shim."""
    core = ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL)
    wide = not hasattr(core, "cblas_sgemm")
    addresses = shim.functions(core, wide)
    if addresses is None or not (wide or addresses[-1]):
        return Candidate(how, path, core, core)
    try:
        narrow = shim.load_shim(wide)
    except shim.ShimError:
        if wide:
            raise
        return Candidate(how, path, core, core)
    shim.bind(narrow, addresses)
    return Candidate(how, narrow._name, narrow, core)


def _system() -> Iterator[Candidate]:
    names = [*SYSTEM_NAMES, *(os.path.join(sys.prefix, "lib", name) for name in SYSTEM_NAMES)]  # the latter: conda
    for name in names:
        try:
            yield _load("system", name)
        except OSError:
            continue


def _numpy() -> Iterator[Candidate]:
    import numpy

    package = Path(numpy.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".libs"):
        for path in sorted(folder.glob("*openblas*.so*")):
            yield _load("numpy", str(path))


def _mkl() -> Iterator[Candidate]:
    from importlib import metadata  # slow to import, and rarely needed

    try:
        files = metadata.distribution("mkl").files or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith("libmkl_rt.so"):
            yield _load("mkl", str(Path(str(file.locate())).resolve()))


def _fault(candidate: Candidate) -> str:
    from gatsby_mlx.device.blas import check  # imports numpy, so only where it is needed

    narrow_names = hasattr(candidate.core, "cblas_sgemm")
    if narrow_names and "USE64BITINT" in _openblas_text(candidate.core, "openblas_get_config"):
        return "it takes 64-bit integers"
    if library_function(candidate.core, "MKL_Get_Version_String") and "ILP64" in os.environ.get(
        "MKL_INTERFACE_LAYER", ""
    ):
        return "MKL_INTERFACE_LAYER selects 64-bit integers"
    return check.fault(candidate.narrow)


def _promote(candidate: Candidate, note: str) -> Blas:
    """Make the symbols of a checked library visible to all libraries that are loaded later."""
    ctypes.CDLL(candidate.narrow._name, mode=ctypes.RTLD_GLOBAL | os.RTLD_NOLOAD)
    return _describe(candidate.how, candidate.core, note)


def _global() -> Blas | None:
    """Return the BLAS that is global already (LD_PRELOAD, or a program that links one), which MLX will use; or None."""
    everything = ctypes.CDLL(None)
    if not hasattr(everything, "cblas_sgemm"):
        return None
    return _describe("preloaded", everything, "was global already")


def _check_global(preloaded: Blas) -> None:
    everything = ctypes.CDLL(None)
    wrong = _fault(Candidate("preloaded", preloaded.path, everything, everything))
    if wrong:
        raise GatsbyError(f"{preloaded.path} is loaded globally and MLX cannot use it: {wrong}", "Unset LD_PRELOAD")


def _is_serial(core: ctypes.CDLL) -> bool:
    parallel = library_function(core, "openblas_get_parallel")
    return parallel is not None and parallel() == 0 and processors() > 1


def _describe(how: str, core: ctypes.CDLL, note: str) -> Blas:
    path = _path_of(core)
    if library_function(core, "MKL_Get_Version_String"):
        text = ctypes.create_string_buffer(256)
        core.MKL_Get_Version_String(text, 256)
        return Blas(how, "MKL", path, text.value.decode().strip(), core.MKL_Get_Max_Threads(), note)
    version = _openblas_text(core, "openblas_get_config")
    if not version:
        return Blas(how, Path(path).name, path, note=note)
    corename = _openblas_text(core, "openblas_get_corename")
    if corename and corename not in version:
        version = f"{version} on {corename}"
    return Blas(how, "OpenBLAS", path, version, _fit_threads(core), note)


def library_function(library: ctypes.CDLL, name: str) -> Any:
    """Return a function of a library under any of the forms that OpenBLAS gives its names, or None."""
    names = (form.format(name) for form in OPENBLAS_NAMES)
    return next((getattr(library, name) for name in names if hasattr(library, name)), None)


def _openblas_text(library: ctypes.CDLL, name: str) -> str:
    function = library_function(library, name)
    if function is None:
        return ""
    function.restype = ctypes.c_char_p
    return " ".join((function() or b"").decode(errors="replace").split())


def _fit_threads(core: ctypes.CDLL) -> int:
    """Return the number of threads of OpenBLAS, after lowering it to the container's share of processors.

    A number in one of THREAD_VARIABLES is respected. OpenBLAS counts the processors that it may run on but ignores a
    container's quota, and 64 threads that share 2 processors are very slow.
    """
    count, setter = (
        library_function(core, "openblas_get_num_threads"),
        library_function(core, "openblas_set_num_threads"),
    )
    threads = int(count()) if count else 0
    share = cpu_share()
    if setter and share and threads > share and not any(os.environ.get(name) for name in THREAD_VARIABLES):
        setter(share)
        threads = int(count()) if count else share
    return threads


def processors() -> int:
    """Return the number of processors that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_share() -> int:
    """Return the container's CPU quota in processors, rounded up (cgroup v2, then v1); 0 if there is no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            quota, period = ((folder / f"cpu.cfs_{part}_us").read_text().strip() for part in ("quota", "period"))
        except OSError:
            return 0
    try:
        return max(0, -(-int(quota) // int(period)))
    except (ValueError, ZeroDivisionError):  # "max"
        return 0


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _path_of(core: ctypes.CDLL) -> str:
    """Return the file that contains a library's sgemm (from dladdr), links resolved; the library's name if unknown."""
    addresses = shim.functions(core, wide=True) if not hasattr(core, "cblas_sgemm") else None
    address = addresses[0] if addresses else ctypes.cast(core.cblas_sgemm, ctypes.c_void_p).value
    info = _DlInfo()
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    if dladdr is not None and dladdr(ctypes.c_void_p(address), ctypes.byref(info)) and info.file:
        return os.path.realpath(os.fsdecode(info.file))
    return str(core._name or "")
