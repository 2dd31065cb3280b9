"""Check whether `mx.compile` works here.

On a CPU, MLX compiles a traced function with `g++`, which it calls through the shell and by this name only: it does not
read `CC` and `CXX`. According to its `backend/cpu/jit_compiler.cpp`, and to tests: without `g++` on PATH, functions run
uncompiled, without a warning. If `g++` fails, or there is no temporary folder, the *evaluation* raises RuntimeError.
Compiled kernels are in `$TMPDIR/mlx/VERSION/cpu`, which is one folder for all users of a machine: where somebody else
made it, MLX cannot write to it, and would load what they put there. `own_kernels` then gives MLX another.
"""

import atexit
import io
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from gatsby_mlx.device.blas.shim import cache_folder


def compile_hint() -> str:
    """Return what makes `mx.compile` work here, for a machine with a `compile_problem`: a command, or what to set."""
    if os.environ.get("MLX_DISABLE_COMPILE"):
        return "unset MLX_DISABLE_COMPILE"
    if sys.platform == "darwin":
        return "xcode-select --install"  # its g++ is clang, and does
    return "apt-get install g++" if shutil.which("g++") is None else "set TMPDIR to a folder that you can write to"


def compile_problem() -> str:
    """Return why `mx.compile` would not compile or would fail on this machine's CPU, in one clause; "" if it works.

    This is fast, because it runs nothing. On macOS the result is "", since Metal's compiler is part of the system.
    """
    if os.environ.get("MLX_DISABLE_COMPILE"):
        return "MLX_DISABLE_COMPILE is set"
    if sys.platform == "darwin":
        return ""
    if shutil.which("g++") is None:
        return "mx.compile needs g++ at run time and it is not on PATH"
    folder = os.environ.get("TMPDIR") or "/tmp"  # std::filesystem::temp_directory_path, not Python's search
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"mx.compile cannot write its kernels to {folder}"
    return ""


def compile_works() -> bool:
    """Return whether `mx.compile` should work here, without trying it. Check this before compiling a function."""
    own_kernels()
    return not compile_problem()


@cache
def own_kernels() -> str:
    """Let MLX keep its kernels in a folder of this user, where the usual one is somebody else's; return the folder.

    MLX reads TMPDIR once, when it first compiles, so this comes before. Returns "" if the usual folder is used.
    """
    usual = Path(os.environ.get("TMPDIR") or "/tmp", "mlx")
    if sys.platform == "darwin" or all(map(_is_ours, (usual, *usual.glob("*"), *usual.glob("*/cpu")))):
        return ""
    try:
        folder = cache_folder() / "tmp"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (_is_ours(folder) and os.access(folder, os.W_OK | os.X_OK)):
            raise PermissionError
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="gatsby-mlx-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TMPDIR"] = str(folder)
    return str(folder)


def _is_ours(path: Path) -> bool:
    """Return whether `path` belongs to this user, or does not exist."""
    try:
        return path.stat().st_uid == os.geteuid()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def probe_compile() -> str:
    """Compile a tiny function with MLX and evaluate it; return what went wrong, or "". Takes up to a second.

    On a CPU an uncompiled function gives the same result, so check the graph: its dot form has "Compiled..." if MLX
    fused it. On a GPU MLX always compiles, or raises.
    """
    import mlx.core as mx

    out = mx.compile(lambda x: mx.exp(x) * 2 + 1)(mx.arange(4, dtype=mx.float32))
    graph = io.StringIO()
    mx.export_to_dot(graph, out)
    try:
        mx.eval(out)
    except RuntimeError as error:
        return " ".join(str(error).split())[:300]
    if mx.default_device() != mx.Device(mx.cpu) or "Compiled" in graph.getvalue():
        return ""
    return compile_problem() or "MLX ran the function uncompiled"


def compiler_report() -> dict[str, Any]:
    """Return {path, version, works, note} of the compiler behind `mx.compile`; path is "" on macOS and without g++."""
    path = "" if sys.platform == "darwin" else shutil.which("g++") or ""
    version = ""
    if path:
        try:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
            version = next(iter(done.stdout.splitlines()), "")
        except (OSError, subprocess.TimeoutExpired):
            version = ""
    note = compile_problem() or probe_compile()
    return {"path": path, "version": version, "works": not note, "note": note}
