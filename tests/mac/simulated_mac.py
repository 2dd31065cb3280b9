"""A Mac without a Mac: `pytest --as-mac` makes the suite, and every Python that it starts, believe it is on an M5.

What is simulated, and with what:

- Python's view of the system: `sys.platform`, `platform`, the unit of `getrusage`. There is no /proc, no /sys and no
  /dev/full.
- PATH: the programs of tests/mac/bin (sysctl, vm_stat, pmset, caffeinate ...) come first, and no compiler is found.
- MLX: the default device is a GPU, `mx.metal` is available, `mx.device_info` answers as on an M5 with 16 GB. What is
  asked of that GPU is computed on the CPU. The wired limit is remembered.
- Arithmetic: float32 products round their factors to ten bits, as TF32 does, unless MLX_ENABLE_TF32 is 0.
- BLAS: numpy's OpenBLAS stands in for Accelerate. It has one thread.

What is not: Metal's kernels and their rounding, macOS's file system and signals, and its own `subprocess`. A child that
Python starts with -S, -I or -E stays on Linux.
"""

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import platform
import resource
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
SWITCH = "GATSBY_AS_MAC"  # the environment of every child has it: the PATH, HOME and cache folder of the real machine
MACOS, RELEASE, CHIP = "26.2", "25.2.0", "Apple M5"
COMPILERS = ("g++", "c++", "gcc", "cc", "clang", "clang++")
ABSENT = ("/proc", "/sys", "/dev/full")
WORKING_SET_BYTES = 12_713_115_648  # what Metal recommends for 16 GB
MEMORY_BYTES = 16 << 30
GPU = {
    "device_name": CHIP,
    "architecture": "applegpu_g17g",
    "max_recommended_working_set_size": WORKING_SET_BYTES,
    "memory_size": MEMORY_BYTES,
    "max_buffer_length": 9_534_832_640,
    "resource_limit": 499_000,
}

_hidden = True  # whether ABSENT is hidden at the moment
_variables: dict[str, str] = {}  # of the real machine
_uname = platform.uname  # of the real machine
_begun = False


def begin() -> None:
    """Turn this process, and all that it starts, into one on a Mac. There is no way back within the process."""
    global _begun
    if _begun:  # a worker of pytest-xdist is a child, and has the option
        return
    _begun = True
    sysconfig.get_config_vars()  # on a Mac it looks for Xcode
    if SWITCH not in os.environ:  # the first process: children inherit this
        real = [os.environ["PATH"], os.environ.get("HOME", ""), os.environ.get("XDG_CACHE_HOME", "")]
        os.environ[SWITCH] = "\n".join(real)
        os.environ["PATH"] = _path_of_a_mac(os.environ["PATH"])
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    _variables.update(zip(("PATH", "HOME", "XDG_CACHE_HOME"), os.environ[SWITCH].split("\n"), strict=True))
    _hide_files()
    _pretend_system()
    _reach_children()
    sys.meta_path.insert(0, _AfterImport())


def _path_of_a_mac(path: str) -> str:
    """Return PATH with the fake programs first. A folder that has a compiler is replaced by links to all else in it."""
    folders = [str(HERE / "bin")]
    farm = Path(tempfile.gettempdir(), f"gatsby-as-mac-{os.getuid()}")
    for number, folder in enumerate(dict.fromkeys(os.path.realpath(p) for p in path.split(os.pathsep) if p)):
        if not any(Path(folder, name).exists() for name in COMPILERS):
            folders.append(folder)
            continue
        links = farm / str(number)
        links.mkdir(parents=True, exist_ok=True)
        for program in os.scandir(folder):
            if not program.name.startswith(COMPILERS):
                with contextlib.suppress(FileExistsError):
                    (links / program.name).symlink_to(program.path)
        folders.append(str(links))
    return os.pathsep.join(folders)


