"""estimate: what a blend will take, and what it says where nothing stands behind a figure."""

import pytest

from gatsby_mlx.device import memory
from gatsby_mlx.writers import estimate, machine, models
from gatsby_mlx.writers.specs import FOUR, HouseSpec, ServerSpec

STORIES = dict.fromkeys([*FOUR, "house", "s"], 600)


@pytest.fixture
def chip(monkeypatch, tmp_path):
    """Make this machine a Mac with a chip of this name, and nothing downloaded."""

    def named(brand: str, usable_bytes: int = 48 * 10**9) -> None:
        monkeypatch.setattr(memory.sys, "platform", "darwin")
        monkeypatch.setattr(memory, "command_output", lambda *words: brand)
        monkeypatch.setattr(machine, "usable_bytes", lambda: (usable_bytes, True))

    monkeypatch.setattr(models, "locate", lambda spec: None)
    return named


def told(*names: str) -> list[estimate.Estimate]:
    return list(estimate.estimates({name: FOUR[name] for name in names}, STORIES))


def test_a_mac_of_a_known_chip_is_told_a_range_and_what_it_rests_on(chip):
    chip("Apple M1 Max")
    (olmo,) = told("olmo")
    assert olmo.seconds
    low, high = olmo.seconds
    assert high == pytest.approx(600 * 180 * 4.1e9 / (0.6 * 400e9), rel=0.07)  # the cache comes on top of the weights
    assert high / 15 < low < high / 5
    assert olmo.how == "by the published memory speed of Apple M1 Max, 32 at once to one"
    chip("Apple M4 Max")
    (later,) = told("olmo")
    assert later.seconds
    assert later.seconds[1] == pytest.approx(high * 400 / 410)
    assert later.seconds[0] < low * 400 / 500


def test_a_small_memory_narrows_the_range_to_one_story_at_a_time(chip):
    chip("Apple M2", 6 * 10**9)
    (olmo,) = told("olmo")
    assert olmo.how.endswith("1 at once to one")
    assert olmo.seconds
    assert olmo.seconds[0] == olmo.seconds[1]


def test_a_chip_that_is_not_in_the_list_is_measured(chip, monkeypatch):
    chip("Apple M99")
    monkeypatch.setattr(estimate, "read_bytes_per_s", lambda: 10**12)
    (olmo,) = told("olmo")
    assert olmo.how.startswith("by its measured memory speed")
    assert olmo.seconds
    assert olmo.seconds[1] < 600 * 180 * 4.1e9 / (0.5 * 10**12)


def test_without_metal_a_model_is_not_estimated_and_nothing_is_measured_for_it(chip, monkeypatch):
    monkeypatch.setattr(machine, "usable_bytes", lambda: (48 * 10**9, False))
    monkeypatch.setattr(estimate, "read_bytes_per_s", lambda: pytest.fail("measured"))
    assert [(row.seconds, row.how) for row in told(*FOUR)] == [(None, estimate.NO_METAL)] * 4


def test_the_house_is_measured_and_a_server_that_is_down_is_said():
    specs = {"house": HouseSpec(), "s": ServerSpec("s", "http://127.0.0.1:1", "m")}
    house, server = estimate.estimates(specs, STORIES)
    assert house.how == "50 stories measured"
    assert house.seconds
    assert 0 < house.seconds[0] < 60
    assert server.seconds is None
    assert "no server at http://127.0.0.1:1" in server.how


def test_the_chips_name_is_asked_on_a_mac_only(monkeypatch):
    monkeypatch.setattr(memory, "command_output", lambda *words: "Apple M3 Max")
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.published_bytes_per_s() == ("", None)
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.published_bytes_per_s() == ("Apple M3 Max", (300e9, 400e9))
