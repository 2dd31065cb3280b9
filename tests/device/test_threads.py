"""device.threads: how many workers and BLAS threads, and a container's quota."""

from pathlib import Path

import pytest
from device_tools import finish, linux, start

from gatsby_mlx import device
from gatsby_mlx.device import blas, threads


@pytest.mark.parametrize(
    ("text", "share"), [("max 100000", 0), ("150000 100000", 2), ("200000 100000", 2), ("nonsense", 0)]
)
def test_cpu_share_reads_a_containers_quota(text, share, monkeypatch):
    def read(path: Path) -> str:
        if path.name != "cpu.max":
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert blas.cpu_share() == share


def test_n_workers_is_at_most_one_per_core(monkeypatch, cpu):
    assert 1 <= device.n_workers() <= min(8, blas.processors())
    monkeypatch.setattr(threads, "processors", lambda: 64)
    monkeypatch.setattr(threads, "cpu_share", lambda: 0)
    assert device.n_workers() == 8
    monkeypatch.setattr(threads, "cpu_share", lambda: 3)
    assert device.n_workers() == 3


COUNT = """
import json
from gatsby_mlx import device
from gatsby_mlx.device.blas import library_function
import ctypes
blas = device.prepare()
core = ctypes.CDLL(blas.path)
count = library_function(core, "openblas_get_num_threads") or core.MKL_Get_Max_Threads
counts = [count()]
with device.blas_threads(2):
    with device.blas_threads(1):
        counts.append(count())
    counts.append(count())
    try:
        with device.blas_threads(1):
            raise KeyError
    except KeyError:
        counts.append(count())
counts.append(count())
print(json.dumps({"counts": counts}))
"""


@linux
def test_blas_threads_are_restored():
    if not device.prepare().threads and device.prepare().how != "late":
        return  # a BLAS without a number of threads: there is nothing to restore
    before, one, two, again, after = finish(start(COUNT))["counts"]
    assert (one, two, again) == (1, 2, 2) and after == before