def _hide_files() -> None:
    """Raise FileNotFoundError for ABSENT, from `open` (an audit hook sees all of them) and from `os.stat`."""

    def absent(path: Any) -> bool:
        if not _hidden or not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.fsdecode(path)
        return any(name == root or name.startswith(f"{root}/") for root in ABSENT)

    def audit(event: str, arguments: tuple) -> None:
        if event in ("open", "os.listdir", "os.scandir", "os.mkdir") and arguments and absent(arguments[0]):
            raise FileNotFoundError(2, "No such file or directory", arguments[0])

    sys.addaudithook(audit)
    for name in ("stat", "lstat", "access"):
        real = getattr(os, name)

        @functools.wraps(real)
        def checked(path: Any, *arguments: Any, _real: Any = real, **options: Any) -> Any:
            if absent(path):
                if _real.__name__ == "access":
                    return False
                raise FileNotFoundError(2, "No such file or directory", path)
            return _real(path, *arguments, **options)

        setattr(os, name, checked)


def _pretend_system() -> None:
    sys.platform = "darwin"
    name = platform.uname_result("Darwin", "mac.local", RELEASE, f"Darwin Kernel Version {RELEASE}", "arm64")
    platform.uname = lambda: name
    platform.mac_ver = lambda *_: (MACOS, ("", "", ""), "arm64")
    platform.platform = lambda *_, **__: f"macOS-{MACOS}-arm64-arm-64bit"
    measure = resource.getrusage

    def getrusage(who: int) -> resource.struct_rusage:
        fields = list(measure(who))
        fields[2] *= 1024  # ru_maxrss: kilobytes on Linux, bytes on macOS
        return resource.struct_rusage(fields)

    resource.getrusage = getrusage


def _reach_children() -> None:
    """Give every child a `sitecustomize` that calls `begin`."""
    start = subprocess.Popen.__init__

    @functools.wraps(start)
    def started(self: subprocess.Popen, *arguments: Any, env: Any = None, **options: Any) -> None:
        env = dict(os.environ if env is None else env)
        folders = [f for f in env.get("PYTHONPATH", "").split(os.pathsep) if f and f != str(HERE)]
        env["PYTHONPATH"] = os.pathsep.join([str(HERE), *folders])
        env[SWITCH] = os.environ[SWITCH]
        env.setdefault("OPENBLAS_NUM_THREADS", "1")
        start(self, *arguments, env=env, **options)

    subprocess.Popen.__init__ = started


@contextlib.contextmanager
def real_machine():
    """Be on the real machine inside the block."""
    global _hidden
    before, uname, kept = sys.platform, platform.uname, {name: os.environ.get(name) for name in _variables}
    sys.platform, platform.uname, _hidden = "linux", _uname, False
    for name, value in _variables.items():
        _set(name, value)
    try:
        yield
    finally:
        sys.platform, platform.uname, _hidden = before, uname, True
        for name, value in kept.items():
            _set(name, value)


