"""Exhibits on real sockets, each started once for all tests in this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from babbler import babbler
from exhibit_tools import STORY, Served, serving, storyteller

from gatsby_mlx.story.document import Document, render
from gatsby_mlx.story.prime import Prime


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Three stories; the storyteller's own story starts like one of them."""
    folder = tmp_path_factory.mktemp("corpus")
    stories = ["It saw the green light. Then it slept.", "A dog dug.", STORY[:40] + " A fish swam by."]
    (folder / "raw.txt").write_text(render(Document(Prime(f"a tale {i}", 1 + i), s) for i, s in enumerate(stories)))
    return folder


@pytest.fixture(scope="session")
def served(corpus) -> Iterator[Served]:
    """An exhibit whose model has memorized one story."""
    with serving(storyteller(sharp=3), corpus) as running:
        yield running


@pytest.fixture(scope="session")
def babbling() -> Iterator[Served]:
    """An exhibit whose model babbles to the end of its context, with five slots and a queue of two."""
    with serving(babbler(block_size=2048), n_slots=5, max_queued=2) as running:
        yield running
