"""topics: files of topics, the built-in ones, and which of them are unseen in a corpus."""

import json
from importlib import resources

import pytest

from gatsby_mlx import shipped
from gatsby_mlx.corpus.load import load
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation import topics
from gatsby_mlx.evaluation.reference import reference
from gatsby_mlx.evaluation.stories import StoryPlan
from gatsby_mlx.story import text


def test_read_topics_folds_and_skips_comments_blanks_and_repetitions(tmp_path):
    path = tmp_path / "topics.txt"
    path.write_text("\ufeff# mine\nA Lost Kitten.\n\n  a caf\u00e9 # at noon\r\na lost  kitten\n", "utf-8")
    assert topics.read_topics(path) == ("a lost kitten", "a cafe")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no topic"),
        (b"# nothing\n\n", "holds no topic"),
        (b"a cat\n[green=5]\n", "line 2"),
        (b"\xff\xfe\x00", "not text"),
        (None, "cannot be read"),
    ],
)
def test_read_topics_explains_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "topics.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        topics.read_topics(path)
    assert caught.value.hint


def test_default_topics_are_fixed_and_extend_each_other():
    every = topics.default_topics()
    assert len(every) == len(set(every)) == 120
    assert topics.default_topics(120) == every and topics.default_topics(10) == every[:10]
    StoryPlan(every, seeds=1)
    for n in (0, -1, 121):
        with pytest.raises(UsageError, match="1 to 120"):
            topics.default_topics(n)


def test_house_corpus_sorts_the_topics_as_topics_json_does():
    built_in = json.loads(resources.files("gatsby_mlx.evaluation").joinpath("topics.json").read_text("utf-8"))
    stems = reference(load(shipped.corpus())).stems
    assert not [t for t in built_in["seen"] if topics.unseen_words(t, stems)]
    assert not [t for t in built_in["unseen"] if not topics.unseen_words(t, stems)]


@pytest.mark.baseline
def test_baseline_corpus_sorts_the_topics_differently(baseline_corpora):
    stems = reference(load(baseline_corpora / "gatsby-2.raw.txt")).stems
    unseen = [t for t in topics.default_topics() if topics.unseen_words(t, stems)]
    assert "a lion who sings" in unseen  # the baseline's writers never wrote about one
    assert "an umbrella in the wind" not in unseen and "the smallest star in the sky" not in unseen
    assert 40 < len(unseen) < 80


@pytest.mark.parametrize(
    ("topic", "stems", "key"),
    [
        ("the day the waffle ran away", None, {"waffl"}),
        ("two frogs in the rain", {"frog", "rain"}, {"frog"}),
        ("a mouse inside a mushroom", {"mouse", "mic", "insid"}, {"mushroom"}),
        ("a sad dog", {"dog"}, {"sad"}),
    ],
)
def test_key_stems_are_the_unseen_words_or_the_subject(topic, stems, key):
    stems = stems and {text.stem(w) for w in stems} | stems
    assert topics.key_stems(topic, stems) == key
