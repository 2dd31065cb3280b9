"""training.loop: what a run leaves in its folder, and what it does with a loss that is not finite or a full disk."""

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import platforms
import pytest
from mlx.utils import tree_flatten, tree_map

from gatsby_mlx import files
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.errors import CheckpointError, GatsbyError, OutputError, TrainingError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.story.document import parse, render
from gatsby_mlx.story.prime import ALPHABET, build
from gatsby_mlx.training import loop
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import Step, Validation, check_out, read_metrics
from gatsby_mlx.training.sequences import Split
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
BASELINE = replace(RECIPE, rows="window", split="tail", optimizer="adamw")


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Do not compile: the first compilation takes half a minute. test_resume compiles."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


def corpus(sha256: str = "abc") -> Corpus:
    documents = (
        build(f"a {noun}", level) + f"The {noun} saw a green light. " * (1 + (i + level) % 6) + "It slept.\n\n"
        for i, noun in enumerate(NOUNS)
        for level in range(1, 6)
    )
    return Corpus(tuple(parse("".join(documents))), "".join(sorted(ALPHABET)), sha256)


def run_in(out: Path, recipe: TrainConfig = RECIPE, **changes) -> Run:
    return Run(corpus(), replace(SHAPE, **changes), recipe, out, "tiny")


def weights(folder: Path) -> dict[str, bytes]:
    return {k: np.array(v).tobytes() for k, v in tree_flatten(checkpoint.load(folder).model.parameters())}


@pytest.mark.parametrize("recipe", [RECIPE, BASELINE], ids=["story", "window"])
def test_run_learns_and_saves_best_and_last(tmp_path, recipe):
    run = run_in(tmp_path / "run", recipe)
    events = list(run.events())
    steps = [e for e in events if isinstance(e, Step)]
    validations = [e for e in events if isinstance(e, Validation)]
    assert steps[0].loss == pytest.approx(math.log(96), abs=0.1)
    assert validations[-1].loss < 4 and steps[-1].loss < 4
    assert len(validations) == 3 and events[-1] is validations[-1] and validations[-1].chars >= recipe.max_chars
    assert [s.step for s in steps] == list(range(1, len(steps) + 1))
    assert all(b.chars > a.chars for a, b in itertools.pairwise(steps))

    last, best = (checkpoint.load(tmp_path / "run" / name) for name in ("last", "best-loss"))
    assert last.info["step"] == steps[-1].step and last.info["chars_seen"] == steps[-1].chars
    deciding = [e.loss if recipe is BASELINE else e.story_loss for e in validations]
    winner = validations[int(np.argmin(deciding))]
    assert run.criterion == ("loss" if recipe is BASELINE else "story loss")
    assert best.info["step"] == winner.step == last.info["best_step"]
    assert best.info["evaluation"]["story_loss"] == winner.story_loss
    assert best.info["corpus"]["sha256"] == "abc" and best.info["preset"] == "tiny"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best-loss", "last", "metrics.jsonl"]
    assert not (tmp_path / "run" / "best-loss" / "optimizer.safetensors").exists()


@platforms.low_precision
@pytest.mark.parametrize("recipe", [RECIPE, pytest.param(BASELINE, marks=pytest.mark.slow)], ids=["story", "window"])
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


def test_run_continues_from_a_checkpoint_with_its_shape_and_vocabulary(tmp_path):
    list(run_in(tmp_path / "first").events())
    start = checkpoint.load(tmp_path / "first")
    few = replace(corpus(), alphabet="".join(sorted({c for d in corpus().documents for c in d.text})))
    run = Run(few, replace(SHAPE, n_embd=32, dropout=0.25), RECIPE, tmp_path / "second", "tiny", start=start)
    assert run.tokenizer == start.tokenizer and len(few.alphabet) < len(run.tokenizer)
    assert run.model_config == replace(start.model.config, dropout=0.25)
    before = dict(tree_flatten(start.model.parameters()))
    assert all(mx.array_equal(v, before[k]) for k, v in tree_flatten(run.model.parameters()))
    first = next(e for e in run.events() if isinstance(e, Step))
    learned = [e.loss for e in run_in(tmp_path / "third").events() if isinstance(e, Step)]
    assert first.loss < sum(learned[-3:]) / 3 + 0.2 < learned[0] - 0.5
    saved = checkpoint.load(tmp_path / "second" / "last").info
    origin = {k: start.info[k] for k in ("preset", "step", "chars_seen", "corpus", "start")}
    assert saved["start"] == {"weights": files.sha256(start.path / "model.safetensors"), **origin}
    assert origin["chars_seen"] >= RECIPE.max_chars and origin["start"] is None

    other = replace(few, alphabet=few.alphabet + "\u00e9")
    with pytest.raises(CheckpointError, match="has no '\u00e9'"):
        Run(other, SHAPE, RECIPE, tmp_path / "fourth", start=start)


def test_run_uses_a_given_split(tmp_path):
    documents = corpus().documents
    train, validation = documents[:40], documents[40:]
    parts = Split(train, validation, render(train), render(validation))
    run = Run(corpus(), SHAPE, BASELINE, tmp_path / "run", parts=parts)
    assert run.data.split is parts
    assert run.tokenizer.decode(run.data.sequences.data) == render(train)


