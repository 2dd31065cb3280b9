"""mlx_lm: the four real architectures, tiny and random: prefix, seeds, freeing, and what cannot be loaded."""

from collections import deque
from dataclasses import replace

import pytest
import tiny

from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import mlx_lm, prompts
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.mlx_lm import MLXWriter, Prefix
from gatsby_mlx.writers.prompted import PROBES
from gatsby_mlx.writers.specs import ModelSpec

FOUR = pytest.mark.parametrize("name", tiny.CONFIGS)
JOBS = [
    StoryJob(topic, name, level, 1000 + i)
    for i, (topic, name, level) in enumerate(
        [("a cat", "Mia", 1), ("the old clock", "Tom", 5), ("two frogs in the rain", "Nora", 3), ("a hat", "Leo", 2)]
    )
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.save(root / name, name) for name in tiny.CONFIGS}


def spec(folder, **more) -> ModelSpec:
    return replace(ModelSpec("tiny", str(folder), max_tokens=24, batch=4), **more)


def drafts(writer, jobs=JOBS) -> dict:
    return {draft.job: draft for draft in writer.write(deque(jobs))}


@FOUR
def test_a_storys_draws_do_not_depend_on_its_neighbours(folders, name):
    with MLXWriter(spec(folders[name])) as writer:
        together = drafts(writer)
        assert set(together) == set(JOBS)
        for job in JOBS[:2]:
            alone = drafts(writer, [job])[job]
            assert (alone.text, alone.finish, alone.tokens_out) == (
                together[job].text,
                together[job].finish,
                together[job].tokens_out,
            )
        reseeded = replace(JOBS[0], seed=5)
        assert drafts(writer, [reseeded])[reseeded].text != together[JOBS[0]].text
    for draft in together.values():
        assert draft.finish in ("stop", "length", "reasoning")
        assert draft.tokens_out <= 24
        assert draft.tokens_in > 300


@FOUR
def test_the_shared_prefix_gives_the_same_story_as_the_full_prompt(folders, name, monkeypatch):
    with MLXWriter(spec(folders[name])) as writer:
        shared = Prefix.of(writer.model, [writer._tokens(prompts.story_prompt(p, 24)) for p in PROBES])
        assert len(shared.tokens) > 300, "the instructions are computed once"
        with_prefix = drafts(writer)
        monkeypatch.setattr(Prefix, "shared_by", lambda self, tokens: 0)
        assert {j: d.text for j, d in drafts(writer).items()} == {j: d.text for j, d in with_prefix.items()}


def test_the_batch_is_kept_full_and_jobs_put_in_later_are_written(folders):
    with MLXWriter(spec(folders["granite"], batch=2)) as writer:
        queue, told = deque(JOBS), []
        for draft in writer.write(queue):
            told.append(draft.job)
            if len(told) == 4:
                queue.append(replace(JOBS[0], seed=77))
        assert len(told) == 5


def test_leaving_frees_the_memory(folders):
    import gc

    import mlx.core as mx

    gc.collect()
    before = mx.get_active_memory()
    with MLXWriter(spec(folders["olmo"])) as writer:
        drafts(writer)
        assert mx.get_active_memory() > before + 100_000
    assert mx.get_active_memory() <= before + 4096
    assert writer.model is None


def test_thinking_is_turned_off_where_a_template_thinks_by_default(tmp_path):
    folder = tiny.save(tmp_path / "t", "granite", tiny.THINKING)
    with MLXWriter(spec(folder)) as writer:
        text = writer.tokenizer.decode(writer._tokens(prompts.story_prompt(JOBS[0], 9)))
        assert text.endswith("<|assistant|>")
        assert "<think>" not in text


def test_a_template_without_a_system_role_gets_both_as_one(tmp_path):
    folder = tiny.save(tmp_path / "t", "granite", tiny.NO_SYSTEM)
    with MLXWriter(spec(folder)) as writer:
        text = writer.tokenizer.decode(writer._tokens(prompts.story_prompt(JOBS[0], 9)))
        assert "<|system|>" not in text
        assert prompts.SYSTEM in text


@pytest.mark.parametrize(
    ("template", "told"), [(tiny.BROKEN, "chat template fails.*torn"), (None, "has no chat template")]
)
def test_a_template_that_crashes_or_is_missing_is_one_line(tmp_path, template, told):
    folder = tiny.save(tmp_path / "t", "granite", template)
    with pytest.raises(WriterError, match=told) as caught, MLXWriter(spec(folder)):
        pass
    assert "\n" not in caught.value.line()


def break_config(folder):
    (folder / "config.json").write_text('{"model_type": "nonesuch"}')


def break_weights(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def break_code(folder):
    config = (folder / "config.json").read_text().replace("{", '{"model_file": "evil.py",', 1)
    (folder / "config.json").write_text(config)
    (folder / "evil.py").write_text("raise SystemExit('ran')")


@pytest.mark.parametrize("harm", [break_config, break_weights, break_code, tiny.forge_index])
def test_a_model_that_cannot_be_loaded_is_one_line_and_no_code_of_it_runs(tmp_path, harm):
    folder = tiny.save(tmp_path / "t", "granite")
    harm(folder)
    with pytest.raises(WriterError, match=r"cannot load tiny|not a model") as caught, MLXWriter(spec(folder)):
        pass
    assert "\n" not in caught.value.line()


def test_a_sampler_draws_from_the_nucleus_alone_and_from_its_seed_alone():
    import mlx.core as mx

    logprobs = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]]))
    draw = mlx_lm.sampler(1.0, 0.75, 3)
    counts = [0] * 4
    for _ in range(400):
        counts[draw(logprobs).item()] += 1
    assert counts[2] == counts[3] == 0
    assert abs(counts[0] / 400 - 0.5 / 0.8) < 0.08
    again = mlx_lm.sampler(1.0, 0.75, 3)
    other = mlx_lm.sampler(1.0, 0.75, 4)
    assert [again(logprobs).item() for _ in range(30)] != [other(logprobs).item() for _ in range(30)]
    assert mlx_lm.sampler(0, 1.0, 1)(logprobs).item() == 0


def test_a_batch_fits_the_memory_that_is_left(folders, monkeypatch):
    monkeypatch.setattr(mlx_lm, "free_bytes", lambda: 10**12)
    with MLXWriter(spec(folders["granite"], batch=None)) as writer:
        assert writer.batch == mlx_lm.MAX_BATCH
    monkeypatch.setattr(mlx_lm, "free_bytes", lambda: 4_000_000)
    with MLXWriter(spec(folders["granite"], batch=None)) as writer:
        assert 1 <= writer.batch < mlx_lm.MAX_BATCH
    monkeypatch.setattr(mlx_lm, "free_bytes", lambda: 1000)
    with pytest.raises(WriterError, match="no memory is left"), MLXWriter(spec(folders["granite"], batch=None)):
        pass
