"""Exhibits that run on real sockets, each made once for all tests of this folder."""

from collections.abc import Iterator

import pytest
from exhibit_tools import STORY, Served, babbler, serving, storyteller

from gatsby_mlx.corpus.document import Document, render
from gatsby_mlx.prime import Prime


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Three stories, one of which taught the storyteller a sentence."""
    folder = tmp_path_factory.mktemp("corpus")
    stories = ["It saw the green light. Then it slept.", "A dog dug.", STORY[:40] + " A fish swam by."]
    (folder / "raw.txt").write_text(render(Document(Prime(f"a tale {i}", 1 + i), s) for i, s in enumerate(stories)))
    return folder


@pytest.fixture(scope="session")
def told(corpus) -> Iterator[Served]:
    """An exhibit whose model knows one story by heart."""
    with serving(storyteller(sharp=3), corpus) as served:
        yield served


@pytest.fixture(scope="session")
def babble() -> Iterator[Served]:
    """An exhibit whose model babbles to the end of its context, with five rows and a line of two."""
    with serving(babbler(block_size=2048), batch=5, waiting=2) as served:
        yield served
