"""Whether `mx.compile` compiles. On CPU, MLX calls `g++` through the shell, by that name only, when it first traces.

Read in MLX's `backend/cpu/jit_compiler.cpp` and tried: without `g++` on PATH it runs uncompiled and says nothing; with
a `g++` that is there but fails, or without a temporary folder, the *evaluation* raises RuntimeError. `CC` and `CXX` are
not read. Kernels are kept in `$TMPDIR/mlx/VERSION/cpu`.
"""

import io
import os
import shutil
import subprocess
import sys

CURE = "apt-get install g++"


def compile_problem() -> str:
    """Return why `mx.compile` would run uncompiled or fail on this machine's CPU, in one clause; "" for no reason.

    Cheap: looks, and runs nothing. On macOS it answers "", since Metal's compiler is part of the system.
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
    """Return whether `mx.compile` should compile here: ask before compiling a step. Cheap; see `compile_problem`."""
    return not compile_problem()


def probe_compile() -> str:
    """Compile a tiny function with MLX and evaluate it; return what went wrong, or "". Up to a second without a cache.

    The graph tells whether MLX fused the function ("Compiled..." in its dot form): uncompiled, it would run as well.
    """
    import mlx.core as mx

    out = mx.compile(lambda x: mx.exp(x) * 2 + 1)(mx.arange(4, dtype=mx.float32))
    graph = io.StringIO()
    mx.export_to_dot(graph, out)
    try:
        mx.eval(out)
    except RuntimeError as error:
        return " ".join(str(error).split())[:300]
    return "" if "Compiled" in graph.getvalue() else compile_problem() or "MLX ran the function uncompiled"


def compiler_report() -> dict:
    """Return {path, version, works, note} of the compiler behind `mx.compile`; path is "" on macOS and without one."""
    path = "" if sys.platform == "darwin" else shutil.which("g++") or ""
    version = ""
    if path:
        try:
            ran = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
            version = next(iter(ran.stdout.splitlines()), "")
        except (OSError, subprocess.TimeoutExpired):
            version = ""
    note = compile_problem() or probe_compile()
    return {"path": path, "version": version, "works": not note, "note": note}
