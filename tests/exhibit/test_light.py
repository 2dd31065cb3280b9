"""light: the readings equal what the model says when it is asked the long way round."""

import mlx.core as mx
import numpy as np
import pytest
from exhibit_tools import STORY, TOKENIZER, babbler, storyteller

from gatsby_mlx.errors import TopicError, UsageError
from gatsby_mlx.exhibit import light
from gatsby_mlx.model.slots import Slots
from gatsby_mlx.prime import build


def log_p(model, text: str, n_given: int) -> np.ndarray:
    """ln p of text[n_given:], each character given all before it, in one pass without any cache."""
    ids = TOKENIZER.encode(text)
    logits = model(mx.array([ids[:-1]]))[0]
    rows = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return np.array(mx.take_along_axis(rows, mx.array(ids[1:])[:, None], axis=-1)[n_given - 1 :, 0])


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
    assert light.word_begins(story) is begins


@pytest.mark.parametrize("floor", [0.0, light.FLOOR])
def test_nearness_is_the_product_over_the_characters(floor, monkeypatch):
    monkeypatch.setattr(light, "FLOOR", floor)
    model = babbler(n_embd=64).model
    stories = {2: "He saw a ", 0: "", 3: "There was a green ", 1: "One day the whole of it was over. "}
    slots = Slots(model, 4)
    for row, story in stories.items():
        slots.prefill(row, TOKENIZER.encode(build("a cat", 1 + row) + story))
    found = light.nearness(slots, TOKENIZER, stories)
    for row, story in stories.items():
        text = build("a cat", 1 + row) + story
        each = [log_p(model, text + words, len(text)) for words in light.what_is_missing(story)]
        told = sum(np.exp(p.sum()) for p in each if np.exp(p[0]) >= floor)
        assert found[row] == pytest.approx(told, rel=1e-3, abs=1e-30)
    assert light.what_is_missing(stories[3]) == ("light",)
    assert light.what_is_missing("evergreen ") == light.SPELLINGS


def test_nearness_is_high_where_the_light_comes_next_and_leaves_no_trace():
    checkpoint = storyteller()
    slots = Slots(checkpoint.model, 2)
    before = STORY.partition("green light")[0]
    slots.prefill(0, TOKENIZER.encode(build("a cat", 3) + before))
    slots.prefill(1, TOKENIZER.encode(build("a cat", 3)))
    kept = [np.array(slots.logits), np.array(slots.parts[0].caches[0].keys), slots.places.copy()]
    found = light.nearness(slots, TOKENIZER, {0: before, 1: ""})
    assert found[0] > 0.9 and found[1] == 0.0
    now = [np.array(slots.logits), np.array(slots.parts[0].caches[0].keys), slots.places]
    assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))


def test_nearness_is_nought_where_the_words_have_no_room():
    model = babbler(block_size=90).model
    slots = Slots(model, 1)
    story = "x" * (82 - len(build("a cat", 1)))
    slots.prefill(0, TOKENIZER.encode(build("a cat", 1) + story))
    assert light.nearness(slots, TOKENIZER, {0: story + " "}) == {0: 0.0}


@pytest.mark.parametrize("length", [1, 128 - len(build("a cat", 1)), 239])
def test_pull_is_the_difference_of_two_readings(length):
    model = babbler().model
    story = ("It was a long, long night of green light. " * 9)[:length]
    *waits, found = light.pull(model, TOKENIZER, "a cat", story)
    assert waits == [None] * len(waits) and found is not None
    first, last = (log_p(model, build("a cat", k) + story, len(build("a cat", k))) for k in (1, 5))
    assert found.shape == (length,)
    assert np.abs(found - (last - first)).max() < 1e-4
    assert np.abs(found).max() > 1e-3


def test_pull_refuses_what_it_cannot_read():
    model = babbler().model
    for topic, story in (
        ("a cat", ""),
        ("a cat", "x" * 300),
        ("a cat", "\u00e9"),
        ("a cat", "a\n\n[green=1]"),
        ("a cat", "\n["),
    ):
        with pytest.raises(UsageError):
            list(light.pull(model, TOKENIZER, topic, story))
    with pytest.raises(TopicError):
        list(light.pull(model, TOKENIZER, "[green=5]", "a"))
