"""training.small_dial: its readings, the checkpoint that they select, and that a reading changes nothing."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from test_loop import NOUNS, RECIPE, SHAPE, run_in, weights

from gatsby_mlx import strict_json
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.model import checkpoint
from gatsby_mlx.story import prime
from gatsby_mlx.story.document import Document
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.story.sampling import Story
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import small_dial
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import Validation, read_metrics
from gatsby_mlx.training.small_dial import Reading, SmallDial

STORIES = [
    Document(Prime(f"a {noun}", k), "The green light. " * (k + i % 2) + "The end.")
    for i, noun in enumerate(NOUNS)
    for k in LEVELS
]
DOCUMENTS = STORIES[:20]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


class Model:
    """Stands for a model in training mode."""

    training = True

    def train(self, mode: bool) -> None:
        assert mode is True


def read(monkeypatch, mentions: Callable[[int], int]) -> tuple[SmallDial, Reading]:
    """Read a dial of stories that are not decoded: a story has `mentions(level)` mentions."""

    def decode(model, tokenizer, jobs, *_, **__):
        for job in reversed(jobs):
            yield Story(job, "A green light. " * mentions(job.key), "end", 9)

    monkeypatch.setattr(small_dial, "decode", decode)
    dial = SmallDial(DOCUMENTS, CharTokenizer(prime.ALPHABET), 2, seed=7)
    return dial, dial.read(Model())


def test_reading_compares_mentions_with_the_validation_side(monkeypatch):
    dial, reading = read(monkeypatch, lambda level: level)
    assert dial.target == (1.5, 2.5, 3.5, 4.5, 5.5)
    assert reading.means == (1, 2, 3, 4, 5)
    assert reading.error == pytest.approx(np.mean([0.5 / t for t in dial.target]))
    assert read(monkeypatch, lambda level: 0)[1].error == 1


def test_jobs_are_validation_topics_at_every_level(monkeypatch):
    dial, _ = read(monkeypatch, lambda level: 1)
    headers = [prime.parse(job.prime) for job in dial.jobs]
    assert [(h.topic, h.level) for h in headers] == [(t, k) for t in ("a clock", "a robot") for k in LEVELS]
    assert {h.topic for h in headers} <= {d.topic for d in DOCUMENTS}
    assert [job.seed for job in dial.jobs] == [7] * 5 + [8] * 5
    few = SmallDial(DOCUMENTS, CharTokenizer(prime.ALPHABET), 99, seed=7)
    assert len(few.jobs) == 4 * 5
    assert max(len(d.story) for d in DOCUMENTS) < few.max_chars < 200


def test_run_with_a_dial_has_the_weights_of_one_without(tmp_path):
    recipe = replace(RECIPE, max_chars=5_000, eval_every_chars=1_500)
    for n in (0, 1):
        corpus = Corpus(tuple(STORIES), prime.ALPHABET, "lit")
        run = Run(corpus, SHAPE, replace(recipe, dial_topics=n), tmp_path / str(n))
        for event in run.events():
            assert not isinstance(event, Validation) or (event.dial is None) == (n == 0)
    assert weights(tmp_path / "0" / "last") == weights(tmp_path / "1" / "last")
    assert weights(tmp_path / "0" / "best-loss") == weights(tmp_path / "1" / "best-loss")
    assert not (tmp_path / "0" / "best-dial").exists()
    events = [e for e in read_metrics(tmp_path / "1" / "metrics.jsonl") if e["event"] == "eval"]
    assert all(len(e["dial"]) == len(e["dial_corpus"]) == 5 and e["dial_error"] is not None for e in events)
    info = checkpoint.load(tmp_path / "1" / "best-dial").info
    assert info["step"] == [e for e in events if e["best_dial"]][-1]["step"] == info["best_dial_step"]
    assert checkpoint.load(tmp_path / "1").path.name == "best-dial"


def test_reading_leaves_the_random_state_of_training(tmp_path):
    run = run_in(tmp_path / "run", replace(RECIPE, dial_topics=1))
    before = np.array(mx.random.state[0])
    first, second = run.dial.read(run.model), run.dial.read(run.model)
    assert first == second
    assert np.array_equal(before, np.array(mx.random.state[0]))
    assert run.model.training


@pytest.mark.parametrize(
    ("losses", "errors", "best"),
    [
        ([1.0, 1.0, 1.0], [0.3, 0.1, 0.2], [0, 1]),  # the smallest error
        ([1.0, 0.99, 0.98], [0.2, 0.2, 0.2], [0, 1, 2]),  # the lower loss wins a tie
        ([2.0, 1.0, 0.99], [0.1, 0.5, 0.6], [0, 1]),  # a good dial by luck, at a high loss, is replaced
        ([1.0, 1.2, 1.04], [0.5, 0.1, 0.2], [0, 2]),  # and does not count later
        ([1.0, 1.0], [math.nan, 0.5], [1]),
    ],
)
def test_best_dial_has_the_smallest_error_among_good_losses(tmp_path, monkeypatch, losses, errors, best):
    run = run_in(tmp_path / "run", replace(RECIPE, dial_topics=1))
    readings = iter(errors)
    monkeypatch.setattr(run.dial, "read", lambda model: Reading((1.0,) * 5, next(readings)))
    flags = []
    for i, loss in enumerate(losses):
        event = Validation(i + 1, i, loss, loss, 0.1, 1.0, loss < run.progress.best_loss)
        run.progress.best_loss = min(run.progress.best_loss, loss)
        flags.append(run._with_dial(event, run.dial, loss).best_dial)
    assert list(itertools.compress(range(9), flags)) == best


def test_metrics_with_a_dial_are_strict_json(tmp_path):
    event = strict_json.plain({"dial": (1.0, math.nan), "dial_error": math.nan, "loss": 2.0})
    assert event == {"dial": [1.0, None], "dial_error": None, "loss": 2.0}
    assert json.loads(json.dumps(event, allow_nan=False)) == event
