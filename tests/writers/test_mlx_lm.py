"""The mlx-lm writer on four real architectures, tiny and random: prefix cache, seeds, memory, and broken models."""

from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from gatsby_mlx import api
from gatsby_mlx.corpus import gates
from gatsby_mlx.errors import WriterError
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import Prime
from gatsby_mlx.writers import guide, mlx_lm, prompts, requirements
from gatsby_mlx.writers.base import StoryJob
from gatsby_mlx.writers.mlx_lm import MLXWriter, PrefixCache
from gatsby_mlx.writers.specs import ModelSpec

FOUR = pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=pytest.mark.slow) for n in tiny.CONFIGS if n != "granite"), "granite"]
)
JOBS = [
    StoryJob(topic, name, level, 1000 + i)
    for i, (topic, name, level) in enumerate(
        [("a cat", "Mia", 1), ("the old clock", "Tom", 5), ("two frogs in the rain", "Nora", 3), ("a hat", "Leo", 2)]
    )
]


class Folders(dict):
    """The folder of each tiny model by name, made when it is first asked for."""

    def __init__(self, root: Path):
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> Path:
        self[name] = tiny.save(self.root / name, name)
        return self[name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp("models"))


def spec(folder, **more) -> ModelSpec:
    return replace(ModelSpec("tiny", str(folder), max_tokens=24, batch=4), **more)


def drafts(writer, jobs=JOBS) -> dict:
    return {draft.job: draft for draft in writer.write(deque(jobs))}


@FOUR
@pytest.mark.parametrize("guided", [True, False], ids=["guided", "not guided"])
def test_a_story_does_not_depend_on_the_others_in_its_batch(folders, name, guided):
    with MLXWriter(spec(folders[name], guide=guided)) as writer:
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
        assert bool(draft.guided) == guided


@FOUR
def test_a_random_model_under_a_guide_keeps_the_level_the_topic_and_the_form(tmp_path, name):
    folder = tiny.save(tmp_path / "t", name, words=tiny.WORDS)
    jobs = [replace(job, level=level) for job, level in zip(JOBS, (1, 5, 3, 4), strict=True)]
    with MLXWriter(spec(folder, max_tokens=1000)) as writer:
        for draft in drafts(writer, jobs).values():
            prime = Prime(draft.job.topic, draft.job.level)
            document, failed = gates.judge(prime, draft.text, name=draft.job.name, finish=draft.finish)
            kept = {"finish", "band", "ends", "length", "phrase", "alphabet", "topic"}
            assert not set(failed) & kept, document.story
            assert draft.guided.leaned + draft.guided.opened <= document.mentions


def test_a_base_model_is_shown_stories_of_the_level_and_asked_for_no_topics(tmp_path):
    folder = tiny.save(tmp_path / "t", "granite", None)
    with api.make_writer(spec(folder)) as writer:
        for job in JOBS[:2]:
            shown = writer.tokenizer.decode(writer.encode(writer.story_prompt(job)))
            *stories, asked = shown.split("\n\n")
            assert asked == f"A story about {job.topic}, with {job.name}:"
            assert len(stories) == api.EXAMPLES
            for story in stories:
                assert gates.in_band(job.level, GREEN_LIGHT.count(story), GREEN_LIGHT.band)
        assert writer.source["asked"] == "by examples"
        assert writer.about["examples"].startswith("house")
        together = drafts(writer)
        assert drafts(writer, JOBS[:1])[JOBS[0]].text == together[JOBS[0]].text
        assert list(writer.brainstorm(deque())) == []


def test_a_guide_without_an_allowed_token_ends_the_story_and_not_the_run(folders, monkeypatch):
    monkeypatch.setattr(guide.Guide, "answer", lambda self: guide.Answer(("\u00e9",)))
    with MLXWriter(spec(folders["granite"])) as writer:
        assert {draft.finish for draft in drafts(writer).values()} == {"stuck"}


