"""The requirements of a blend: memory and disk, checked before any download."""

import shutil

import pytest

from gatsby_mlx.device.memory import memory_bytes
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import local_models, requirements
from gatsby_mlx.writers.specs import FOUR, SHARES, HouseSpec


@pytest.fixture(autouse=True)
def no_local_models(monkeypatch):
    monkeypatch.setattr(local_models, "locate", lambda spec: None)


def test_a_blend_that_does_not_fit_into_memory_is_rejected_with_one_that_does(monkeypatch):
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (12 * 10**9, False))
    with pytest.raises(WriterError, match=r"gemma needs 16\.0 GB") as caught:
        requirements.check(FOUR, SHARES)
    assert "--blend olmo=0.37,ministral=0.37,granite=0.25" in caught.value.hint
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (12 * 10**9, True))
    monkeypatch.setattr(requirements, "memory_bytes", lambda: {"total": 24 * 10**9, "available": 0})
    with pytest.raises(WriterError) as caught:
        requirements.check(FOUR, SHARES)
    assert "sudo sysctl iogpu.wired_limit_mb=" in caught.value.hint
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (10**9, False))
    with pytest.raises(WriterError) as caught:
        requirements.check({"olmo": FOUR["olmo"]}, {"olmo": 1.0})
    assert "--blend house" in caught.value.hint


def test_a_full_disk_is_reported_before_the_download(monkeypatch):
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (10**12, False))
    monkeypatch.setattr(local_models.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(WriterError, match=r"olmo needs 4\.1 GB of disk"):
        requirements.check(FOUR, SHARES)


def test_check_returns_the_needs_of_the_models_only(monkeypatch):
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (10**12, False))
    monkeypatch.setattr(local_models, "check_disk", lambda spec, needed: None)
    needed = requirements.check({"olmo": FOUR["olmo"], "house": HouseSpec()}, {"olmo": 0.5, "house": 0.5})
    assert list(needed) == ["olmo"]
    assert needed["olmo"].download_bytes == needed["olmo"].weight_bytes == FOUR["olmo"].size_bytes
    assert needed["olmo"].memory_bytes > 1.1 * FOUR["olmo"].size_bytes


def test_usable_bytes_is_the_limit_of_metal_or_the_free_memory(monkeypatch):
    monkeypatch.setattr(requirements, "working_set_bytes", lambda: 5 * 10**9)
    assert requirements.usable_bytes() == (5 * 10**9, True)
    monkeypatch.setattr(requirements, "working_set_bytes", lambda: 0)
    n, metal = requirements.usable_bytes()
    assert 0 < n <= memory_bytes()["total"] and not metal
