"""Check whether `mx.compile` works here.

On a CPU, MLX compiles a traced function with `g++`, which it calls through the shell and by this name only: it does not
read `CC` and `CXX`. According to its `backend/cpu/jit_compiler.cpp`, and to tests: without `g++` on PATH, functions run
uncompiled, without a warning. If `g++` fails, or there is no temporary folder, the *evaluation* raises RuntimeError.
Compiled kernels are in `$TMPDIR/mlx/VERSION/cpu`.
"""

import io
import os
import shutil
import subprocess
import sys
from typing import Any


def compile_hint() -> str:
    """Return what makes `mx.compile` work here, for a machine with a `compile_problem`.

    >>> compile_hint() in ("unset MLX_DISABLE_COMPILE", "apt-get install g++", "xcode-select --install")
    True
    """
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
    return not compile_problem()


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