def test_a_tokenizer_that_cannot_spell_the_phrase_is_a_one_line_error(folders, monkeypatch):
    monkeypatch.setattr(mlx_lm.Vocabulary, "can_spell", lambda self, phrase: False)
    with pytest.raises(WriterError, match="cannot spell 'green light'") as caught, MLXWriter(spec(folders["granite"])):
        pass
    assert "--no-guide" in caught.value.line()


@FOUR
def test_the_prefix_cache_gives_the_same_stories_as_the_full_prompts(folders, name, monkeypatch):
    with MLXWriter(spec(folders[name])) as writer:
        prefixes = {}
        for job in JOBS:
            assert len(writer._prefix(writer.story_prompt(job), prefixes).tokens) > 300
        assert len(prefixes) == len({job.seed % len(prompts.SYSTEMS) for job in JOBS}), "once for each wording"
        with_prefix = drafts(writer)
        monkeypatch.setattr(PrefixCache, "n_shared", lambda self, tokens: 0)
        assert {j: d.text for j, d in drafts(writer).items()} == {j: d.text for j, d in with_prefix.items()}


def test_jobs_that_are_added_while_writing_are_written(folders):
    with MLXWriter(spec(folders["granite"], batch=2)) as writer:
        queue, written = deque(JOBS), []
        for draft in writer.write(queue):
            written.append(draft.job)
            if len(written) == 4:
                queue.append(replace(JOBS[0], seed=77))
        assert len(written) == 5


def test_the_batch_is_kept_full(folders, monkeypatch):
    """With a batch of 2, a job starts as soon as one of two stories has ended, while the other is in progress."""
    in_progress, seen = [], []
    insert, completion = MLXWriter._insert, MLXWriter._completion

    def on_insert(self, generator, prefix, prompt, row):
        in_progress.append(prompt)
        seen.append(len(in_progress))
        return insert(self, generator, prefix, prompt, row)

    def on_completion(self, *words):
        in_progress.pop()
        return completion(self, *words)

    monkeypatch.setattr(MLXWriter, "_insert", on_insert)
    monkeypatch.setattr(MLXWriter, "_completion", on_completion)
    monkeypatch.setattr(MLXWriter, "story_prompt", lambda self, job: prompts.story_prompt(job, 6 * job.level))
    with MLXWriter(spec(folders["granite"], batch=2)) as writer:
        order = [draft.job for draft in writer.write(deque(JOBS))]
    assert seen == [1, 2, 2, 2]
    assert order == [JOBS[0], JOBS[2], JOBS[1], JOBS[3]]  # of 6, 30, 18 and 12 tokens


def test_prompts_are_about_the_obsession(folders):
    whale = Obsession("whale", "white whale")
    with MLXWriter(spec(folders["granite"]), obsession=whale) as writer:
        text = writer.tokenizer.decode(writer.encode(writer.story_prompt(JOBS[0])))
        assert "a white whale far away" in text and "green" not in text
        assert writer.about["prompts"] == prompts.digest(whale) != prompts.digest()
        assert drafts(writer, JOBS[:1])


def test_a_writer_outside_its_block_is_a_mistake(folders):
    with pytest.raises(RuntimeError, match="with"):
        list(MLXWriter(spec(folders["granite"])).write(deque(JOBS)))


def test_leaving_the_block_frees_the_memory(folders):
    import gc

    import mlx.core as mx

    gc.collect()
    before = mx.get_active_memory()
    with MLXWriter(spec(folders["olmo"])) as writer:
        drafts(writer)
        assert mx.get_active_memory() > before + 100_000
    assert mx.get_active_memory() <= before + 4096
    assert writer.model is None


def test_thinking_is_turned_off_in_templates_that_think_by_default(tmp_path):
    folder = tiny.save(tmp_path / "t", "granite", tiny.THINKING)
    with MLXWriter(spec(folder)) as writer:
        text = writer.tokenizer.decode(writer.encode(prompts.story_prompt(JOBS[0], 9)))
        assert text.endswith("<|assistant|>")
        assert "<think>" not in text


