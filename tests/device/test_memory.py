"""device.memory: limits are restored, and the sizes are plausible."""

import ctypes
import sys

import pytest

from gatsby_mlx import device
from gatsby_mlx.device import memory


def test_memory_limits_are_restored():
    device.prepare()
    import mlx.core as mx

    def now() -> int:
        limit = mx.set_cache_limit(0)
        mx.set_cache_limit(limit)
        return limit

    before = now()
    with device.memory_limits(cache_bytes=12345):
        assert now() == 12345
    assert now() == before
    with pytest.raises(KeyError), device.memory_limits(cache_bytes=1):
        raise KeyError
    assert now() == before
    with device.memory_limits():
        assert now() == before
    with pytest.raises(ValueError, match="cache_bytes"), device.memory_limits(cache_bytes=-1):
        pass


def test_keep_pages_works_on_glibc_only():
    glibc = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
    assert device.keep_pages() == glibc


def test_memory_bytes_and_peak_are_plausible():
    sizes = memory.memory_bytes()
    assert 2**28 < sizes["total"] < 2**44 and 0 < sizes["available"] <= sizes["total"]
    before = memory.resident_peak_bytes(reset=True)
    block = b"x" * (128 << 20)
    assert max(before, len(block)) < memory.resident_peak_bytes() < sizes["total"]
