"""A tiny model and a small corpus, made once for all tests of the command line."""

from pathlib import Path

import pytest
from cli_tools import TINY, gatsby, save_model

from gatsby_mlx import config, shipped


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A corpus of 50 stories, written by the command itself."""
    folder = tmp_path_factory.mktemp("corpus") / "stories"
    assert gatsby("write", "--n", 50, "--out", folder).exit_code == 0
    return folder


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> Path:
    """An empty working folder, in which no checkpoint ships and `pocket` is a tiny preset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "checkpoint", lambda: None)
    monkeypatch.setitem(config.PRESETS, "pocket", TINY)
    return tmp_path
