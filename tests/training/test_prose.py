"""Plain text without stories: it trains in windows, resumes, has no dial, and the model writes on from a prompt."""

import json
import random

import pytest

import gatsby_mlx as gatsby
from gatsby_mlx import api, config
from gatsby_mlx.config import GPTConfig, Preset, TrainConfig
from gatsby_mlx.errors import TrainingError, UsageError
from gatsby_mlx.story.prime import build
from gatsby_mlx.training.record import Step

TINY = Preset(
    "pocket",
    GPTConfig(n_layer=1, n_head=1, n_embd=16, block_size=64),
    TrainConfig(
        max_chars=6_000, batch_chars=512, micro_chars=256, eval_every_chars=3_000, warmup_chars=500, short_chars=900
    ),
)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    words = "whale sea ship storm sail harbor wind deck rope night".split()
    draws = random.Random(1)
    path = tmp_path_factory.mktemp("prose") / "book.txt"
    path.write_text(
        "\r\n".join(" ".join(draws.choices(words, k=9)).capitalize() + "." for _ in range(300)), "utf-8-sig"
    )
    return path


@pytest.fixture
def preset(monkeypatch):
    monkeypatch.setitem(config.PRESETS, "pocket", TINY)


@pytest.fixture(scope="module")
def run(book, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "pocket", TINY)
        return gatsby.train(book, preset="pocket", sequences="windows", out=tmp_path_factory.mktemp("runs") / "book")


def test_plain_text_trains_in_windows_without_a_dial(run):
    evaluations = [row for row in run.metrics if row["event"] == "eval"]
    assert len(evaluations) == 2
    assert evaluations[-1]["loss"] < evaluations[0]["loss"]
    assert {row[key] for row in run.metrics for key in ("story_loss",)} == {None}
    assert evaluations[0]["dial"] is None
    assert "best loss" in repr(run)
    content = json.loads((run.out / "best-loss" / "config.json").read_text())
    assert content["obsession"] is None
    assert content["corpus"]["prose"] is content["corpus"]["imported"] is True
    assert content["training"]["rows"] == "window"
    assert not (run.out / "best-dial").exists()


def test_validation_is_the_end_of_the_text(book, tmp_path, preset):
    plan = api.plan_training(book, "pocket", tmp_path / "run", sequences="windows")
    split, prose = plan.data.split, plan.corpus.prose
    assert split.train_text + split.validation_text == prose
    assert len(split.validation_text) == len(prose) - int(0.9 * len(prose))
    assert (split.train, split.validation, plan.dial) == ((), (), None)


def test_run_of_plain_text_resumes_exactly(run, book, tmp_path, preset):
    options = {"preset": "pocket", "sequences": "windows", "out": tmp_path / "run"}
    events = gatsby.train_events(book, **options)
    steps = 0
    for event in events:
        steps += isinstance(event, Step)
        if steps == 4:
            break
    events.close()
    # What was not saved is trained again: the first save is that of the untrained model.
    again = gatsby.train(book, resume=True, **options)
    assert [row["loss"] for row in again.metrics] == [row["loss"] for row in run.metrics]


def test_model_of_plain_text_writes_on_past_its_context(run):
    model = run.best
    text = "".join(model.write_on("Whale", seed=3, max_chars=200))
    assert len(text) == 200
    assert set(text) <= set(model.checkpoint.tokenizer.alphabet)
    assert text == "".join(model.write_on("Whale", seed=3, max_chars=200))
    assert text != "".join(model.write_on("Whale", seed=4, max_chars=200))
    assert len("".join(model.write_on("", seed=3, max_chars=5))) == 5
    assert len("".join(model.write_on("Whale sea ship. " * 50, seed=3, max_chars=5))) == 5


def test_prompt_is_folded_only_where_the_model_lacks_its_characters(run):
    assert run.best._spelled("Wha\u0301le\r\nsea") == "Whale\nsea"
    with pytest.raises(UsageError, match=r"has no '7' \(U\+0037\)"):
        list(run.best.write_on("Whale 7", seed=1))


@pytest.mark.parametrize("call", ["tell", "dial", "report"])
def test_what_needs_a_dial_is_refused_with_the_prompt(run, call, tmp_path):
    with pytest.raises(UsageError, match="learned from plain text") as caught:
        if call == "tell":
            run.best.tell("a cat")
        elif call == "dial":
            gatsby.dial(run.best, topics=["a cat"])
        else:
            gatsby.report(run.best, tmp_path / "report")
    assert "gatsby tell --prompt" in caught.value.hint


def test_prompt_of_a_story_model_is_its_prime():
    model = gatsby.load()
    written = "".join(model.write_on(build("a lost kitten", 2), seed=7, max_chars=30))
    assert written == model.tell("a lost kitten", 2, seed=7, max_chars=30).text


def test_text_that_does_not_fill_windows_says_how_much_it_needs(tmp_path, preset):
    (tmp_path / "short.txt").write_text("A whale. " * 20)
    with pytest.raises(TrainingError, match="has 180 characters, and windows of 64 need 660"):
        api.plan_training(tmp_path / "short.txt", "pocket", tmp_path / "run", sequences="windows")
    assert not (tmp_path / "run").exists()


def test_windows_of_a_corpus_keep_its_stories_and_its_dial(tmp_path, preset):
    things = "boat kite ball lamp shoe hat drum bell coat spoon".split()
    texts = [f"Mia had a {thing} here. " + "A green light. " * n for n in (1, 3, 5) for thing in things]
    corpus = gatsby.import_stories(texts, tmp_path / "corpus").corpus
    plan = api.plan_training(corpus, "pocket", tmp_path / "run", sequences="windows")
    assert (plan.config.rows, plan.config.short_chars, plan.config.split) == ("window", 0, "topic")
    assert plan.data.split.validation
    assert plan.dial
    with pytest.raises(UsageError, match="stories or windows"):
        api.plan_training(corpus, "pocket", tmp_path / "run", sequences="rows")
