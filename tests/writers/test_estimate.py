"""Estimates: the time of a blend and its basis, and no figure where there is no basis."""

import pytest

from gatsby_mlx import api
from gatsby_mlx.device import memory
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.writers import estimate, local_models, requirements
from gatsby_mlx.writers.specs import FOUR, HouseSpec, ServerSpec

STORIES = dict.fromkeys([*FOUR, "house", "s"], 600)


@pytest.fixture
def chip(monkeypatch, tmp_path):
    """Return a function that makes this machine a Mac with the given chip. No model is downloaded."""

    def pretend(brand: str, usable_bytes: int = 64 * 10**9) -> None:
        monkeypatch.setattr(memory.sys, "platform", "darwin")
        monkeypatch.setattr(memory, "command_output", lambda *words: brand)
        monkeypatch.setattr(requirements, "usable_bytes", lambda: (usable_bytes, True))

    monkeypatch.setattr(local_models, "locate", lambda spec: None)
    return pretend


def estimates(*names: str) -> list[estimate.Estimate]:
    return list(estimate.estimates({name: FOUR[name] for name in names}, STORIES, api.make_writer))


def test_a_known_chip_gives_a_range_and_its_basis(chip):
    chip("Apple M1 Max")
    (olmo,) = estimates("olmo")
    assert olmo.seconds
    low, high = olmo.seconds
    assert high == pytest.approx(660 * 180 * 4.1e9 / (0.6 * 400e9), rel=0.07)  # the cache adds to the weights
    assert high / 15 < low < high / 5
    assert olmo.basis == "by the published memory speed of Apple M1 Max, 32 at once to one"
    chip("Apple M4 Max")
    (later,) = estimates("olmo")
    assert later.seconds
    assert later.seconds[1] == pytest.approx(high * 400 / 410)
    assert later.seconds[0] < low * 400 / 500


def test_small_memory_narrows_the_range_to_one_story_at_a_time(chip):
    chip("Apple M2", 6 * 10**9)
    (olmo,) = estimates("olmo")
    assert olmo.basis.endswith("1 at once to one")
    assert olmo.seconds
    assert olmo.seconds[0] == olmo.seconds[1]


def test_an_unknown_chip_is_measured(chip, monkeypatch):
    chip("Apple M99")
    monkeypatch.setattr(estimate, "read_bytes_per_s", lambda: 10**12)
    (olmo,) = estimates("olmo")
    assert olmo.basis.startswith("by its measured memory speed")
    assert olmo.seconds
    assert olmo.seconds[1] < 660 * 180 * 4.1e9 / (0.5 * 10**12)


def test_without_metal_models_have_no_estimate_and_nothing_is_measured(chip, monkeypatch):
    monkeypatch.setattr(requirements, "usable_bytes", lambda: (48 * 10**9, False))
    monkeypatch.setattr(estimate, "read_bytes_per_s", lambda: pytest.fail("measured"))
    assert [(e.seconds, e.basis) for e in estimates(*FOUR)] == [(None, estimate.NO_METAL)] * 4


def test_the_house_is_measured_and_a_server_that_is_down_has_a_reason():
    specs = {"house": HouseSpec(), "s": ServerSpec("s", "http://127.0.0.1:1", "m")}
    house, server = estimate.estimates(specs, STORIES, api.make_writer)
    assert house.basis == "50 stories measured"
    assert house.seconds
    assert house.seconds[0] > 0
    assert server.seconds is None
    assert "no server at http://127.0.0.1:1" in server.basis


def test_the_chip_is_looked_up_on_a_mac_only(monkeypatch):
    monkeypatch.setattr(memory, "command_output", lambda *words: "Apple M3 Max")
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.published_bytes_per_s() == ("", None)
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.published_bytes_per_s() == ("Apple M3 Max", (300e9, 400e9))


def test_a_writer_that_cannot_be_made_has_a_reason():
    whale = Obsession("whale", "white whale")
    (house,) = estimate.estimates({"house": HouseSpec()}, STORIES, lambda spec: api.make_writer(spec, whale))
    assert house.seconds is None
    assert "The house writer knows the green light only" in house.basis
