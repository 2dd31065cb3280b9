"""What a platform cannot do, by name: the only reasons for which CI may skip a test.

    @platforms.linux_blas
    def test_...

Each reason is allowed on the platforms where it holds, and nowhere else.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LINUX_BLAS = "only on Linux does gatsby choose a BLAS"
LINUX_COMPILER = "only on Linux does mx.compile need g++"
DEV_FULL = "/dev/full is Linux's"
PROC = "/proc is Linux's"
UTF_8_NAMES = "macOS's file systems have only names in UTF-8"
ROOT = "root may write to every folder but /proc, which is Linux's"
PARAVIRTUAL = "the GPU of this virtual Mac has no bfloat16"

# By `sys.platform`: the reasons for which a test may be skipped there.
ALLOWED: dict[str, frozenset[str]] = {
    "darwin": frozenset({LINUX_BLAS, LINUX_COMPILER, DEV_FULL, PROC, UTF_8_NAMES, ROOT, PARAVIRTUAL}),
    "linux": frozenset(),
}

linux_blas = pytest.mark.skipif(sys.platform != "linux", reason=LINUX_BLAS)
linux_compiler = pytest.mark.skipif(sys.platform != "linux", reason=LINUX_COMPILER)
dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason=DEV_FULL)
any_name = pytest.mark.skipif(sys.platform == "darwin", reason=UTF_8_NAMES)
proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason=PROC)


def lacks_low_precision() -> bool:
    """Return whether this is a virtual Mac, as hosted runners are, whose GPU fails at a product in bfloat16.

    Only such a machine is asked, by a process of its own: a missing kernel may end it.
    """
    if sys.platform != "darwin":
        return False
    virtual = subprocess.run(["sysctl", "-n", "kern.hv_vmm_present"], capture_output=True, text=True, check=False)
    if virtual.stdout.strip() != "1":
        return False
    product = "import mlx.core as mx; a = mx.ones((64, 64), mx.bfloat16); mx.eval(a @ a)"
    return subprocess.run([sys.executable, "-c", product], capture_output=True, check=False).returncode != 0


low_precision = pytest.mark.skipif(lacks_low_precision(), reason=PARAVIRTUAL)


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Let MLX compute on the CPU inside the block."""
    from gatsby_mlx import device

    device.prepare()
    import mlx.core as mx

    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


def forbidden(reason: str, platform: str = sys.platform) -> bool:
    """Return whether a skip for `reason` must fail CI on `platform`."""
    return reason.removeprefix("Skipped: ") not in ALLOWED.get(platform, frozenset())
