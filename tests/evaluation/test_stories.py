"""stories: plans, stories told by a real model, and a run that is killed and resumed."""

import json
import os  # noqa: F401  for PROGRAM
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.errors import OutputError, TopicError, UsageError
from gatsby_mlx.evaluation import stories
from gatsby_mlx.evaluation.stories import StoryPlan
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession
from gatsby_mlx.story.sampling import Sampling
from gatsby_mlx.tokenizer import CharTokenizer

TOPICS = ("a lost kitten", "a dog and a balloon", "the last cookie")
TOKENIZER = CharTokenizer(prime.ALPHABET)
PLAN = StoryPlan(TOPICS, seeds=1, sampling=Sampling(0.9, 40), max_chars=40, batch=4, run_on=1)
SOURCE = {"checkpoint": "tiny", "weights": "abc"}


def test_jobs_share_a_seed_over_levels_and_keep_it_when_topics_are_added():
    jobs = stories.jobs(StoryPlan(TOPICS, seeds=2))
    assert len(jobs) == 30 and len({job.seed for job in jobs}) == 6
    by_seed = {}
    for job in jobs:
        by_seed.setdefault(job.seed, []).append(prime.parse(job.prime))
    for headers in by_seed.values():
        assert [h.level for h in headers] == [1, 2, 3, 4, 5] and len({h.topic for h in headers}) == 1
    assert set(stories.jobs(StoryPlan(TOPICS[1:], seeds=1))) < set(jobs)
    assert jobs[0].seed != stories.jobs(StoryPlan(TOPICS, seeds=2, seed=1))[0].seed


@pytest.mark.parametrize(
    "values",
    [
        {"topics": ()},
        {"topics": TOPICS, "seeds": 0},
        {"topics": TOPICS, "batch": 0},
        {"topics": TOPICS, "max_chars": 0},
        {"topics": ("a cat", "A  Cat")},
        {"topics": ("[green=5]",)},
    ],
)
def test_invalid_plan_raises_an_error(values):
    with pytest.raises(UsageError) as caught:
        StoryPlan(**values)
    assert caught.value.hint and caught.value.exit_code == 2


def test_topic_outside_the_vocabulary_raises_an_error():
    with pytest.raises(TopicError, match="'z'"):
        stories.jobs(StoryPlan(("a zebra",)), prime.ALPHABET.replace("z", ""))


def make_model() -> GPT:
    mx.random.seed(0)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=160, vocab_size=len(prime.ALPHABET)))
    model.eval()
    return model


@pytest.fixture(scope="module")
def model() -> GPT:
    return make_model()


def test_tell_returns_every_story_in_order_and_is_repeatable(model, tmp_path):
    calls = []
    told = stories.tell(model, TOKENIZER, PLAN, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 20) for i in range(1, 21)]  # 15 stories, and five that run past the end
    assert [s.job for s in told.stories] == stories.jobs(PLAN) and told.complete
    assert [s.job for s in told.run_on] == stories.run_on_jobs(PLAN)
    assert all(len(s.run_on) == s.n_chars < 160 for s in told.run_on)
    path = tmp_path / "stories.jsonl"
    assert stories.tell(model, TOKENIZER, PLAN, path, SOURCE) == replace(told, source=SOURCE)
    assert stories.read(path) == replace(told, source=SOURCE)
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert head["format"] == stories.FORMAT and len(lines) == 20
    assert all(set(line) >= {"topic", "level", "seed", "finish", "n_chars"} for line in lines)


@pytest.mark.parametrize("kept", [0, 1, 7, 16])
def test_stopped_run_resumes_with_the_same_texts(model, tmp_path, kept):
    full, cut = tmp_path / "full.jsonl", tmp_path / "cut.jsonl"
    told = stories.tell(model, TOKENIZER, PLAN, full, SOURCE)
    lines = full.read_text().splitlines(keepends=True)
    incomplete = lines[kept + 1][:-9]
    cut.write_text("".join(lines[: kept + 1]) + incomplete)
    assert not stories.read(cut).complete and len(stories.read(cut).stories) <= kept
    calls = []
    assert stories.tell(model, TOKENIZER, PLAN, cut, SOURCE, lambda n, _: calls.append(n)) == told
    assert calls == list(range(kept + 1, 21))
    assert sorted(cut.read_text().splitlines()) == sorted(full.read_text().splitlines())
    assert stories.tell(None, TOKENIZER, PLAN, cut, SOURCE) == told  # nothing is left for a model to do


PROGRAM = """
import sys
sys.path.append("tests/evaluation")
from test_stories import *
stories.tell(make_model(), TOKENIZER, PLAN, Path(sys.argv[1]), SOURCE, lambda n, _: n == 6 and os.kill(os.getpid(), 9))
"""


def test_killed_run_keeps_the_stories_that_had_ended(model, tmp_path):
    path = tmp_path / "stories.jsonl"
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], cwd=root, capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    saved = stories.read(path)
    assert len(saved.stories) == 6
    assert stories.tell(model, TOKENIZER, PLAN, path, SOURCE).stories == stories.tell(model, TOKENIZER, PLAN).stories


def test_stories_of_another_plan_or_checkpoint_raise_an_error(model, tmp_path):
    path = tmp_path / "stories.jsonl"
    stories.tell(model, TOKENIZER, PLAN, path, SOURCE)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="another seeds, seed") as caught:
        stories.tell(model, TOKENIZER, replace(PLAN, seeds=2, seed=3), path, SOURCE)
    assert caught.value.hint
    with pytest.raises(OutputError, match="another checkpoint"):
        stories.tell(model, TOKENIZER, PLAN, path, {"weights": "other"})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{}\n", '{"format": "else"}\n', "no json\n", None, b"\xff\n"])
def test_file_without_stories_raises_an_error(tmp_path, content):
    path = tmp_path / "stories.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        stories.read(path)
    assert caught.value.hint and "\n" not in caught.value.line()


def test_damaged_line_is_named(model, tmp_path):
    path = tmp_path / "stories.jsonl"
    stories.tell(model, TOKENIZER, PLAN, path, SOURCE)
    lines = path.read_text().splitlines()
    lines[4] = '{"topic": "a cat"}'
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match="line 5"):
        stories.read(path)


def test_path_that_cannot_be_written_raises_an_error(model, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        stories.tell(model, TOKENIZER, PLAN, tmp_path / "none" / "stories.jsonl", SOURCE)


def test_piece_has_topic_and_level_of_the_prime(model):
    told = stories.tell(model, TOKENIZER, PLAN)
    pieces = [stories.piece(s, GREEN_LIGHT) for s in told.stories]
    assert told.pieces == pieces
    assert [(p.topic, p.level) for p in pieces] == [(t, k) for t in TOPICS for k in LEVELS]
    assert [p.ended for p in pieces] == [s.finish == "end" for s in told.stories]


def test_plan_of_another_obsession_is_saved_with_it(model, tmp_path):
    path = tmp_path / "stories.jsonl"
    whale = replace(PLAN, topics=("a cat",), obsession=Obsession("whale", "white whale"))
    told = stories.tell(model, TOKENIZER, whale, path, SOURCE)
    assert all(story.job.prime.startswith("[whale=") for story in told.stories)
    assert stories.read(path) == told
    assert "obsession" not in PLAN.to_json()
    with pytest.raises(OutputError, match="another obsession"):
        stories.tell(model, TOKENIZER, replace(whale, obsession=GREEN_LIGHT), path, SOURCE)
