"""device.ranks: one process alone, hosts that do not answer, and two processes that exchange values and arrays."""

import json
import os
import subprocess
import sys

import pytest
from device_tools import ROOT

from gatsby_mlx.device.ranks import LAUNCHED, Ranks
from gatsby_mlx.errors import RanksError


@pytest.fixture
def ranks(monkeypatch) -> Ranks:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    return Ranks()


def test_ranks_without_a_launcher_are_one(ranks):
    assert (ranks.rank, ranks.size, ranks.local, ranks.first) == (0, 1, 1, True)
    assert ranks.share([1, 2, 3]) == [1, 2, 3]
    assert ranks.broadcast({"a": 1.5}) == {"a": 1.5} and ranks.gather("x") == ["x"]
    assert ranks.any(True) and not ranks.any(False)
    tree = {"w": object()}
    assert ranks.sum(tree) is tree and ranks.broadcast_arrays(tree) is tree


def test_ranks_of_a_launch_with_one_process_are_one(monkeypatch, tmp_path):
    hosts = tmp_path / "hosts.json"
    hosts.write_text("")  # what `mlx.launch -n 1` writes
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    assert Ranks().size == 1


def test_share_gives_each_item_to_one_rank(ranks):
    ranks.size, shares = 3, []
    for ranks.rank in range(3):
        shares += ranks.share(list(range(8)))
    assert sorted(shares) == list(range(8))
    with pytest.raises(RanksError, match="2 micro-batches, too few for 3"):
        ranks.share([1, 2])


def test_ranks_that_cannot_connect_are_one_line(monkeypatch, tmp_path):
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([["127.0.0.1:1"], ["127.0.0.1:2"]]))
    monkeypatch.setenv("MLX_RANK", "7")
    monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    with pytest.raises(RanksError, match="cannot connect to each other") as caught:
        Ranks()
    assert "\n" not in caught.value.line() and "mlx.launch" in caught.value.line()


EXCHANGE = """
import json
from gatsby_mlx.device.ranks import Ranks
ranks = Ranks()
import mlx.core as mx
mine = {"w": mx.full((2, 3), float(ranks.rank + 1)), "b": [mx.array(10.0 * (ranks.rank + 1))]}

def plain(tree):
    return [tree["w"].tolist(), tree["b"][0].item()]

report = {
    "ranks": [ranks.rank, ranks.size, ranks.local, ranks.first],
    "gather": ranks.gather({"rank": ranks.rank, "text": "x" * (1 + 50 * ranks.rank)}),
    "broadcast": ranks.broadcast(["first", ranks.rank]),
    "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
    "share": ranks.share(list(range(5))),
    "sum": plain(ranks.sum(mine)),
    "arrays": plain(ranks.broadcast_arrays(mine)),
}
print(json.dumps(report))
"""


def test_two_ranks_exchange_values_and_arrays(tmp_path):
    hosts = tmp_path / "hosts.json"
    port = 20_000 + os.getpid() % 20_000
    hosts.write_text(json.dumps([[f"127.0.0.1:{port + rank}"] for rank in (0, 1)]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLX_HOSTFILE": str(hosts)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", EXCHANGE],
            env={**environment, "MLX_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    reports = []
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        reports.append(json.loads(out.splitlines()[-1]))
    assert [r["ranks"] for r in reports] == [[0, 2, 2, True], [1, 2, 2, False]]
    assert [r["share"] for r in reports] == [[0, 2, 4], [1, 3]]
    for report in reports:
        assert report["gather"] == [{"rank": 0, "text": "x"}, {"rank": 1, "text": "x" * 51}]
        assert report["broadcast"] == ["first", 0]
        assert report["any"] == [True, False]
        assert report["sum"] == [[[3.0] * 3] * 2, 30.0]
        assert report["arrays"] == [[[1.0] * 3] * 2, 10.0]
