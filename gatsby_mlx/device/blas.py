"""Give MLX a fast BLAS on Linux, before `mlx.core` is first imported.

MLX's Linux wheel links the reference BLAS, some 50 times slower than OpenBLAS. The loader looks for `cblas_sgemm`
first among the libraries that were loaded globally (`RTLD_GLOBAL`), then in the one that the wheel links. So a library
is loaded locally, checked (`check.fault`), and only then made global. On macOS, MLX uses Metal and Accelerate, and
`prepare` does nothing at all.

A library that is promoted stays visible to whatever is loaded later in the process: import PyTorch in another one.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatsby_mlx.device import forward
from gatsby_mlx.errors import GatsbyError, UsageError

CURE = "apt-get install libopenblas0-pthread, or a C compiler (apt-get install g++), then run again"
SYSTEM_NAMES = ("libopenblasp.so.0", "libopenblas.so.0")  # Fedora's plain name is its build without threads
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
OPENBLAS_NAMES = ("{}", "{}64_", "scipy_{}64_", "scipy_{}")


@dataclass(frozen=True)
class Blas:
    """Which BLAS serves MLX in this process.

    how: "system", "numpy" (the OpenBLAS in numpy's wheel, through the forwarder), "mkl", "named" (GATSBY_BLAS),
    "preloaded" (something made it global before us), "reference" (nothing fast was found), "off", "late" (MLX was
    imported first, nothing changed) or "macos".
    """

    how: str
    name: str = "reference"
    path: str = ""
    version: str = ""
    threads: int = 0  # 0: not known
    note: str = ""
    cure: str = ""

    @property
    def fast(self) -> bool:
        """Whether an optimised BLAS is known to be in use."""
        return self.how in ("system", "numpy", "mkl", "named", "preloaded", "macos") or bool(self.path)

    @property
    def warning(self) -> str:
        """Return one line to show when something slow is in use for want of a library, else ""."""
        if self.how != "reference":
            return ""
        return f"matrix products will be some 50 times slower than they could be: {self.note}. {self.cure}"


@dataclass(frozen=True)
class Candidate:
    """A library loaded locally: `path` as given to dlopen, `narrow` has the 32-bit names, `core` does the work."""

    how: str
    path: str
    narrow: ctypes.CDLL
    core: ctypes.CDLL


_lock = threading.Lock()
_result: Blas | None = None


def prepare() -> Blas:
    """Find, check and promote a fast BLAS; say which. Call it before the first `import mlx.core`; imports no MLX.

    Idempotent and safe among threads: the first call decides, later ones return its result. `GATSBY_BLAS=off` keeps
    MLX's own; `GATSBY_BLAS=PATH` allows that library only, and raises UsageError when it cannot be loaded or computes
    wrong products. Raises GatsbyError when something else (LD_PRELOAD) has made a wrong BLAS global. The result's note
    says which libraries were found and refused. Takes 15 to 50 ms with numpy imported; once, a compiler run of 0.1 s.
    """
    global _result
    with _lock:
        if _result is None:
            _result = _decide()
        return _result


def _decide() -> Blas:
    if sys.platform == "darwin":
        return Blas("macos", "Accelerate and Metal")
    wish = os.environ.get("GATSBY_BLAS", "").strip()
    if "mlx.core" in sys.modules:
        return replace(_global() or Blas("late"), how="late", note="mlx.core was imported first; nothing was changed")
    if wish.lower() == "off":
        return Blas("off", note="GATSBY_BLAS=off")
    found = _global()
    if found is not None:
        _refuse_wrong_global(found)
        return found
    return _named(wish) if wish else _search()


def _search() -> Blas:
    refused: list[str] = []
    serial: list[Candidate] = []  # right, but built without threads: only if nothing better comes
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
        except (OSError, forward.ForwardError) as error:
            refused.append(f"{how}: {error}")
    if serial:
        return _promote(serial[0], "; ".join(refused))
    return Blas("reference", note="; ".join(refused) or "no fast BLAS was found", cure=CURE)


def _named(path: str) -> Blas:
    cure = "Set GATSBY_BLAS to the path of a BLAS with cblas_sgemm, or unset it"
    try:
        candidate = _load("named", os.path.expanduser(path))
    except (OSError, forward.ForwardError) as error:
        raise UsageError(f"GATSBY_BLAS={path} cannot be used: {error}", cure) from error
    wrong = _fault(candidate)
    if wrong:
        raise UsageError(f"GATSBY_BLAS={path} is refused: {wrong}", cure)
    return _promote(candidate, "GATSBY_BLAS")


def _load(how: str, path: str) -> Candidate:
    """Load a library locally, and put the forwarder in front of it: one with 32-bit names does without, if it must."""
    core = ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL)
    wide = not hasattr(core, "cblas_sgemm")
    addresses = forward.functions(core, wide)
    if addresses is None or not (wide or addresses[-1]):
        return Candidate(how, path, core, core)
    try:
        narrow = forward.load_forwarder(wide)
    except forward.ForwardError:
        if wide:
            raise
        return Candidate(how, path, core, core)
    forward.bind(narrow, addresses)
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
    from importlib import metadata  # slow to import, and seldom needed

    try:
        files = metadata.distribution("mkl").files or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith("libmkl_rt.so"):
            yield _load("mkl", str(Path(str(file.locate())).resolve()))


def _fault(candidate: Candidate) -> str:
    from gatsby_mlx.device import check  # numpy, only where it is needed

    narrow_names = hasattr(candidate.core, "cblas_sgemm")
    if narrow_names and "USE64BITINT" in _openblas_text(candidate.core, "openblas_get_config"):
        return "it takes 64-bit integers"
    if _function(candidate.core, "MKL_Get_Version_String") and "ILP64" in os.environ.get("MKL_INTERFACE_LAYER", ""):
        return "MKL_INTERFACE_LAYER asks for 64-bit integers"
    return check.fault(candidate.narrow)


def _promote(candidate: Candidate, note: str) -> Blas:
    """Make a checked library global: the same handle, found by its name, with its symbols opened to later loads."""
    ctypes.CDLL(candidate.narrow._name, mode=ctypes.RTLD_GLOBAL | os.RTLD_NOLOAD)
    return _describe(candidate.how, candidate.core, note)


def _global() -> Blas | None:
    """Return the BLAS that is global already (LD_PRELOAD, or a program that links one): it wins whatever we load."""
    everything = ctypes.CDLL(None)
    if not hasattr(everything, "cblas_sgemm"):
        return None
    return _describe("preloaded", everything, "was global before gatsby looked")


def _refuse_wrong_global(found: Blas) -> None:
    everything = ctypes.CDLL(None)
    wrong = _fault(Candidate("preloaded", found.path, everything, everything))
    if wrong:
        raise GatsbyError(f"{found.path} is loaded globally and cannot serve MLX: {wrong}", "Unset LD_PRELOAD")


def _is_serial(core: ctypes.CDLL) -> bool:
    parallel = _function(core, "openblas_get_parallel")
    return parallel is not None and parallel() == 0 and processors() > 1


def _describe(how: str, core: ctypes.CDLL, note: str) -> Blas:
    path = _path_of(core)
    if _function(core, "MKL_Get_Version_String"):
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


def _function(library: ctypes.CDLL, name: str) -> Any:
    """Return a library's function under whichever of OpenBLAS's names it has, or None."""
    names = (form.format(name) for form in OPENBLAS_NAMES)
    return next((getattr(library, name) for name in names if hasattr(library, name)), None)


def _openblas_text(library: ctypes.CDLL, name: str) -> str:
    function = _function(library, name)
    if function is None:
        return ""
    function.restype = ctypes.c_char_p
    return " ".join((function() or b"").decode(errors="replace").split())


def _fit_threads(core: ctypes.CDLL) -> int:
    """Return how many threads OpenBLAS uses, lowered to the container's share unless a variable asks for a number.

    OpenBLAS counts the processors it may run on, but not a container's quota: 64 threads on a share of 2 crawl.
    """
    count, setter = _function(core, "openblas_get_num_threads"), _function(core, "openblas_set_num_threads")
    threads = int(count()) if count else 0
    share = cpu_share()
    if setter and share and threads > share and not any(os.environ.get(name) for name in THREAD_VARIABLES):
        setter(share)
        threads = int(count()) if count else share
    return threads


def processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_share() -> int:
    """Return the container's share in whole processors, rounded up (cgroup v2, then v1); 0 when there is no limit."""
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
    """Return the file in which a library's sgemm lies (dladdr), with links resolved; its own name when unknown."""
    addresses = forward.functions(core, wide=True) if not hasattr(core, "cblas_sgemm") else None
    address = addresses[0] if addresses else ctypes.cast(core.cblas_sgemm, ctypes.c_void_p).value
    info = _DlInfo()
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    if dladdr is not None and dladdr(ctypes.c_void_p(address), ctypes.byref(info)) and info.file:
        return os.path.realpath(os.fsdecode(info.file))
    return str(core._name or "")
