"""How much memory there is, and a limit on what MLX keeps of it."""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def memory_limits(cache_bytes: int | None = None) -> Iterator[None]:
    """Limit the freed memory that MLX keeps for reuse to `cache_bytes` inside the block, and put the old limit back.

    None changes nothing. On Metal the cache may grow to the memory limit unless it is set; on CPU (mlx 0.32.4) the
    limit is 32 MiB from the start, and 1 GB in its place gained nothing measurable.
    Raises ValueError for a negative limit.
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


def keep_pages() -> bool:
    """Let glibc keep freed memory for the next array instead of giving every large block back to the kernel.

    MLX's CPU allocator calls malloc for each array, and glibc maps blocks of 32 MiB and more afresh: an addition over
    90 MiB took 66 ms with new pages and 10 to 13 ms with kept ones. Returns whether there was a glibc to tell.
    The numbers are M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD and M_ARENA_MAX of malloc.h.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1))
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in wanted)


def memory_bytes() -> dict[str, int]:
    """Return {"total", "available"} in bytes, a container's limit included; 0 where it cannot be read."""
    if sys.platform == "darwin":
        return _macos_memory()
    total, available = _meminfo()
    for limit_file, used_file in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "")):
        limit, used = _number(f"/sys/fs/cgroup/{limit_file}"), _number(f"/sys/fs/cgroup/{used_file}")
        if 0 < limit < total:
            total, available = limit, min(available, max(0, limit - used))
    return {"total": total, "available": available}


def _meminfo() -> tuple[int, int]:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 0
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", text, re.MULTILINE))
    return int(found.get("MemTotal", 0)) * 1024, int(found.get("MemAvailable", 0)) * 1024


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # absent, a folder, or "max"
        return 0


def _macos_memory() -> dict[str, int]:
    """Read `sysctl` and `vm_stat`. Written from their manual pages; not run on a Mac."""
    text = command_output("vm_stat")
    page = re.search(r"page size of (\d+) bytes", text)
    free = re.findall(r"^Pages (?:free|inactive|speculative):\s+(\d+)\.", text, re.MULTILINE)
    total = command_output("sysctl", "-n", "hw.memsize")
    available = sum(map(int, free)) * int(page[1]) if page else 0
    return {"total": int(total) if total.isdigit() else 0, "available": available}


def command_output(*command: str) -> str:
    """Return what a system command prints, stripped; "" when it is absent, fails or takes more than 5 s."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


# GB/s of unified memory, from Apple's pages of specifications; two figures where one name was sold in two forms.
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
    """Return this Mac's chip and its published memory speed, lowest and highest; "" and None where they are not known.

    Written from the names that `sysctl machdep.cpu.brand_string` gives ("Apple M1 Max"); not run on a Mac.
    """
    brand = command_output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else ""
    found = PUBLISHED_GB_PER_S.get(brand.removeprefix("Apple "))
    return brand, (min(found) * 1e9, max(found) * 1e9) if found else None


def read_bytes_per_s() -> float:
    """Return how fast MLX's default device reads memory, from the largest of 64 million numbers, the best of three."""
    from gatsby_mlx.device.blas import prepare

    prepare()
    import mlx.core as mx

    data = mx.ones((64, 1_000_000), mx.float32)
    mx.eval(data)
    best = 0.0
    for _ in range(3):
        begun = time.perf_counter()
        mx.eval(mx.max(data))
        best = max(best, data.nbytes / (time.perf_counter() - begun))
    return best
