"""Tools for tests of what runs on a device that is no CPU: the plain forms, and who waits for the device."""

import io
import re
from collections import Counter
from typing import Any

import gatsby_mlx.model  # noqa: F401  a fast BLAS first

# isort: split
import mlx.core as mx
import numpy as np
import pytest

from gatsby_mlx import kernels

READS = ("item", "tolist", "__float__", "__int__", "__bool__", "__index__", "__array__", "__dlpack__")


def off_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything run as on a device that is no CPU, uncompiled: its graphs then show each operation."""
    monkeypatch.setattr(kernels, "on_cpu", lambda: False)
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


class Waits:
    """Counts what waits for the device while the patch lasts: values that are read, and `mx.eval`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.reads: list[str] = []
        self.evals, self.queued = 0, 0
        for name in READS:
            monkeypatch.setattr(mx.array, name, self._counting(name, getattr(mx.array, name)))
        for name in ("array", "asarray"):  # numpy reads an array's memory without calling any of its methods
            monkeypatch.setattr(np, name, self._counting(name, getattr(np, name)))
        for name, counter in (("eval", "evals"), ("async_eval", "queued")):
            monkeypatch.setattr(mx, name, self._counted(counter, getattr(mx, name)))

    def _counting(self, name: str, read: Any) -> Any:
        def counting(*args: Any, **kwargs: Any) -> Any:
            if args and isinstance(args[0], mx.array):
                self.reads.append(name)
            return read(*args, **kwargs)

        return counting

    def _counted(self, counter: str, evaluate: Any) -> Any:
        def counted(*args: Any) -> Any:
            setattr(self, counter, getattr(self, counter) + 1)
            return evaluate(*args)

        return counted


def operations(*arrays: mx.array) -> Counter[str]:
    """Return how often each operation is in the graph of arrays that are not computed yet."""
    text = io.StringIO()
    mx.export_to_dot(text, *arrays)
    return Counter(re.findall(r'label ?="([^"]+)", shape=rectangle', text.getvalue()))
