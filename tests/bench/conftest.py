"""A small bench document, as a run writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatsby_mlx.bench import document, suites
from gatsby_mlx.bench.work import Settings, TrainWork
from gatsby_mlx.config import GPTConfig


def _trained(context: int, ours: list[float], theirs: list[float] | None, **shape: Any) -> dict[str, Any]:
    """Return a training result with these speeds."""
    job = TrainWork(GPTConfig(block_size=1024, **shape), 4, context)
    values = {"mlx": ours, **({"torch": theirs} if theirs else {})}
    gflop_s = {peer: speeds[0] / 50 for peer, speeds in values.items()}
    return suites.result(
        "train",
        job.name,
        "characters/s",
        values,
        work=job.to_json(),
        gflop_s=gflop_s,
        matmul_gflop_s=200.0,
        peak_ratio=0.8 if theirs else None,
    )


@pytest.fixture
def trained() -> Callable[..., dict[str, Any]]:
    """A function that makes a training result."""
    return _trained


@pytest.fixture
def content() -> dict[str, Any]:
    peer = {"device": "cpu", "versions": {"mlx": "0.32.4", "torch": "2.13.0"}}
    results = [
        _trained(256, [1500.0, 1600, 1550, 1500, 1600, 1550], [1000.0, 1000, 1000, 1000, 1000, 1000]),
        _trained(512, [1200.0, 1210, 1190, 1200, 1210, 1190], [1000.0, 1000, 1000, 1000, 1000, 1000]),
    ]
    return document.build(results, {"mlx": peer, "torch": peer}, Settings(), "gatsby bench train")


@pytest.fixture
def saved(content, tmp_path) -> Path:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(content))
    return path
