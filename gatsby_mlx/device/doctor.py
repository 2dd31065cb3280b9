"""The report of `gatsby doctor`: what this machine has, how fast it multiplies, and what slows it down."""

import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatsby_mlx.device.blas import HINT, Blas, prepare, processors
from gatsby_mlx.device.compiler import HINT as COMPILER_HINT
from gatsby_mlx.device.compiler import compiler_report
from gatsby_mlx.device.memory import command_output, memory_bytes

SIZE = (2048, 384, 1536)  # m, n, k of the measured product: an MLP layer of the `story` preset
SMALL = (256, 384, 512)
TIME_LIMIT_S = 0.6
OPENBLAS_LIMITS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # environment variables
SLOW_GFLOP_S = 20.0  # the reference BLAS reaches 5; one core with AVX2 and OpenBLAS 80


def machine() -> dict[str, Any]:
    """Return the report as JSON can hold it. Takes about a second and imports MLX.

    Keys: platform, python, mlx, device {kind, ...}, blas {how, name, path, version, threads, note, cure, fast},
    measured_gflop_s {median, low, high, runs, product}, memory {total, available} in bytes, compiler {path, version,
    works, note}, advice [lines].
    """
    from importlib import metadata

    blas = prepare()
    fields = asdict(blas)
    hint = fields.pop("hint")
    report = {
        "platform": platform_report(),
        "python": platform.python_version(),
        "mlx": metadata.version("mlx"),
        "device": device_report(),
        "blas": {**fields, "cure": hint, "fast": blas.fast},
        "measured_gflop_s": measure_gflop_s(),
        "memory": memory_bytes(),
        "compiler": compiler_report(),
    }
    report["advice"] = advice(report, blas)
    return report


def platform_report() -> dict[str, Any]:
    """Return {system, release, processor}; on macOS also {macos, chip, rosetta}.

    The macOS part is written from Apple's documentation (`sysctl.proc_translated` is 1 under Rosetta), not tested on a
    Mac.
    """
    report = {"system": platform.system(), "release": platform.release(), "processor": platform.machine()}
    if sys.platform == "darwin":
        translated = platform.machine() == "x86_64" and command_output("sysctl", "-n", "sysctl.proc_translated") == "1"
        chip = command_output("sysctl", "-n", "machdep.cpu.brand_string")
        report |= {"macos": platform.mac_ver()[0], "chip": chip, "rosetta": translated}
    return report


def device_report() -> dict[str, Any]:
    """Return {kind: "gpu" or "cpu", ...} with what MLX knows of its default device (on Metal: memory size, ...)."""
    import mlx.core as mx

    device = mx.default_device()
    info = mx.device_info(device) if hasattr(mx, "device_info") else {}
    plain = {key: value for key, value in info.items() if isinstance(value, str | int | float | bool)}
    return {**plain, "kind": "gpu" if "gpu" in str(device) else "cpu"}


def measure_gflop_s() -> dict[str, Any]:
    """Measure a float32 matrix product on MLX's default device, in 1e9 floating-point operations per second.

    Return {median, low, high, runs, product}. A small product runs first, to warm up, and to see whether the larger one
    would take too long, as with the reference BLAS.
    """
    import mlx.core as mx

    def run(size: tuple[int, int, int]) -> float:
        m, n, k = size
        a, b = mx.ones((m, k)), mx.ones((k, n))
        mx.eval(a, b)
        start = time.perf_counter()
        mx.eval(a @ b)
        return 2 * m * n * k / (time.perf_counter() - start) / 1e9

    size = SIZE if max(run(SMALL) for _ in range(4)) > SLOW_GFLOP_S else SMALL
    figures, start = [], time.perf_counter()
    while len(figures) < 3 or (len(figures) < 15 and time.perf_counter() - start < TIME_LIMIT_S):
        figures.append(run(size))
    figures = sorted(round(figure, 1) for figure in figures)
    product = "x".join(map(str, size))
    return {
        "median": figures[len(figures) // 2],
        "low": figures[0],
        "high": figures[-1],
        "runs": len(figures),
        "product": product,
    }


def _uses_old_kernel(version: str) -> bool:
    """Return whether this processor has AVX-512, and OpenBLAS's `version` names a kernel for an older processor."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    older = ("Haswell", "Zen", "Sandybridge", "Nehalem", "Prescott", "Core2", "Generic")
    return "avx512f" in flags and any(name.lower() in version.lower() for name in older)


def advice(report: dict[str, Any], blas: Blas) -> list[str]:
    """Return a line for each thing that is slow and can be fixed, with the command that fixes it."""
    lines = []
    if report["platform"].get("rosetta"):
        lines.append("this Python runs under Rosetta; install a native arm64 Python (from python.org or Homebrew)")
    if blas.warning:
        lines.append(blas.warning)
    elif blas.how == "off":
        lines.append("GATSBY_BLAS=off selects MLX's slow reference BLAS; unset GATSBY_BLAS")
    elif blas.how == "late" and not blas.path:
        lines.append("mlx.core was imported too early; call gatsby_mlx.device.prepare() first")
    elif report["device"]["kind"] == "cpu" and report["measured_gflop_s"]["high"] < SLOW_GFLOP_S:
        lines.append(f"{blas.name} is slow here ({report['measured_gflop_s']['high']} GFLOP/s at best); try {HINT}")
    if blas.threads == 1 and processors() > 1:
        serial = "without threads" in blas.note
        fix = "apt-get install libopenblas0-pthread" if serial else "unset OPENBLAS_NUM_THREADS"
        lines.append(f"BLAS uses 1 of {processors()} processors; {fix}")
    limits = [name for name in OPENBLAS_LIMITS if os.environ.get(name)]
    if limits and "OpenBLAS" in blas.name and _uses_old_kernel(blas.version):
        settings = " and ".join(f"{name}={os.environ[name]}" for name in limits)
        lines.append(f"{settings}: OpenBLAS does not use all instructions of this processor; unset {' '.join(limits)}")
    if not report["compiler"]["works"]:
        lines.append(f"{report['compiler']['note']}, so training steps run uncompiled or fail; {COMPILER_HINT}")
    return lines
