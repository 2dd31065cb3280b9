"""report and card: every figure stands in evaluation.json, and the card shows those and no others."""

import json
from functools import reduce

import mlx.core as mx
import pytest
from evaluation_tools import small_reference

from gatsby_mlx import prime
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.errors import UsageError
from gatsby_mlx.evaluation import card, report, samples, stories
from gatsby_mlx.evaluation.stories import Plan, Told
from gatsby_mlx.model.decode import Job, Story
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.tokenizer import CharTokenizer

PLAN = Plan(("a cat", "a lion", "a clock"), seeds=2, max_chars=80, run_on=1)
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
    told = stories.tell(model, CharTokenizer(prime.ALPHABET), PLAN, source={"checkpoint": "tiny", "weights": "w"})
    return report.evaluate(told, {"parameters": 123_456}, small_reference())


def test_evaluation_holds_every_figure_as_strict_json(evaluation):
    content = evaluation.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert list(content) == ["format", "model", "plan", "corpus", "dial", "honour", "prose"]
    assert content["model"] == {"checkpoint": "tiny", "weights": "w", "parameters": 123_456}
    assert content["plan"]["stories"] == 30 and content["plan"]["topics"] == list(PLAN.topics)
    assert content["honour"]["unseen"]["topics"] == 1 and content["honour"]["seen"]["topics"] == 2
    assert {"spelled", "ended", "loops", "copy"} <= set(content["prose"]["figures"])
    assert len(content["prose"]["copies"]) == 30
    assert report.evaluate(evaluation.told, {"parameters": 123_456}, small_reference()).to_json() == content


def test_page_of_an_evaluation_tells_the_five_stories_of_an_unseen_topic(evaluation):
    html = report.render(evaluation, facts=(("Model", "tiny"),))
    assert [p.level for p in map(stories.piece, report.five(evaluation))] == [1, 2, 3, 4, 5]
    assert {stories.piece(s).topic for s in report.five(evaluation)} == {"a lion"}
    for heading in ("An evaluation of tiny", "Does the dial work?", "Is a story about its topic?", "its own?"):
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
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(map(str, path)))
def test_a_figure_of_the_card_is_the_evaluation_s_own(evaluation, path):
    content = evaluation.to_json()
    before = card.render(CONFIG, content)
    holder = reduce(lambda inner, key: inner[key], path[:-1], content)
    holder[path[-1]] = 71.531
    after = card.render(CONFIG, content)
    assert any(shown in after and shown not in before for shown in ("71.53", "7153.1", "| 72", "72 to", "to 72"))


def test_card_tells_data_recipe_characters_and_limits(evaluation):
    told = card.render(CONFIG, evaluation.to_json())
    for heading in ("## Recipe", "## Data", "## Evaluation", "### The dial", "### Topics", "### Prose", "## Limits"):
        assert heading in told
    assert "34,567" in told and "123,456 parameters" in told and "0.432" in told and "`abc`" in told
    assert told.startswith("---\nlicense: mit") and "nan" not in told.lower().replace("finance", "")
    alone = report.evaluate(evaluation.told, {"parameters": 5}).to_json()
    assert "nouns never seen" not in card.render(CONFIG, alone)


def test_card_of_a_checkpoint_that_tells_little_of_itself(evaluation):
    told = card.render({"architecture": CONFIG["architecture"]}, evaluation.to_json())
    assert told.count("Not recorded in its config.json.") == 1 and "Compared below with another corpus: 25" in told
    same = card.render({**CONFIG, "corpus": {"sha256": "abc", "documents": 25}}, evaluation.to_json())
    assert "It holds 25 stories" in same


def test_card_tells_every_checkpoint_that_a_run_went_on_from(evaluation):
    known = {"weights": "w1", "preset": "small", "chars_seen": 7_654_321, "corpus": {"sha256": "c1", "documents": 98}}
    start = {"weights": "w2", "preset": None, "chars_seen": None, "corpus": None, "start": known}
    told = card.render({**CONFIG, "start": start}, evaluation.to_json())
    assert "`w2`." in told and "`w1`, which had seen 7,654,321 characters (preset `small`)" in told
    assert "Before: 98 stories, sha256 `c1`." in told
    assert "went on from" not in card.render({**CONFIG, "start": None}, evaluation.to_json())


def test_samples_are_a_grid_with_every_story_as_it_was_told(evaluation):
    shown = samples.grid(evaluation.told.stories, "Tiny")
    assert shown.startswith("# Tiny\n\n| mentions of the light | green=1 |")
    assert shown.count("\n## ") == 3 and shown.count("\n**") == 15
    hostile = "A *green  light* [here](x) <b>now</b>. # no\n\nSecond | part."
    told = [Story(Job(prime.build("a cat", 3), 1), hostile, "limit", 9)]
    shown = samples.grid(told)
    assert "**green  light**" in shown and ", cut" in shown and "| - | - | 1 | - | - |" in shown
    assert r"\[here\](x) \<b\>now" in shown and "\n>\n> Second" in shown


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(UsageError, match="level 1"):
        report.evaluate(Told(PLAN, ()), {})