def test_a_template_without_a_system_role_gets_one_message(tmp_path):
    folder = tiny.save(tmp_path / "t", "granite", tiny.NO_SYSTEM)
    with MLXWriter(spec(folder)) as writer:
        text = writer.tokenizer.decode(writer.encode(prompts.story_prompt(JOBS[0], 9)))
        assert "<|system|>" not in text
        assert any(system in text for system in prompts.SYSTEMS)


@pytest.mark.parametrize(
    ("template", "message"), [(tiny.BROKEN, "chat template fails.*torn"), (None, "no stories to show it")]
)
def test_a_broken_or_missing_template_is_a_one_line_error(tmp_path, template, message):
    folder = tiny.save(tmp_path / "t", "granite", template)
    with pytest.raises(WriterError, match=message) as caught, MLXWriter(spec(folder)):
        pass
    assert "\n" not in caught.value.line()


def break_config(folder):
    (folder / "config.json").write_text('{"model_type": "nonesuch"}')


def break_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def break_code(folder):
    config = (folder / "config.json").read_text().replace("{", '{"model_file": "evil.py",', 1)
    (folder / "config.json").write_text(config)
    (folder / "evil.py").write_text("raise SystemExit('ran')")


@pytest.mark.parametrize("damage", [break_config, break_weights, break_code, tiny.break_index])
def test_a_broken_model_is_a_one_line_error_and_its_code_does_not_run(tmp_path, damage):
    folder = tiny.save(tmp_path / "t", "granite")
    damage(folder)
    with pytest.raises(WriterError, match=r"cannot load tiny|not a model") as caught, MLXWriter(spec(folder)):
        pass
    assert "\n" not in caught.value.line()


def test_the_batch_fits_into_the_free_memory(folders, monkeypatch):
    monkeypatch.setattr(mlx_lm, "free_bytes", lambda: 10**12)
    with MLXWriter(spec(folders["granite"], batch=None)) as writer:
        assert writer.batch == mlx_lm.MAX_BATCH
    monkeypatch.setattr(mlx_lm, "free_bytes", lambda: 4_000_000)
    with MLXWriter(spec(folders["granite"], batch=None)) as writer:
        assert 1 <= writer.batch < mlx_lm.MAX_BATCH
    monkeypatch.setattr(mlx_lm, "free_bytes", lambda: 1000)
    with pytest.raises(WriterError, match="no memory is left"), MLXWriter(spec(folders["granite"], batch=None)):
        pass


WORKING_SET = 10**10


@pytest.fixture
def metal(monkeypatch):
    """Give MLX a working set, as with Metal; return the wired limits that are set, the last one last."""
    import mlx.core as mx

    limits = [123]

    def set_wired_limit(limit: int) -> int:
        limits.append(limit)
        return limits[-2]

    monkeypatch.setattr(mx, "device_info", lambda *_: {"max_recommended_working_set_size": WORKING_SET})
    monkeypatch.setattr(mx, "set_wired_limit", set_wired_limit)
    return limits


@pytest.mark.parametrize("wired", [False, True])
def test_the_wired_limit_is_raised_only_when_asked_and_put_back_at_the_end(folders, metal, wired):
    with MLXWriter(spec(folders["granite"], max_tokens=4), wired=wired) as writer:
        drafts = writer.write(deque([StoryJob("a cat and a hat", "Nora", 1, i) for i in range(2)]))
        next(drafts)
        assert metal[-1] == (WORKING_SET if wired else 123)
        list(drafts)
    assert metal[-1] == 123


def test_an_unwired_model_takes_a_modest_share_of_the_memory():
    assert requirements.story_share(True) < 0.62 < 0.8 < requirements.story_share(True, wired=True)
    assert requirements.story_share(False) == requirements.story_share(True, wired=True)
