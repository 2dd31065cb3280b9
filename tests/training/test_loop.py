"""loop: what a run leaves in its folder, and what it does when the loss or the disk gives out."""

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from gatsby_mlx import files
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.document import parse, render
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.errors import CheckpointError, GatsbyError, OutputError, TrainingError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.prime import ALPHABET, build
from gatsby_mlx.training import loop
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import Evaluation, Step, check_out, read_metrics
from gatsby_mlx.training.rows import Split
from gatsby_mlx.training.speed import measure_speed

ROOT = Path(__file__).resolve().parents[2]
NOUNS = "kitten robot clock snail balloon cookie train cloud teapot wizard ladder pebble".split()
SHAPE = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=256, dropout=0.1)
RECIPE = TrainConfig(
    lr=0.01,
    max_chars=9_000,
    warmup_chars=1_000,
    batch_chars=1_024,
    micro_chars=512,
    eval_every_chars=3_000,
    dial_topics=0,
)
SEED_LIKE = replace(RECIPE, rows="window", split="tail", optimizer="adamw")


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Leave g++ out: a first compilation takes half a minute. test_resume compiles."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


def corpus(sha256: str = "abc") -> Corpus:
    told = (
        build(f"a {noun}", level) + f"The {noun} saw a green light. " * (1 + (i + level) % 6) + "It slept.\n\n"
        for i, noun in enumerate(NOUNS)
        for level in range(1, 6)
    )
    return Corpus(tuple(parse("".join(told))), "".join(sorted(ALPHABET)), sha256)


def run_in(out: Path, recipe: TrainConfig = RECIPE, **changes) -> Run:
    return Run(corpus(), replace(SHAPE, **changes), recipe, out, "tiny")


def weights(folder: Path) -> dict[str, bytes]:
    return {k: np.array(v).tobytes() for k, v in tree_flatten(checkpoint.load(folder).model.parameters())}


@pytest.mark.parametrize("recipe", [RECIPE, SEED_LIKE], ids=["story", "window"])
def test_a_run_learns_and_keeps_best_and_last(tmp_path, recipe):
    run = run_in(tmp_path / "run", recipe)
    events = list(run.events())
    steps = [e for e in events if isinstance(e, Step)]
    found = [e for e in events if isinstance(e, Evaluation)]
    assert steps[0].loss == pytest.approx(math.log(96), abs=0.1)
    assert found[-1].loss < 4 and steps[-1].loss < 4
    assert len(found) == 3 and events[-1] is found[-1] and found[-1].chars >= recipe.max_chars
    assert [s.step for s in steps] == list(range(1, len(steps) + 1))
    assert all(b.chars > a.chars for a, b in itertools.pairwise(steps))

    last, best = (checkpoint.load(tmp_path / "run" / name) for name in ("last", "best-loss"))
    assert last.info["step"] == steps[-1].step and last.info["chars_seen"] == steps[-1].chars
    judged = [e.loss if recipe is SEED_LIKE else e.story_loss for e in found]
    winner = found[int(np.argmin(judged))]
    assert best.info["step"] == winner.step == last.info["best_step"]
    assert best.info["evaluation"]["story_loss"] == winner.story_loss
    assert best.info["corpus"]["sha256"] == "abc" and best.info["preset"] == "tiny"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best-loss", "last", "metrics.jsonl"]
    assert not (tmp_path / "run" / "best-loss" / "optimizer.safetensors").exists()


@pytest.mark.parametrize("recipe", [RECIPE, SEED_LIKE], ids=["story", "window"])
def test_low_precision_learns_what_float32_learns(tmp_path, recipe):
    curves = {}
    for dtype in ("float32", "bfloat16", "float16"):
        events = list(run_in(tmp_path / dtype, replace(recipe, dtype=dtype)).events())
        curves[dtype] = [e.loss for e in events]
        assert checkpoint.load(tmp_path / dtype / "last").info["training"]["dtype"] == dtype
        saved = checkpoint.load(tmp_path / dtype / "last").model.parameters()
        assert {v.dtype for _, v in tree_flatten(saved)} == {mx.float32}
    assert curves["float32"][-1] < 4
    for dtype, tolerance in (("bfloat16", 0.02), ("float16", 0.01)):
        assert curves[dtype] == pytest.approx(curves["float32"], rel=tolerance), dtype
        assert curves[dtype] != curves["float32"], dtype


