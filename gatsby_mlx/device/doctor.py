"""The report of `gatsby doctor`: what this machine has, how fast it multiplies, and what slows it down."""

import os
import platform
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatsby_mlx.device.arithmetic import NAMES, product_bits
from gatsby_mlx.device.blas import HINT, Blas, prepare, processors
from gatsby_mlx.device.compiler import compile_hint, compiler_report
from gatsby_mlx.device.memory import cache_limit_bytes, command_output, gpu_memory_bytes, memory_bytes

SIZE = (2048, 384, 1536)  # m, n, k of the measured product: an MLP layer of the `story` preset
SMALL = (256, 384, 512)
TIME_LIMIT_S = 0.6
OPENBLAS_LIMITS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # environment variables
SLOW_GFLOP_S = 20.0  # the reference BLAS reaches 5; one core with AVX2 and OpenBLAS 80
OLDEST_MACOS = 14  # for which there are wheels of MLX
LITTLE_DISK_BYTES = 5 * 10**9
ARM64_PYTHON = "brew install python@3.12, or uv python install 3.12"
UPDATE = "System Settings > General > Software Update"
POWER_MODES = (["lowpowermode"], ["powermode"])  # of pmset; the second where there is a high power mode, too


def machine() -> dict[str, Any]:
    """Return the report as JSON can hold it. Takes about a second and imports MLX.

    Keys: platform, python, mlx, device {kind, ...}, products {bits, name}, blas {how, name, path, version, threads,
    note, cure, fast}, measured_gflop_s {median, low, high, runs, product}, memory {total, available} in bytes, limits
    {gpu, cache, iogpu_wired} in bytes, disk {free} in bytes, power, compiler {path, version, works, note}, advice
    [lines].
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
        "products": products_report(),
        "blas": {**fields, "cure": hint, "fast": blas.fast},
        "measured_gflop_s": measure_gflop_s(),
        "memory": memory_bytes(),
        "limits": limits_report(),
        "disk": {"free": shutil.disk_usage(Path.cwd()).free},
        "power": power(),
        "compiler": compiler_report(),
    }
    report["advice"] = advice(report, blas)
    return report


def platform_report() -> dict[str, Any]:
    """Return {system, release, processor}; on macOS also {macos, chip, rosetta, virtual}.

    The macOS part is written from Apple's documentation (`sysctl.proc_translated` is 1 under Rosetta, and
    `kern.hv_vmm_present` in a virtual machine), not tested on a Mac.
    """
    report = {"system": platform.system(), "release": platform.release(), "processor": platform.machine()}
    if sys.platform == "darwin":
        translated = platform.machine() == "x86_64" and command_output("sysctl", "-n", "sysctl.proc_translated") == "1"
        chip = command_output("sysctl", "-n", "machdep.cpu.brand_string")
        virtual = command_output("sysctl", "-n", "kern.hv_vmm_present") == "1"
        report |= {"macos": platform.mac_ver()[0], "chip": chip, "rosetta": translated, "virtual": virtual}
    return report


def device_report() -> dict[str, Any]:
    """Return {kind: "gpu" or "cpu", ...} with what MLX knows of its default device (on Metal: memory size, ...)."""
    import mlx.core as mx

    device = mx.default_device()
    info = mx.device_info(device) if hasattr(mx, "device_info") else {}
    plain = {key: value for key, value in info.items() if isinstance(value, str | int | float | bool)}
    return {**plain, "kind": "gpu" if "gpu" in str(device) else "cpu"}


def products_report() -> dict[str, Any]:
    """Return {bits, name} of the arithmetic of float32 products: {23, "float32"} or {10, "TF32"}."""
    bits = product_bits()
    return {"bits": bits, "name": NAMES[bits]}


def limits_report() -> dict[str, int | None]:
    """Return {gpu, cache, iogpu_wired} in bytes: what the GPU may use, how much of it MLX's cache keeps, and the limit
    that `sysctl iogpu.wired_limit_mb` sets for the GPU (0: macOS decides). `gpu` is 0 and `cache` None on a CPU.
    """
    megabytes = command_output("sysctl", "-n", "iogpu.wired_limit_mb") if sys.platform == "darwin" else ""
    wired = int(megabytes) << 20 if megabytes.isdigit() else None
    return {"gpu": gpu_memory_bytes(), "cache": cache_limit_bytes(), "iogpu_wired": wired}


def power() -> str:
    """Return the power source and the power-saving mode as the system reports them, "" if it does not.

    On macOS these come from `pmset -g batt` and `pmset -g` (written from the manual page; not run on a Mac).
    """
    if sys.platform == "darwin":
        source = [command_output("pmset", "-g", "batt").split("\n")[0].removeprefix("Now drawing from ").strip("'")]
        modes = [line for line in command_output("pmset", "-g").splitlines() if line.split()[:1] in POWER_MODES]
        return "; ".join(" ".join(part.split()) for part in (*source, *modes) if part)
    online = [path.read_text().strip() for path in sorted(Path("/sys/class/power_supply").glob("A*/online"))]
    return {"1": "mains", "0": "battery"}.get(online[0], "") if online else ""


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
    speed = report["measured_gflop_s"]["high"]
    lines = _mac_advice(report) if report["platform"].get("macos") else []
    if 0 < report["disk"]["free"] < LITTLE_DISK_BYTES:
        lines.append(f"only {report['disk']['free'] / 1e9:.1f} GB of disk are free here; the four models need 31 GB")
    if blas.warning:
        lines.append(blas.warning)
    elif blas.how == "off":
        lines.append("GATSBY_BLAS=off selects MLX's slow reference BLAS; unset GATSBY_BLAS")
    elif blas.how == "late" and not blas.path:
        lines.append("mlx.core was imported too early; call gatsby_mlx.device.prepare() first")
    elif blas.how != "macos" and report["device"]["kind"] == "cpu" and speed < SLOW_GFLOP_S:
        lines.append(f"{blas.name} is slow here ({speed} GFLOP/s at best); try {HINT}")
    if blas.threads == 1 and processors() > 1:
        serial = "without threads" in blas.note
        fix = "apt-get install libopenblas0-pthread" if serial else "unset OPENBLAS_NUM_THREADS"
        lines.append(f"BLAS uses 1 of {processors()} processors; {fix}")
    limits = [name for name in OPENBLAS_LIMITS if os.environ.get(name)]
    if limits and "OpenBLAS" in blas.name and _uses_old_kernel(blas.version):
        settings = " and ".join(f"{name}={os.environ[name]}" for name in limits)
        lines.append(f"{settings}: OpenBLAS does not use all instructions of this processor; unset {' '.join(limits)}")
    if not report["compiler"]["works"]:
        lines.append(f"{report['compiler']['note']}, so training steps run uncompiled or fail; {compile_hint()}")
    return lines


def _mac_advice(report: dict[str, Any]) -> list[str]:
    """Return the lines for a Mac, in the words of macOS and Homebrew."""
    mac, lines = report["platform"], []
    if mac.get("rosetta"):
        lines.append(f"this Python runs under Rosetta, for Intel; install an arm64 one: {ARM64_PYTHON}")
    if int(mac["macos"].split(".")[0]) < OLDEST_MACOS:
        lines.append(f"MLX needs macOS {OLDEST_MACOS} or later, and this is {mac['macos']}: {UPDATE}")
    if report["device"]["kind"] == "cpu":
        why = "a virtual machine shows it none" if mac.get("virtual") else "MLX found no GPU"
        lines.append(f"MLX uses the CPU ({why}), which is slow on a Mac: use an arm64 Python on the Mac itself")
    elif mac.get("virtual"):
        lines.append("this Mac is a virtual machine: its GPU is slow, and may lack bfloat16")
    if "powermode 1" in report["power"]:
        lines.append("Low Power Mode is on; turn it off for long work: System Settings > Battery")
    return lines
