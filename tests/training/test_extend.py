"""A run that goes on: from its folder alone, and past its end, with the rest of its schedule laid anew."""

import json
from dataclasses import replace

import pytest
from test_loop import RECIPE, SHAPE, corpus, run_in

from gatsby_mlx.errors import CheckpointError, TrainingError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.training import optim, speed
from gatsby_mlx.training.loop import Run
from gatsby_mlx.training.record import Record, Step, read_metrics, read_record


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Do not compile: the first compilation takes half a minute."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")


def reopened(out) -> Run:
    """Return the run of a folder, with nothing given but its corpus."""
    record = read_record(out)
    run = Run(corpus(), record.model, record.config, out, record.preset, record=record)
    run.resume()
    return run


def steps_of(run: Run, n: int = 10_000) -> list[Step]:
    seen: list = []
    for event in run.events(lambda: len(seen) >= n):
        seen.append(event)
    return [event for event in seen if isinstance(event, Step)]


def test_record_has_the_run_s_settings_and_survives_json(cpu, tmp_path):
    recipe = replace(RECIPE, lr=0.02, seed=7, dtype="bfloat16")
    steps_of(run_in(tmp_path / "run", recipe, dropout=0.25), 2)
    record = read_record(tmp_path / "run")
    assert (record.config, record.model.dropout, record.preset, record.corpus) == (recipe, 0.25, "tiny", "abc")
    assert record.progress.step == 2
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_folder_alone_is_enough_and_changes_nothing(tmp_path):
    steps_of(run_in(tmp_path / "unbroken"))
    steps_of(run_in(tmp_path / "run"), 4)
    steps_of(reopened(tmp_path / "run"))
    ends = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("run", "unbroken")]
    assert ends[0] == ends[1]


def test_run_from_a_checkpoint_needs_it_no_more(cpu, tmp_path):
    steps_of(run_in(tmp_path / "first"), 2)
    start = checkpoint.load(tmp_path / "first" / "last")
    started = Run(corpus(), SHAPE, RECIPE, tmp_path / "run", "tiny", start=start)
    steps_of(started, 2)
    again = reopened(tmp_path / "run")
    assert again.start == started.start == read_record(tmp_path / "run").start
    assert again.progress.step == 2


@pytest.mark.parametrize("stop_after", [4, 10_000], ids=["on the way", "at its end"])
def test_extended_run_goes_on_without_a_jump_and_ends_low(tmp_path, stop_after):
    before = steps_of(run_in(tmp_path / "run"), stop_after)
    run = reopened(tmp_path / "run")
    extension = run.extend(30_000)
    assert extension.lr == optim.learning_rate(RECIPE, before[-1].chars)
    after = steps_of(run)
    assert after[-1].chars >= 30_000 > after[-2].chars
    rates = [step.lr for step in after]
    assert rates[0] == pytest.approx(extension.lr), "it begins at the rate where the run stood"
    longest = max(range(len(rates)), key=rates.__getitem__)
    assert rates[: longest + 1] == sorted(rates[: longest + 1]), "it rises first"
    assert rates[longest:] == sorted(rates[longest:], reverse=True), "and falls then"
    assert rates[-1] < 0.15 * RECIPE.lr

    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    (said,) = [row for row in rows if row["event"] == "extend"]
    assert (said["before"], said["max_chars"], said["chars"]) == (9_000, 30_000, before[-1].chars)
    trained = [row["step"] for row in rows if row["event"] == "train"]
    assert trained == list(range(1, len(trained) + 1))
    written = checkpoint.load(tmp_path / "run" / "last").info["training"]
    assert (written["max_chars"], written["extended_at"]) == (30_000, before[-1].chars)


def test_extended_run_that_is_stopped_resumes_exactly(tmp_path):
    ends = []
    for name, stops in (("unbroken", [10_000]), ("stopped", [1, 3, 10_000])):
        steps_of(run_in(tmp_path / name))
        run = reopened(tmp_path / name)
        run.extend(15_000)
        for n in stops:
            steps_of(run, n)
            if n < 100:
                run = reopened(tmp_path / name)
        ends.append((tmp_path / name / "last" / "model.safetensors").read_bytes())
    assert ends[0] == ends[1]


def test_extension_to_no_more_characters_is_refused(tmp_path):
    steps_of(run_in(tmp_path / "run"), 2)
    run = reopened(tmp_path / "run")
    with pytest.raises(TrainingError, match="ends after 9,000 characters, so 9,000 are no more"):
        run.extend(9_000)


def test_refusal_has_both_values(tmp_path):
    steps_of(run_in(tmp_path / "run"), 2)
    with pytest.raises(CheckpointError) as caught:
        run_in(tmp_path / "run", replace(RECIPE, lr=0.02)).resume()
    assert "another lr (lr was 0.01, not 0.02)" in str(caught.value)


def test_time_is_measured_on_a_throwaway_model(tmp_path):
    run = run_in(tmp_path / "run", replace(RECIPE, short_chars=2_000, short_width=128))
    before = {name: value.tolist() for name, value in run.model.named().items()}
    seconds, per_second = speed.seconds_left(run, seconds=0.05)
    assert seconds > 9_000 / per_second > 0, "validations take time as well"
    assert before == {name: value.tolist() for name, value in run.model.named().items()}
    assert not (tmp_path / "run").exists()
    assert not speed.is_long(run), "a small run is not worth measuring"
