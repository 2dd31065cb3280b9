"""Memory: how much there is, how fast it is, and limits on what MLX keeps."""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CACHE_SHARE = 1 / 4  # of the memory that the GPU may use: freed arrays that MLX keeps for reuse
FREE_SHARE = 1 / 2  # of the memory that is free when the work begins, for the same
MIN_CACHE_BYTES = 128 << 20


@contextlib.contextmanager
def memory_limits(cache_bytes: int | None = None) -> Iterator[None]:
    """Limit the freed memory that MLX keeps for reuse to `cache_bytes` inside the block; then restore the old limit.

    None changes nothing. On Metal, the default limit is one and a half times the working set: freed arrays of every
    width of a batch stay, and a run holds gigabytes that it does not use. On a CPU (mlx 0.32.4) it is 32 MiB, and 1 GB
    was not measurably faster. Raises ValueError for a negative limit.
    """
    if cache_bytes is None:
        yield
        return
    if cache_bytes < 0:
        raise ValueError(f"cache_bytes must be 0 or more, not {cache_bytes}")
    import mlx.core as mx

    before = mx.set_cache_limit(cache_bytes)
    try:
        yield
    finally:
        mx.set_cache_limit(before)


def cache_limit_bytes() -> int | None:
    """Return how much freed memory MLX should keep on this machine's GPU, in bytes; None on a CPU.

    It is a quarter of what the GPU may use, and at most half of what is free now.
    """
    limit, available = gpu_memory_bytes(), memory_bytes()["available"]
    if not limit:
        return None
    shares = [CACHE_SHARE * limit] + ([FREE_SHARE * available] if available else [])
    return max(MIN_CACHE_BYTES, int(min(shares)))


_cache_lock = threading.Lock()
_cache_blocks = contextlib.ExitStack()  # holds the limit while any block is open
_n_cache_blocks = 0


@contextlib.contextmanager
def limited_cache() -> Iterator[None]:
    """Limit MLX's cache to `cache_limit_bytes` inside the block; it has no effect on a CPU.

    Blocks may overlap, as those of generators do: the first one sets the limit and the last one restores it.
    """
    global _n_cache_blocks
    with _cache_lock:
        if not _n_cache_blocks:
            _cache_blocks.enter_context(memory_limits(cache_limit_bytes()))
        _n_cache_blocks += 1
    try:
        yield
    finally:
        with _cache_lock:
            _n_cache_blocks -= 1
            if not _n_cache_blocks:
                _cache_blocks.close()


@contextlib.contextmanager
def kept_wired_limit() -> Iterator[None]:
    """Put Metal's wired limit back at the end of the block, where something in it has changed it.

    Memory below the limit stays resident (mx.set_wired_limit). mlx-lm raises it to all that the GPU may use.
    """
    import mlx.core as mx

    before = mx.set_wired_limit(0)
    mx.set_wired_limit(before)
    try:
        yield
    finally:
        mx.set_wired_limit(before)


def keep_pages() -> bool:
    """Let glibc keep freed memory for the next array, instead of returning every large block to the kernel.

    MLX's CPU allocator calls malloc for each array, and glibc maps new pages for every block of 32 MiB or more. An
    addition over 90 MiB took 66 ms with new pages and 10 to 13 ms with kept ones. Return whether the settings took
    effect (only with glibc).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD and M_ARENA_MAX of malloc.h
    settings = ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1))
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings)


def memory_bytes() -> dict[str, int]:
    """Return {"total", "available"} in bytes, within a container's limit; 0 for a figure that cannot be read."""
    if sys.platform == "darwin":
        return _macos_memory()
    total, available = _meminfo()
    for limit_file, used_file in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "")):
        limit, used = _number(f"/sys/fs/cgroup/{limit_file}"), _number(f"/sys/fs/cgroup/{used_file}")
        if 0 < limit < total:
            total, available = limit, min(available, max(0, limit - used))
    return {"total": total, "available": available}