def test_metrics_are_one_strict_json_object_per_event(tmp_path):
    run = run_in(tmp_path / "run", BASELINE)
    events = list(run.events())

    def no_constant(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=no_constant) for line in lines]
    assert [r["event"] for r in rows] == [e.event for e in events]
    assert {r["story_loss"] for r in rows if r["event"] == "train"} == {None}  # windows have no stories
    evaluation = rows[-1]
    assert evaluation["story_bpc"] == pytest.approx(evaluation["story_loss"] / math.log(2))
    assert evaluation["header_loss"] > 0
    for name in ("last/state.json", "last/config.json", "best-loss/config.json"):
        json.loads((tmp_path / "run" / name).read_text(), parse_constant=no_constant)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')  # incomplete
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == rows


def test_story_and_header_loss_add_up_to_the_loss(tmp_path):
    run = run_in(tmp_path / "run")
    event = next(e for e in run.events() if isinstance(e, Validation))
    n = sum(b.n_targets for b in run.data.story_validation)
    n_story = sum(b.story.sum() for b in run.data.story_validation)
    parts = event.story_loss * n_story + event.header_loss * (n - n_story)
    assert parts / n == pytest.approx(event.loss, rel=1e-6)


def test_step_does_not_depend_on_the_size_of_micro_batches(tmp_path):
    """The gradient is a mean over all targets of a step, for any number of micro-batches."""
    ends = []
    for micro in (128, 1_024):
        run = run_in(tmp_path / str(micro), replace(BASELINE, micro_chars=micro), dropout=0.0, block_size=128)
        windows = np.arange(8) * 40
        sequences = run.data.sequences
        sequences.micro_batch = lambda k, s=sequences, m=micro // 128, w=windows: s._windows(w[(k * m) % 8 :][:m])
        events = run.events()
        ends.append([next(events).loss for _ in range(3)])
        events.close()
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_loss_that_is_not_finite_stops_the_run(tmp_path, dtype):
    run = run_in(tmp_path / "run", replace(RECIPE, max_chars=100_000, eval_every_chars=1_500, dtype=dtype))
    events = run.events()
    while not isinstance(next(events), Validation):
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
def test_exploding_weights_are_not_saved(tmp_path, optimizer):
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


def test_stopped_run_is_saved_and_resumes(cpu, tmp_path):
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


def test_finished_run_resumes_without_events(tmp_path):
    list(run_in(tmp_path / "run").events())
    before = (tmp_path / "run" / "metrics.jsonl").read_text(), weights(tmp_path / "run" / "last")
    run = run_in(tmp_path / "run")
    run.resume()
    assert list(run.events()) == []
    assert ((tmp_path / "run" / "metrics.jsonl").read_text(), weights(tmp_path / "run" / "last")) == before


def test_run_saves_after_some_time(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    events = run_in(tmp_path / "run").events()
    for _ in range(3):
        step = next(events)
    assert checkpoint.load(tmp_path / "run").info["step"] == step.step - 1
    events.close()


def test_speed_is_measured_on_a_throwaway_model():
    assert measure_speed(corpus(), SHAPE, RECIPE, 0.5, seconds=0.1) > 100


FULL_DISK = """
import resource, sys
import gatsby_mlx.model
sys.path += ["tests", "tests/training"]
from test_loop import *
run = run_in(Path(sys.argv[1]), replace(RECIPE, max_chars=1_000_000))
try:
    for event in run.events():
        if 0 < run.progress.best_step == event.step - 1:  # its checkpoints are saved; now limit the files
            resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES, resource.RLIM_INFINITY))
except GatsbyError as error:
    print(type(error).__name__, error.line())
"""


@pytest.mark.parametrize("limit", ["10_000", "run.out.joinpath('metrics.jsonl').stat().st_size + 300"])
def test_full_disk_keeps_the_last_checkpoint(cpu, tmp_path, limit):
    """In a separate process with a limit on the size of a file: the weights do not fit, or the metrics do not."""
    out = tmp_path / "run"
    program = FULL_DISK.replace("MAX_BYTES", limit)
    ran = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("OutputError cannot write") and ran.stdout.count("\n") == 1, ran.stdout
    assert ("metrics.jsonl" in ran.stdout) == ("metrics.jsonl" in limit)
    saved = json.loads((out / "last" / "state.json").read_text())["progress"]["best_step"]
    assert checkpoint.load(out / "last").info["step"] == checkpoint.load(out / "best-loss").info["step"] == saved > 0
    assert sorted(p.name for p in out.iterdir()) == ["best-loss", "last", "metrics.jsonl"]
    check_out(out, resume=True)
    run = run_in(out, replace(RECIPE, max_chars=1_000_000))
    run.resume()
    assert next(run.events()).step == run.progress.step


def test_run_folders_never_mix(tmp_path):
    check_out(tmp_path / "new", resume=False)
    (tmp_path / "empty").mkdir()
    check_out(tmp_path / "empty", resume=False)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").write_text("dear")
    for path, reason in ((tmp_path / "used", "not empty"), (tmp_path / "used" / "letter.txt", "not a folder")):
        with pytest.raises(OutputError, match=reason):
            check_out(path, resume=False)
    with pytest.raises(CheckpointError, match="holds no run"):
        check_out(tmp_path / "used", resume=True)
    with pytest.raises(GatsbyError):
        list(run_in(tmp_path / "used" / "letter.txt").events())