def _set(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value:
        os.environ[name] = value


class _AfterImport(importlib.abc.MetaPathFinder):
    """Loads a fast BLAS before `mlx.core`, and gives it a GPU and TF32 after it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name == "truststore._macos":  # its certificates are macOS's: OpenSSL's stand in
            found = importlib.machinery.PathFinder.find_spec("truststore._openssl", path)
            return importlib.util.spec_from_file_location(name, found.origin) if found and found.origin else None
        if name not in ("mlx.core", "torch"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_torch(module: ModuleType) -> None:
            with real_machine():  # it loads the libraries of its own wheel
                execute(module)

        def exec_module(module: ModuleType) -> None:
            with real_machine():
                from gatsby_mlx.device import blas

                blas._search()
            execute(module)
            pretend_gpu(module)
            if os.environ.get("MLX_ENABLE_TF32", "1") != "0":
                round_products(module)

        spec.loader.exec_module = exec_torch if name == "torch" else exec_module  # type: ignore[method-assign]
        return spec


def pretend_gpu(mx: Any) -> None:
    """Let MLX say that it has a GPU, and compute on the CPU what is asked of it."""
    state = {"device": mx.Device(mx.gpu), "wired": 0}
    gpu, cpu = mx.Device(mx.gpu), mx.Device(mx.cpu)

    def host(where: Any) -> Any:
        return cpu if isinstance(where, mx.Device | mx.DeviceType) else where

    def on_host(function: Any) -> Any:
        return functools.wraps(function)(lambda where, *more, **options: function(host(where), *more, **options))

    def set_default_device(device: Any) -> None:
        state["device"] = mx.Device(device) if isinstance(device, mx.DeviceType) else device

    def device_info(device: Any = None) -> dict[str, Any]:
        asked = state["device"] if device is None else device
        return dict(GPU) if asked == gpu else real_info(cpu)

    def set_wired_limit(limit: int) -> int:
        if limit > WORKING_SET_BYTES:
            raise ValueError("[metal::set_wired_limit] Setting a wired limit larger than the maximum working set size")
        before, state["wired"] = state["wired"], limit
        return before

    real_stream, real_info, real_synchronize = mx.stream, mx.device_info, mx.synchronize

    @contextlib.contextmanager
    def stream(where: Any):
        before = state["device"]
        if isinstance(where, mx.Device | mx.DeviceType):
            set_default_device(where)
        try:
            with real_stream(host(where)) as entered:
                yield entered
        finally:
            state["device"] = before

    mx.default_device, mx.set_default_device = lambda: state["device"], set_default_device
    mx.device_info, mx.set_wired_limit, mx.stream = device_info, set_wired_limit, stream
    for name in ("default_stream", "new_stream", "new_thread_local_stream"):
        setattr(mx, name, on_host(getattr(mx, name)))
    mx.synchronize = lambda where=None: real_synchronize(*([] if where is None else [host(where)]))
    available = mx.is_available
    mx.is_available = lambda device: device == mx.gpu or available(device)
    mx.metal.is_available = lambda: True


def round_products(mx: Any) -> None:
    """Round the factors of float32 products to ten bits of mantissa, to nearest, and those of their gradients too."""
    multiply, real_addmm, real_attention = mx.matmul, mx.addmm, mx.fast.scaled_dot_product_attention

    def rounded(x: Any) -> Any:
        if x.dtype != mx.float32:
            return x
        bits = x.view(mx.uint32)
        return mx.bitwise_and(bits + 0xFFF + mx.bitwise_and(mx.right_shift(bits, 13), 1), 0xFFFFE000).view(mx.float32)

    def through(forward: Any, backward: Any) -> Any:
        function = mx.custom_function(forward)
        function.vjp(lambda primals, cotangents, outputs: backward(cotangents))
        return function

    factor = through(rounded, lambda g: g)  # its gradient is a product's, and passes as it is
    product = through(lambda x: x * 1.0, rounded)  # the gradient of a product is a factor of the next ones

    def exact(a: Any, b: Any) -> bool:
        """Whether MLX uses a matrix-vector kernel, which has no TF32."""
        return a.ndim < 2 or b.ndim < 2 or a.shape[-2] == 1 or b.shape[-1] == 1

    def matmul(a: Any, b: Any, **options: Any) -> Any:
        if exact(a, b):
            return multiply(a, b, **options)
        return product(multiply(factor(a), factor(b), **options))

    def addmm(c: Any, a: Any, b: Any, alpha: float = 1.0, beta: float = 1.0, **options: Any) -> Any:
        if exact(a, b):
            return real_addmm(c, a, b, alpha, beta, **options)
        return beta * c + alpha * matmul(a, b)

    def attention(q: Any, k: Any, v: Any, **options: Any) -> Any:
        if q.shape[-2] == 1:
            return real_attention(q, k, v, **options)
        return product(real_attention(factor(q), factor(k), factor(v), **options))

    mx.matmul, mx.addmm, mx.fast.scaled_dot_product_attention = matmul, addmm, attention
    mx.array.__matmul__ = matmul
