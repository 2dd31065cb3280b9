"""device.memory: limits are restored, and the sizes are plausible."""

import contextlib
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
    assert before <= memory.resident_peak_bytes() < sizes["total"]
    assert len(block) < memory.resident_peak_bytes()


def cache_limit() -> int:
    """Return the limit of MLX's cache."""
    import mlx.core as mx

    limit = mx.set_cache_limit(0)
    mx.set_cache_limit(limit)
    return limit


@pytest.mark.parametrize(
    ("gpu", "available", "limit"),
    [
        (0, 8 * 10**9, None),  # a CPU, whose limit is small
        (12 * 10**9, 9 * 10**9, 3 * 10**9),
        (12 * 10**9, 2 * 10**9, 10**9),
        (12 * 10**9, 0, 3 * 10**9),  # unknown
        (12 * 10**9, 10**6, memory.MIN_CACHE_BYTES),
    ],
)
def test_cache_limit_is_a_share_of_the_gpu_and_of_what_is_free(gpu, available, limit, monkeypatch):
    monkeypatch.setattr(memory, "gpu_memory_bytes", lambda: gpu)
    monkeypatch.setattr(memory, "memory_bytes", lambda: {"total": 16 * 10**9, "available": available})
    assert memory.cache_limit_bytes() == limit


def test_cache_stays_limited_until_the_last_of_overlapping_blocks_ends(monkeypatch):
    device.prepare()
    monkeypatch.setattr(memory, "_n_cache_blocks", 0)  # generators of other tests may still hold theirs
    monkeypatch.setattr(memory, "_cache_blocks", contextlib.ExitStack())
    monkeypatch.setattr(memory, "cache_limit_bytes", lambda: 54321)
    before = cache_limit()
    first, second = device.limited_cache(), device.limited_cache()
    first.__enter__()
    second.__enter__()
    assert cache_limit() == 54321
    first.__exit__(None, None, None)
    assert cache_limit() == 54321
    second.__exit__(None, None, None)
    assert cache_limit() == before
    with pytest.raises(KeyError), device.limited_cache():
        raise KeyError
    assert cache_limit() == before


def test_cache_of_200_steps_over_all_widths_stays_under_its_limit(monkeypatch):
    """The arrays of every width would stay: without the limit the cache grows past it several times."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    from gatsby_mlx.config import GPTConfig
    from gatsby_mlx.model.gpt import GPT
    from gatsby_mlx.training.sequences import MicroBatch
    from gatsby_mlx.training.step import Gradients

    # isort: split
    import mlx.core as mx
    import numpy as np

    source = Gradients(GPT(GPTConfig(n_layer=1, n_head=2, n_embd=32, block_size=512, vocab_size=32)))

    def most_cached(limit: int) -> int:
        mx.clear_cache()
        most = 0
        with device.memory_limits(limit):
            for step in range(200):
                ids = np.zeros((1, 64 * (1 + step % 8)), np.int32)
                ones = np.ones(ids.shape, np.float32)
                source.gradients([(step, MicroBatch(ids, ids, ones, ones))])
                most = max(most, mx.get_cache_memory())
        return most

    limit = 4 << 20
    assert most_cached(limit) <= limit < most_cached(1 << 30) / 2