def gpu_info() -> dict[str, Any]:
    """Return what MLX knows of the GPU that it computes on, {} if it computes on a CPU or says nothing."""
    from gatsby_mlx.device.blas import prepare

    prepare()
    import mlx.core as mx

    return {} if mx.default_device() == mx.Device(mx.cpu) else dict(mx.device_info(mx.default_device()))


def gpu_memory_bytes() -> int:
    """Return how many bytes MLX's GPU may use: Metal's working set, or the memory of a CUDA device; 0 on a CPU."""
    info = gpu_info()
    names = ("max_recommended_working_set_size", "total_memory", "memory_size")
    return next((int(info[name]) for name in names if info.get(name)), 0)


def working_set_bytes() -> int:
    """Return how much memory Metal may use at most, in bytes; 0 without Metal. `iogpu.wired_limit_mb` changes it."""
    return int(gpu_info().get("max_recommended_working_set_size", 0))


def resident_peak_bytes(reset: bool = False) -> int:
    """Return the peak resident memory of this process in bytes; on Linux, since the last call with `reset`."""
    if sys.platform == "linux":
        if reset:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _meminfo() -> tuple[int, int]:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 0
    sizes = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", text, re.MULTILINE))
    return int(sizes.get("MemTotal", 0)) * 1024, int(sizes.get("MemAvailable", 0)) * 1024


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # absent, a folder, or "max"
        return 0


def _macos_memory() -> dict[str, int]:
    """Return total and available bytes from `sysctl` and `vm_stat`. Written from their manual pages, not tested."""
    text = command_output("vm_stat")
    page = re.search(r"page size of (\d+) bytes", text)
    free = re.findall(r"^Pages (?:free|inactive|speculative):\s+(\d+)\.", text, re.MULTILINE)
    total = command_output("sysctl", "-n", "hw.memsize")
    available = sum(map(int, free)) * int(page[1]) if page else 0
    return {"total": int(total) if total.isdigit() else 0, "available": available}


def command_output(*command: str) -> str:
    """Return the output of a system command, stripped; "" if it does not exist, fails, or takes more than 5 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


# GB/s of unified memory, from Apple's specifications; two figures where there are two variants of a chip.
PUBLISHED_GB_PER_S: dict[str, tuple[float, ...]] = {
    "M1": (68.25,),
    "M1 Pro": (200,),
    "M1 Max": (400,),
    "M1 Ultra": (800,),
    "M2": (100,),
    "M2 Pro": (200,),
    "M2 Max": (400,),
    "M2 Ultra": (800,),
    "M3": (100,),
    "M3 Pro": (150,),
    "M3 Max": (300, 400),
    "M3 Ultra": (819,),
    "M4": (120,),
    "M4 Pro": (273,),
    "M4 Max": (410, 546),
    "M5": (153,),
}


def published_bytes_per_s() -> tuple[str, tuple[float, float] | None]:
    """Return this Mac's chip and its published memory speed (lowest, highest) in bytes per second.

    The chip is "" on other systems, the speed None if it is not known. Written for the names that `sysctl
    machdep.cpu.brand_string` prints ("Apple M1 Max"), not tested on a Mac.
    """
    brand = command_output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else ""
    speeds = PUBLISHED_GB_PER_S.get(brand.removeprefix("Apple "))
    return brand, (min(speeds) * 1e9, max(speeds) * 1e9) if speeds else None


def read_bytes_per_s() -> float:
    """Measure how fast MLX's default device reads memory, in bytes per second.

    It takes the maximum of 64 million float32 numbers three times, and returns the fastest.
    """
    from gatsby_mlx.device.blas import prepare

    prepare()
    import mlx.core as mx

    data = mx.ones((64, 1_000_000), mx.float32)
    mx.eval(data)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        mx.eval(mx.max(data))
        best = max(best, data.nbytes / (time.perf_counter() - start))
    return best
