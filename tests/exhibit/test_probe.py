"""probe: the readings equal those of full passes of the model without a cache."""

import mlx.core as mx
import numpy as np
import pytest
from babbler import TOKENIZER, babbler
from exhibit_tools import STORY, storyteller

from gatsby_mlx.errors import TopicError, UsageError
from gatsby_mlx.exhibit import probe
from gatsby_mlx.model.batch import Slots
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import build


def log_p(model, text: str, n_given: int) -> np.ndarray:
    """Return ln p of text[n_given:], each character given all before it, in one pass without a cache."""
    ids = TOKENIZER.encode(text)
    logits = model(mx.array([ids[:-1]]))[0]
    log_probabilities = logits - mx.logsumexp(logits, axis=-1, keepdims=True)  # [T, V]
    return np.array(mx.take_along_axis(log_probabilities, mx.array(ids[1:])[:, None], axis=-1)[n_given - 1 :, 0])


@pytest.mark.parametrize(
    ("story", "begins"),
    [
        ("", True),
        ("He saw a ", True),
        ("He", False),
        ("the end.\n\n", True),
        ('He said, "', True),
        ("it's", False),
        ('a"', False),
    ],
)
def test_words_begin_after_white_space_and_opening_quotes(story, begins):
    assert probe.word_begins(story) is begins


@pytest.mark.parametrize("floor", [0.0, probe.FLOOR])
def test_phrase_probability_is_the_product_over_the_characters(floor, monkeypatch):
    monkeypatch.setattr(probe, "FLOOR", floor)
    model = babbler(n_embd=64).model
    stories = {2: "He saw a ", 0: "", 3: "There was a green ", 1: "One day the whole of it was over. "}
    slots = Slots(model, 4)
    for slot, story in stories.items():
        slots.prefill(slot, TOKENIZER.encode(build("a cat", 1 + slot) + story))
    p = probe.phrase_probability(slots, TOKENIZER, stories, GREEN_LIGHT)
    for slot, story in stories.items():
        text = build("a cat", 1 + slot) + story
        each = [log_p(model, text + words, len(text)) for words in probe.missing_words(story, GREEN_LIGHT)]
        expected = sum(np.exp(log.sum()) for log in each if np.exp(log[0]) >= floor)
        assert p[slot] == pytest.approx(expected, rel=1e-3, abs=1e-30)
    assert probe.missing_words(stories[3], GREEN_LIGHT) == ("light",)
    assert probe.missing_words("evergreen ", GREEN_LIGHT) == GREEN_LIGHT.spellings


def test_phrase_probability_is_high_before_the_phrase_and_changes_no_state():
    checkpoint = storyteller()
    slots = Slots(checkpoint.model, 2)
    before = STORY.partition("green light")[0]
    slots.prefill(0, TOKENIZER.encode(build("a cat", 3) + before))
    slots.prefill(1, TOKENIZER.encode(build("a cat", 3)))
    kept = [np.array(slots.logits), np.array(slots.parts[0].caches[0].keys), slots.positions.copy()]
    p = probe.phrase_probability(slots, TOKENIZER, {0: before, 1: ""}, GREEN_LIGHT)
    assert p[0] > 0.9 and p[1] == 0.0
    now = [np.array(slots.logits), np.array(slots.parts[0].caches[0].keys), slots.positions]
    assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))


def test_phrase_probability_is_zero_where_the_phrase_does_not_fit():
    model = babbler(block_size=90).model
    slots = Slots(model, 1)
    story = "x" * (82 - len(build("a cat", 1)))
    slots.prefill(0, TOKENIZER.encode(build("a cat", 1) + story))
    assert probe.phrase_probability(slots, TOKENIZER, {0: story + " "}, GREEN_LIGHT) == {0: 0.0}


def test_missing_words_are_those_of_the_obsession():
    whale = Obsession("whale", "great white whale")
    assert probe.missing_words("He saw a ", whale) == ("great white whale", "Great white whale")
    assert probe.missing_words("He saw a great ", whale) == ("white whale",)
    assert probe.missing_words("The Great\nwhite ", whale) == ("whale",)
    assert probe.missing_words("ungreat ", whale) == whale.spellings
    assert probe.n_ahead(whale) == len("great white whale") - 1


@pytest.mark.parametrize("length", [1, 128 - len(build("a cat", 1)), 239])
def test_pull_is_the_difference_of_two_readings(length):
    model = babbler().model
    story = ("It was a long, long night of green light. " * 9)[:length]
    *pauses, pull = probe.pull(model, TOKENIZER, "a cat", story)
    assert pauses == [None] * len(pauses) and pull is not None
    first, last = (log_p(model, build("a cat", k) + story, len(build("a cat", k))) for k in (1, 5))
    assert pull.shape == (length,)
    assert np.abs(pull - (last - first)).max() < 1e-4
    assert np.abs(pull).max() > 1e-3


def test_pull_refuses_a_story_it_cannot_read():
    model = babbler().model
    for topic, story in (
        ("a cat", ""),
        ("a cat", "x" * 300),
        ("a cat", "\u00e9"),
        ("a cat", "a\n\n[green=1]"),
        ("a cat", "\n["),
    ):
        with pytest.raises(UsageError):
            list(probe.pull(model, TOKENIZER, topic, story))
    with pytest.raises(TopicError):
        list(probe.pull(model, TOKENIZER, "[green=5]", "a"))
