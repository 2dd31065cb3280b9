"""What `gatsby doctor` reports: the machine as MLX sees it, measured where a figure is worth more than a name."""

import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

from gatsby_mlx.device.blas import CURE, Blas, prepare, processors
from gatsby_mlx.device.compiler import CURE as COMPILER_CURE
from gatsby_mlx.device.compiler import compiler_report
from gatsby_mlx.device.memory import command_output, memory_bytes

SIZE = (2048, 384, 1536)  # m, n, k of the measured product: a feed-forward layer of the `story` preset
SMALL = (256, 384, 512)
BUDGET_S = 0.6
OPENBLAS_LIMITS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
SLOW_GFLOP_S = 20.0  # the reference BLAS reaches 5; one core with AVX2 and OpenBLAS 80


def machine() -> dict:
    """Return a report that JSON can hold; README's `gatsby doctor` prints it. Takes about a second; imports MLX.

    Keys: platform, python, mlx, device {kind, ...}, blas {how, name, path, version, threads, note, cure, fast},
    measured_gflop_s {median, low, high, runs, product}, memory {total, available} in bytes, compiler {path, version,
    works, note}, advice [lines].
    """
    from importlib import metadata

    blas = prepare()
    report = {
        "platform": platform_report(),
        "python": platform.python_version(),
        "mlx": metadata.version("mlx"),
        "device": device_report(),
        "blas": {**asdict(blas), "fast": blas.fast},
        "measured_gflop_s": measure_gflop_s(),
        "memory": memory_bytes(),
        "compiler": compiler_report(),
    }
    report["advice"] = advice(report, blas)
    return report


def platform_report() -> dict:
    """Return {system, release, processor}; on macOS also {macos, chip, rosetta}.

    The macOS part is written from Apple's documentation (`sysctl.proc_translated` is 1 under Rosetta) and was not run
    on a Mac.
    """
    report = {"system": platform.system(), "release": platform.release(), "processor": platform.machine()}
    if sys.platform == "darwin":
        translated = platform.machine() == "x86_64" and command_output("sysctl", "-n", "sysctl.proc_translated") == "1"
        chip = command_output("sysctl", "-n", "machdep.cpu.brand_string")
        report |= {"macos": platform.mac_ver()[0], "chip": chip, "rosetta": translated}
    return report


def device_report() -> dict:
    """Return {kind: "gpu" or "cpu"} and what MLX tells of the default device (on Metal: memory, working set, ...)."""
    import mlx.core as mx

    device = mx.default_device()
    told = mx.device_info(device) if hasattr(mx, "device_info") else {}
    plain = {key: value for key, value in told.items() if isinstance(value, str | int | float | bool)}
    return {**plain, "kind": "gpu" if "gpu" in str(device) else "cpu"}


def measure_gflop_s() -> dict:
    """Measure a float32 product on MLX's default device, in 1e9 floating-point operations a second.

    A small product comes first, as warm-up and to choose a size that fits the time even on the reference BLAS.
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
    while len(figures) < 3 or (len(figures) < 15 and time.perf_counter() - start < BUDGET_S):
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


def _has_more_than(version: str) -> bool:
    """Whether this processor has AVX-512 and OpenBLAS, by its own word, uses a kernel from before it."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    older = ("Haswell", "Zen", "Sandybridge", "Nehalem", "Prescott", "Core2", "Generic")
    return "avx512f" in flags and any(name.lower() in version.lower() for name in older)


def advice(report: dict, blas: Blas) -> list[str]:
    """Return one line for each thing that is slow and can be mended, with the command that mends it."""
    lines = []
    if report["platform"].get("rosetta"):
        lines.append("this Python runs under Rosetta; install a native arm64 Python (python.org or Homebrew)")
    if blas.warning:
        lines.append(blas.warning)
    elif blas.how == "off":
        lines.append("GATSBY_BLAS=off keeps MLX's slow reference BLAS; unset it")
    elif blas.how == "late" and not blas.path:
        lines.append("mlx.core was imported before gatsby_mlx.device.prepare(); call that first")
    elif report["device"]["kind"] == "cpu" and report["measured_gflop_s"]["high"] < SLOW_GFLOP_S:
        lines.append(f"{blas.name} is slow here ({report['measured_gflop_s']['high']} GFLOP/s at best); try {CURE}")
    if blas.threads == 1 and processors() > 1:
        mend = (
            "apt-get install libopenblas0-pthread" if "without threads" in blas.note else "unset OPENBLAS_NUM_THREADS"
        )
        lines.append(f"BLAS uses 1 of {processors()} processors; {mend}")
    held = [f"{name}={os.environ[name]}" for name in OPENBLAS_LIMITS if os.environ.get(name)]
    if held and "OpenBLAS" in blas.name and _has_more_than(blas.version):
        names = " ".join(name for name in OPENBLAS_LIMITS if os.environ.get(name))
        lines.append(f"{' and '.join(held)} hold OpenBLAS to less than this processor has; unset {names}")
    if not report["compiler"]["works"]:
        lines.append(f"{report['compiler']['note']}: steps run uncompiled or fail; {COMPILER_CURE}")
    return lines
