"""lamp: the chance that the light comes before the next sentence ends, and what was measured of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from gatsby_mlx.exhibit import lamp
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession

MEASURED = json.loads((Path(__file__).parents[2] / "benchmarks" / "lamp.json").read_text())
STORY = "Mia had a lost kitten. Over the reeds she saw a green light. The kitten was quiet. It slept, and it dreamed. "


def test_counts_are_those_of_the_story():
    found = lamp.counts(3, STORY, GREEN_LIGHT)
    assert found[0] == 1.0  # at the end of a sentence
    assert found[4] == 1  # one mention
    assert found[6] == 3  # sentences that ended after it: its own and two more
    assert found[10] == 4  # sentences told
    assert lamp.counts(3, STORY + "She saw the ", GREEN_LIGHT)[2] == 3  # words of this sentence
    assert len(lamp.features(3, STORY, GREEN_LIGHT)) == 6 * len(found) + 5


def test_expected_mentions_follow_the_bands():
    assert [lamp.expected_mentions(level, GREEN_LIGHT) for level in LEVELS] == [1.5, 3.5, 6.0, 9.0, pytest.approx(13.2)]
    few = Obsession("whale", "white whale", bands=((1, 1), (2, 2), (3, 3), (4, 4), (5, None)))
    assert lamp.expected_mentions(2, few) == 2.0


def test_chance_rises_with_the_dial_and_with_the_time_since_a_mention():
    light = lamp.Lamp(GREEN_LIGHT)
    at = [light.chance(level, STORY) for level in LEVELS]
    assert at[0] < at[2] < at[4] and all(0 < p < 1 for p in at)
    told = "The kitten slept and the green light was near. " * 2
    assert light.chance(1, told) < light.chance(1, "Mia had a lost kitten. ")  # level 1 has had its mentions
    whale = lamp.Lamp(Obsession("whale", "white whale"))
    assert whale.chance(3, STORY.replace("green light", "white whale")) == light.chance(3, STORY)


def test_words_count_for_the_checkpoint_that_they_were_fitted_to_only():
    content = lamp.fitted()
    known, other = lamp.Lamp(GREEN_LIGHT, content["weights"]), lamp.Lamp(GREEN_LIGHT, "0" * 64)
    before = "Across the water was the "
    assert known.chance(3, STORY + before) != other.chance(3, STORY + before)
    assert other.chance(3, STORY + "Across ") == other.chance(3, STORY + "Yellow ")
    assert not any(
        np.isnan(known.chance(level, text)) for level in LEVELS for text in ("", "x" * 3000, "green light. " * 300)
    )


def test_measured_figures_reach_the_targets_on_unseen_topics():
    """The targets: distance at most .08, skill at least .15, AUC at least .70, half of level 3 in between."""
    for name in ("counts", "counts_and_words"):
        for where in ("all", "sentence_ends"):
            figures = MEASURED["lamps"][name][where]
            assert figures["distance"] <= 0.08 and figures["skill"] >= 0.15 and figures["auc"] >= 0.70, (name, where)
            assert figures["auc_by_level"]["3"] >= 0.70 and figures["between_at_3"] >= 0.5
    assert MEASURED["weights"] == lamp.fitted()["weights"]
