"""The house writer as a Writer: its drafts, its description, and the one obsession that it knows."""

from collections import deque
from dataclasses import replace

import pytest

from gatsby_mlx import api, house
from gatsby_mlx.errors import WriterError
from gatsby_mlx.house.writer import HouseWriter
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.writers.base import StoryJob, TopicJob
from gatsby_mlx.writers.specs import HOUSES, HouseSpec

WHALE = Obsession("whale", "white whale")
JOBS = [StoryJob("a cat", "Nora", level, 10 + level) for level in house.MENTIONS]


def test_house_writer_yields_the_story_of_each_job():
    queue = deque(JOBS)
    with HouseWriter() as writer:
        drafts = list(writer.write(queue))
        assert not queue
        assert list(writer.brainstorm(deque([TopicJob("pets", 3, 1)]))) == []
    assert [draft.job for draft in drafts] == JOBS
    assert [draft.text for draft in drafts] == [house.write_story("a cat", "Nora", j.level, j.seed) for j in JOBS]
    assert {draft.finish for draft in drafts} == {"stop"}


def test_make_writer_gives_each_house_its_world():
    described = {name: api.make_writer(HouseSpec(name)).about for name in HOUSES}
    assert described == {
        "house": {"kind": "house", "version": 2},
        "house-plain": {"kind": "house", "version": 4, "world": "plain"},
        "house-small": {"kind": "house", "version": 2, "world": "small"},
        "house-tales": {"kind": "house", "version": 1, "world": "tales"},
    }


@pytest.mark.parametrize("name", HOUSES)
def test_house_writer_rejects_another_obsession_with_a_hint(name):
    with pytest.raises(WriterError, match="knows the green light only") as caught:
        api.make_writer(HouseSpec(name), WHALE)
    assert "model or a server" in caught.value.hint
    assert "\n" not in caught.value.line()


def test_house_writer_accepts_other_bands_of_the_green_light():
    wide = replace(GREEN_LIGHT, bands=((1, 2), (3, 4), (5, 7), (8, 10), (11, 30)))
    assert HouseWriter(obsession=wide).about == HouseWriter().about