def test_a_run_goes_on_from_a_checkpoint_with_its_shape_and_vocabulary(tmp_path):
    list(run_in(tmp_path / "first").events())
    start = checkpoint.load(tmp_path / "first")
    few = replace(corpus(), alphabet="".join(sorted({c for d in corpus().documents for c in d.text})))
    run = Run(few, replace(SHAPE, n_embd=32, dropout=0.25), RECIPE, tmp_path / "second", "tiny", start=start)
    assert run.tokenizer == start.tokenizer and len(few.alphabet) < len(run.tokenizer)
    assert run.model_config == replace(start.model.config, dropout=0.25)
    before = dict(tree_flatten(start.model.parameters()))
    assert all(mx.array_equal(v, before[k]) for k, v in tree_flatten(run.model.parameters()))
    first = next(e for e in run.events() if isinstance(e, Step))
    learnt = [e.loss for e in run_in(tmp_path / "third").events() if isinstance(e, Step)]
    assert first.loss < sum(learnt[-3:]) / 3 + 0.2 < learnt[0] - 0.5
    saved = checkpoint.load(tmp_path / "second" / "last").info
    told = {k: start.info[k] for k in ("preset", "step", "chars_seen", "corpus", "start")}
    assert saved["start"] == {"weights": files.sha256(start.path / "model.safetensors"), **told}
    assert told["chars_seen"] >= RECIPE.max_chars and told["start"] is None

    strange = replace(few, alphabet=few.alphabet + "\u00e9")
    with pytest.raises(CheckpointError, match="has no '\u00e9'"):
        Run(strange, SHAPE, RECIPE, tmp_path / "fourth", start=start)


def test_a_run_takes_the_two_sides_that_it_is_given(tmp_path):
    documents = corpus().documents
    learnt, held = documents[:40], documents[40:]
    sides = Split(learnt, held, render(learnt), render(held))
    run = Run(corpus(), SHAPE, SEED_LIKE, tmp_path / "run", parts=sides)
    assert run.split is sides
    assert run.tokenizer.decode(run.rows.data) == render(learnt)


def test_metrics_are_one_strict_json_object_an_event(tmp_path):
    run = run_in(tmp_path / "run", SEED_LIKE)
    events = list(run.events())

    def no_constant(name):
        raise AssertionError(f"{name} is no JSON")

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=no_constant) for line in lines]
    assert [r["event"] for r in rows] == [e.event for e in events]
    assert {r["story_loss"] for r in rows if r["event"] == "train"} == {None}  # windows know no stories
    evaluation = rows[-1]
    assert evaluation["story_bpc"] == pytest.approx(evaluation["story_loss"] / math.log(2))
    assert evaluation["header_loss"] > 0
    for name in ("last/state.json", "last/config.json", "best-loss/config.json"):
        json.loads((tmp_path / "run" / name).read_text(), parse_constant=no_constant)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')  # torn
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == rows


def test_the_parts_of_the_loss_make_the_whole(tmp_path):
    run = run_in(tmp_path / "run")
    evaluation = next(e for e in run.events() if isinstance(e, Evaluation))
    n = sum(b.n_targets for b in run.story_validation)
    n_story = sum(b.story.sum() for b in run.story_validation)
    parts = evaluation.story_loss * n_story + evaluation.header_loss * (n - n_story)
    assert parts / n == pytest.approx(evaluation.loss, rel=1e-6)


def test_accumulation_does_not_change_the_step(tmp_path):
    """The gradient is a mean over the targets of the whole step, however many micro-batches it comes in."""
    ends = []
    for micro in (128, 1_024):
        run = run_in(tmp_path / str(micro), replace(SEED_LIKE, micro_chars=micro), dropout=0.0, block_size=128)
        windows = np.arange(8) * 40
        run.rows.micro_batch = lambda k, r=run, m=micro // 128, w=windows: r.rows._windows(w[(k * m) % 8 :][:m])
        events = run.events()
        ends.append([next(events).loss for _ in range(3)])
        events.close()
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path, dtype):
    run = run_in(tmp_path / "run", replace(RECIPE, max_chars=100_000, eval_every_chars=1_500, dtype=dtype))
    events = run.events()
    while not isinstance(next(events), Evaluation):
        pass
    next(events)  # the step after it; the evaluation is saved
    before = weights(tmp_path / "run" / "last")
    run.model.update(tree_map(lambda p: p * math.nan, run.model.parameters()))
    with pytest.raises(TrainingError, match=r"not finite at step \d+, after [\d,]+ characters") as caught:
        list(events)
    assert "--lr" in caught.value.line() and "\n" not in caught.value.line()
    assert ("--dtype bfloat16" in caught.value.line()) == (dtype == "float16")
    assert weights(tmp_path / "run" / "last") == before
    assert weights(tmp_path / "run" / "best-loss") == before


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_rate_that_explodes_never_reaches_a_checkpoint(tmp_path, optimizer):
    recipe = replace(RECIPE, lr=1e38, optimizer=optimizer, warmup_chars=0, eval_every_chars=500)
    with pytest.raises(TrainingError, match="not finite at step 1, after"):
        list(run_in(tmp_path / "run", recipe).events())
    assert checkpoint.load(tmp_path / "run").info["step"] == 0
    for _, value in tree_flatten(checkpoint.load(tmp_path / "run").model.parameters()):
        assert bool(mx.isfinite(value).all())


