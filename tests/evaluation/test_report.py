"""report and card: every figure is in evaluation.json, and the card shows those figures and no others."""

import json
from functools import reduce

import mlx.core as mx
import pytest
from evaluation_tools import small_reference

from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation import card, report, samples, stories
from gatsby_mlx.evaluation.stories import StoryPlan, StorySet
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.story.sampling import Job, Story
from gatsby_mlx.tokenizer import CharTokenizer

PLAN = StoryPlan(("a cat", "a lion", "a clock"), seeds=2, max_chars=80, run_on=1)
CONFIG = {
    "architecture": vars(GPTConfig()),
    "preset": "story",
    "corpus": {"sha256": "abc", "documents": 25},
    "step": 12,
    "chars_seen": 34_567,
    "training": vars(TrainConfig()),
    "evaluation": {"story_loss": 0.4321, "story_bpc": 0.6234},
}


@pytest.fixture(scope="module")
def evaluation() -> report.Evaluation:
    mx.random.seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=160, vocab_size=len(prime.ALPHABET)))
    source = {"checkpoint": "tiny", "weights": "w"}
    story_set = stories.tell(model, CharTokenizer(prime.ALPHABET), PLAN, source=source)
    return report.evaluate(story_set, {"parameters": 123_456}, small_reference())


def test_evaluation_holds_every_figure_as_strict_json(evaluation):
    content = evaluation.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert list(content) == ["format", "obsession", "model", "plan", "corpus", "dial", "honour", "prose"]
    assert content["model"] == {"checkpoint": "tiny", "weights": "w", "parameters": 123_456}
    assert content["plan"]["stories"] == 30 and content["plan"]["topics"] == list(PLAN.topics)
    assert content["honour"]["unseen"]["topics"] == 1 and content["honour"]["seen"]["topics"] == 2
    assert {"spelled", "ended", "loops", "copy"} <= set(content["prose"]["figures"])
    assert len(content["prose"]["copies"]) == 30
    assert report.evaluate(evaluation.story_set, {"parameters": 123_456}, small_reference()).to_json() == content


def test_page_of_an_evaluation_shows_the_five_stories_of_an_unseen_topic(evaluation):
    html = report.render(evaluation, facts=(("Model", "tiny"),))
    pieces = [stories.piece(s, GREEN_LIGHT) for s in report.example_stories(evaluation)]
    assert [(p.topic, p.level) for p in pieces] == [("a lion", level) for level in (1, 2, 3, 4, 5)]
    for heading in ("Evaluation of tiny", "Does the dial work?", "Is a story about its topic?", "Is it good English"):
        assert heading in html


PATHS = [
    *(("dial", "levels", i, k) for i in range(5) for k in ("mentions", "low", "high", "distinct_mentions")),
    *(("dial", "levels", i, "ended") for i in range(5)),
    *(("dial", "corpus", "means", i) for i in range(5)),
    *(("dial", "corpus", "deviations", i, "mean") for i in range(5)),
    *(("dial", "adjacent_auc", i) for i in range(4)),
    ("dial", "spearman"),
    *(("honour", g, k, "mean") for g in ("seen", "unseen", "every") for k in ("honoured", "noun", "again", "one_hero")),
    *(("honour", g, "honoured", k) for g in ("seen", "every", "corpus") for k in ("low", "high")),
    *(("prose", side, k, "mean") for side in ("figures", "corpus") for k in ("spelled", "ended", "loops", "words")),
    *(("prose", "figures", k, end) for k in ("spelled", "loops", "copy") for end in ("mean", "low", "high")),
    *(("prose", side, "5", k) for side in ("variety", "corpus_variety") for k in ("shared", "commonest", "jaccard")),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(map(str, path)))
def test_figure_of_the_card_is_from_the_evaluation(evaluation, path):
    content = evaluation.to_json()
    before = card.render(CONFIG, content)
    holder = reduce(lambda inner, key: inner[key], path[:-1], content)
    holder[path[-1]] = 71.531
    after = card.render(CONFIG, content)
    shown = "71.53", "7153.1", "7153%", "| 72", "72 to", "to 72"
    assert any(after.count(value) > before.count(value) for value in shown)


def test_card_has_data_recipe_characters_and_limits(evaluation):
    text = card.render(CONFIG, evaluation.to_json())
    for heading in (
        "## Recipe",
        "## Data",
        "## Evaluation",
        "### The dial",
        "### Topic adherence",
        "### Text quality",
        "### Variety",
        "## Limits",
    ):
        assert heading in text
    assert "34,567" in text and "123,456 parameters" in text and "0.432" in text and "`abc`" in text
    assert text.startswith("---\nlicense: mit") and "nan" not in text.lower()
    assert "pip install" not in text
    alone = report.evaluate(evaluation.story_set, {"parameters": 5}).to_json()
    assert "unseen nouns" in text and "unseen nouns" not in card.render(CONFIG, alone)


def test_card_of_a_checkpoint_with_little_information(evaluation):
    text = card.render({"architecture": CONFIG["architecture"]}, evaluation.to_json())
    assert text.count(card.NOT_RECORDED) == 1 and "compare with another corpus: 25 stories" in text
    same = card.render({**CONFIG, "corpus": {"sha256": "abc", "documents": 25}}, evaluation.to_json())
    assert "25 stories, sha256 of the file `abc`. They have " in same and "another corpus" not in same


def test_card_lists_every_checkpoint_that_a_run_started_from(evaluation):
    known = {"weights": "w1", "preset": "small", "chars_seen": 7_654_321, "corpus": {"sha256": "c1", "documents": 98}}
    start = {"weights": "w2", "preset": None, "chars_seen": None, "corpus": None, "start": known}
    text = card.render({**CONFIG, "start": start}, evaluation.to_json())
    assert "`w2`." in text and "`w1`, trained on 7,654,321 characters (preset `small`)" in text
    assert "Before that: 98 stories, sha256 `c1`." in text
    assert "Started from" in text and "Started from" not in card.render({**CONFIG, "start": None}, evaluation.to_json())


def test_samples_are_a_grid_with_every_story_escaped(evaluation):
    shown = samples.grid(evaluation.story_set.stories, "Tiny")
    assert shown.startswith("# Tiny\n\n| mentions of the light | green=1 |")
    assert shown.count("\n## ") == 3 and shown.count("\n**") == 15
    hostile = "A *green  light* [here](x) <b>now</b>. # no\n\nSecond | part."
    told = [Story(Job(prime.build("a cat", 3), 1), hostile, "limit", 9)]
    shown = samples.grid(told)
    assert "**green  light**" in shown and ", cut" in shown and "| - | - | 1 | - | - |" in shown
    assert r"\[here\](x) \<b\>now" in shown and "\n>\n> Second" in shown


def test_evaluation_without_stories_raises_an_error():
    with pytest.raises(UsageError, match="level 1"):
        report.evaluate(StorySet(PLAN, ()), {})
