"""topic and records: what a visitor types, and the numbers that the operator keeps."""

import json
from datetime import date

import pytest

from gatsby_mlx.errors import OutputError, TopicError, UsageError
from gatsby_mlx.exhibit.guard import RequestError
from gatsby_mlx.exhibit.records import Counts
from gatsby_mlx.exhibit.topic import is_refused, read_refused, visitor_topic


def test_emoji_is_dropped_and_plain_letters_stay():
    assert (
        visitor_topic("A cat \U0001f431\u200d\U0001f680 and a d\u00f6g \U0001f1e9\U0001f1ea\U0001f44d\U0001f3fd")
        == "a cat and a dog"
    )
    with pytest.raises(TopicError, match="empty"):
        visitor_topic("\U0001f431")


@pytest.mark.parametrize(
    "topic", ["\u732b", "\u043a\u043e\u0442", "a \u03b3\u03ac\u03c4\u03b1", "\u05d7\u05ea\u05d5\u05dc", "a c\u0430t"]
)
def test_another_script_gets_a_kind_sentence(topic):
    with pytest.raises(RequestError, match="letters a to z") as error:
        visitor_topic(topic)
    assert "a dog and a balloon" in error.value.hint


@pytest.mark.parametrize("topic", ["a cat [green=5]", "[ GREEN = 5 ] a cat", "a cat green=5", "a cat obsession=total"])
def test_dial_in_a_topic_gets_a_kind_sentence(topic):
    with pytest.raises(RequestError, match="The dial sets how strong the green light is"):
        visitor_topic(topic)


def test_refused_words_are_found_in_any_form_and_nothing_else_is(tmp_path):
    (tmp_path / "words").write_text("# comment\n\nSnake\nbad egg  # a phrase\nna\u00efve\n")
    refused = read_refused(tmp_path / "words")
    for topic in (
        "two snakes",
        "a SNAKE",
        "a s.n.a.k.e",
        "a s n a k e",
        "a sn4ke",
        "the bad eggs",
        "a naive cat",
        "a snake's hat",
    ):
        assert is_refused(topic.lower(), refused), topic
        with pytest.raises(RequestError, match="something else"):
            visitor_topic(topic, refused=refused)
    for topic in ("a bad dog", "an egg", "a rattlesnakey hat", "a small boat"):
        assert not is_refused(topic, refused), topic
    with pytest.raises(UsageError, match="cannot be read"):
        read_refused(tmp_path / "none")


def test_counts_are_kept_by_day_and_over_a_restart(tmp_path):
    path, day = tmp_path / "counts.json", [date(2026, 1, 2)]
    counts = Counts(path, lambda: day[0])
    counts.add("visits")
    counts.add("stories", 5)
    day[0] = date(2026, 1, 3)
    counts.add("visits")
    counts.save()
    again = Counts(path, lambda: day[0])
    again.add("visits")
    again.save()
    assert json.loads(path.read_text()) == {"2026-01-02": {"stories": 5, "visits": 1}, "2026-01-03": {"visits": 2}}
    for damaged in ("[]", "{", '{"x": 1}', '{"2026-01-02": {"visits": "no"}}'):
        path.write_text(damaged)
        with pytest.raises(OutputError, match="holds no counts"):
            Counts(path)
        assert path.read_text() == damaged