def test_weights_that_are_not_finite_are_not_saved_on_stopping(tmp_path):
    run = run_in(tmp_path / "run")
    seen = []
    with pytest.raises(TrainingError, match="weight"):
        for event in run.events(lambda: len(seen) >= 2):
            seen.append(event)
            run.model.ln_f.weight = run.model.ln_f.weight.at[0].add(math.inf if len(seen) == 2 else 0)
    assert checkpoint.load(tmp_path / "run").info["step"] == 0


def test_stopping_saves_and_the_rest_follows(tmp_path):
    seen = []
    for event in run_in(tmp_path / "run").events(lambda: len(seen) >= 2):
        seen.append(event)
    assert len(seen) == 2
    assert checkpoint.load(tmp_path / "run").info["step"] == 2
    run = run_in(tmp_path / "run")
    run.resume()
    assert run.progress.step == 2
    assert next(run.events()).step == 3
    assert not list(run_in(tmp_path / "other").events(lambda: True))  # stopped before the first step
    assert checkpoint.load(tmp_path / "other").info["step"] == 0


def test_a_finished_run_resumes_to_nothing(tmp_path):
    list(run_in(tmp_path / "run").events())
    before = (tmp_path / "run" / "metrics.jsonl").read_text(), weights(tmp_path / "run" / "last")
    run = run_in(tmp_path / "run")
    run.resume()
    assert list(run.events()) == []
    assert ((tmp_path / "run" / "metrics.jsonl").read_text(), weights(tmp_path / "run" / "last")) == before


def test_time_alone_saves_too(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    events = run_in(tmp_path / "run").events()
    for _ in range(3):
        step = next(events)
    assert checkpoint.load(tmp_path / "run").info["step"] == step.step - 1
    events.close()


def test_speed_is_measured_on_a_throwaway_model():
    assert measure_speed(corpus(), SHAPE, RECIPE, 0.5, seconds=0.1) > 100


FULL = """
import resource, sys
import gatsby_mlx.model
sys.path.append("tests/training")
from test_loop import *
run = run_in(Path(sys.argv[1]), replace(RECIPE, max_chars=1_000_000))
try:
    for event in run.events():
        if 0 < run.progress.best_step == event.step - 1:  # its checkpoints are saved; now no file grows
            limit = (ROOM)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
except GatsbyError as error:
    print(type(error).__name__, error.line())
"""


@pytest.mark.parametrize("room", ["10_000", "run.out.joinpath('metrics.jsonl').stat().st_size + 300"])
def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, room):
    """In a process of its own with a limit on a file's size: the weights do not fit, or the metrics do not."""
    out = tmp_path / "run"
    program = FULL.replace("ROOM", room)
    ran = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("OutputError cannot write") and ran.stdout.count("\n") == 1, ran.stdout
    assert ("metrics.jsonl" in ran.stdout) == ("metrics.jsonl" in room)
    saved = json.loads((out / "last" / "state.json").read_text())["progress"]["best_step"]
    assert checkpoint.load(out / "last").info["step"] == checkpoint.load(out / "best-loss").info["step"] == saved > 0
    assert sorted(p.name for p in out.iterdir()) == ["best-loss", "last", "metrics.jsonl"]
    check_out(out, resume=True)
    run = run_in(out, replace(RECIPE, max_chars=1_000_000))
    run.resume()
    assert next(run.events()).step == run.progress.step


def test_a_folder_is_never_mixed(tmp_path):
    check_out(tmp_path / "new", resume=False)
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty", resume=False)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").write_text("dear")
    for path in (tmp_path / "used", tmp_path / "used" / "letter.txt"):
        with pytest.raises(OutputError, match="not empty"):
            check_out(path, resume=False)
    with pytest.raises(CheckpointError, match="holds no run"):
        check_out(tmp_path / "used", resume=True)
    with pytest.raises(GatsbyError):
        list(run_in(tmp_path / "used" / "letter.txt").events())
