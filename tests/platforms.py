"""What a platform cannot do, by name: the only reasons for which CI may skip a test.

    @platforms.linux_blas
    def test_...

Each reason is allowed on the platforms where it holds, and nowhere else.
"""

import sys
from pathlib import Path

import pytest

LINUX_BLAS = "only on Linux does gatsby choose a BLAS"
LINUX_COMPILER = "only on Linux does mx.compile need g++"
DEV_FULL = "/dev/full is Linux's"
PROC = "/proc is Linux's"
PARAVIRTUAL = "the GPU of a virtual Mac computes float32 only"

# By `sys.platform`: the reasons for which a test may be skipped there.
ALLOWED: dict[str, frozenset[str]] = {
    "darwin": frozenset({LINUX_BLAS, LINUX_COMPILER, DEV_FULL, PROC, PARAVIRTUAL}),
    "linux": frozenset(),
}

linux_blas = pytest.mark.skipif(sys.platform != "linux", reason=LINUX_BLAS)
linux_compiler = pytest.mark.skipif(sys.platform != "linux", reason=LINUX_COMPILER)
dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason=DEV_FULL)
proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason=PROC)


def forbidden(reason: str, platform: str = sys.platform) -> bool:
    """Return whether a skip for `reason` must fail CI on `platform`."""
    return reason.removeprefix("Skipped: ") not in ALLOWED.get(platform, frozenset())
