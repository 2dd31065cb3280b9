"""The public API: what its examples do, what its results show, and what bad values get."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

import gatsby_mlx as gatsby
from gatsby_mlx import api, cli, config, shipped
from gatsby_mlx.config import GPTConfig, Preset, TrainConfig
from gatsby_mlx.corpus.write import Written
from gatsby_mlx.errors import (
    CheckpointError,
    CorpusError,
    GatsbyError,
    OutputError,
    TopicError,
    UsageError,
    WriterError,
)
from gatsby_mlx.evaluation.stories import StoryPlan
from gatsby_mlx.story.document import Document, render
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import ALPHABET, Prime
from gatsby_mlx.training.record import Step, Validation

ROOT = Path(__file__).resolve().parents[1]
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 256}
TINY = Preset(
    "pocket",
    GPTConfig(**SHAPE),
    TrainConfig(warmup_chars=2_000, max_chars=20_000, eval_every_chars=10_000, eval_chars=20_000, dial_topics=0),
)
WHALE = Obsession("whale", "white whale", title="The white whale")
TOPICS = ["a lost kitten", "a dog and a balloon"]


def save_model(folder: Path, alphabet: str = ALPHABET, obsession: Obsession | None = None) -> Path:
    """Save a random model, whose stories are noise."""
    import mlx.core as mx

    from gatsby_mlx.model import checkpoint
    from gatsby_mlx.model.gpt import GPT
    from gatsby_mlx.tokenizer import CharTokenizer

    tokenizer = CharTokenizer(alphabet)
    mx.random.seed(3)
    info = {"obsession": obsession.to_json()} if obsession else {}
    checkpoint.save(folder, GPT(GPTConfig(**SHAPE, vocab_size=len(tokenizer))), tokenizer, info)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("api") / "tiny")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("api") / "stories"
    gatsby.write(folder, n=50, writer="house", seed=1925)
    return folder


@pytest.fixture
def workdir(tmp_path, monkeypatch, tiny) -> Path:
    """An empty working folder, in which the tiny model ships and `pocket` is a tiny preset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "checkpoint", lambda: tiny)
    monkeypatch.setitem(config.PRESETS, "pocket", TINY)
    return tmp_path


def command_line(*words: object) -> str:
    """Return the error line of a command that must fail."""
    done = CliRunner().invoke(cli.main, [str(word) for word in words])
    assert done.exit_code
    return done.stderr


EXAMPLE = """\
model = gatsby.load()
story = model.tell("a lost kitten", level=4, seed=7)
pieces = list(model.stream("a lost kitten", level=5))
stories = model.tell_many(topics, levels=range(1, 6), seeds=2)
corpus = gatsby.write("stories", n=50, writer="house", seed=1925)
mixed = gatsby.write("mixed", n=10, blend={"house": 0.5, "house-plain": 0.5})
run = gatsby.train(corpus, preset="pocket", out="runs/pocket")
dial = gatsby.dial(run.best, topics=topics, seeds=2)
mentions = dial.level(3).mentions
dial.plot("dial.svg")
"""


def test_example_runs_line_by_line(workdir, capfd):
    names: dict = {"gatsby": gatsby, "topics": TOPICS}
    for line in EXAMPLE.splitlines():
        exec(line, names)
    story = names["story"]
    assert isinstance(story.text, str) and isinstance(story.mentions, int)
    assert (story.topic, story.level, story.seed, story.ended) == ("a lost kitten", 4, 7, story.finish == "end")
    assert all(names["pieces"])
    order = [(s.topic, s.level, s.seed) for s in names["stories"]]
    assert order == [(topic, level, seed) for topic in TOPICS for level in range(1, 6) for seed in range(2)]
    assert len(names["corpus"].documents) == 50
    assert {d.writer for d in names["mixed"].documents} == {"house", "house-plain"}
    assert (workdir / "runs" / "pocket" / "best-loss" / "config.json").is_file()
    assert names["mentions"] == names["dial"].levels[2].mentions
    assert b"<svg" in (workdir / "dial.svg").read_bytes()
    assert capfd.readouterr().out == "", "nothing prints"


def test_same_seed_tells_the_same_story_as_the_command_line(workdir, tiny):
    model = gatsby.load()
    story = model.tell("A Lost  Kitten", level=4, seed=7, max_chars=90)
    assert model.tell("a lost kitten", level=4, seed=7, max_chars=90) == story
    assert model.tell("a lost kitten", level=4, seed=8, max_chars=90).text != story.text
    assert "".join(model.stream("a lost kitten", level=4, seed=7, max_chars=90)).startswith(story.text)
    words = ["tell", "a lost kitten", "--level", 4, "--seed", 7, "--max-tokens", 90, "--model", tiny, "--json"]
    shown = json.loads(CliRunner().invoke(cli.main, [str(word) for word in words]).stdout)
    assert shown["stories"][0]["story"] == story.text
    assert shown["topic"] == story.topic == "a lost kitten"


BAD = [
    ({"level": 0}, UsageError, ["--level", 0]),
    ({"level": 6}, UsageError, ["--level", 6]),
    ({"topic": ""}, TopicError, []),
    ({"topic": "ab"}, TopicError, []),
    ({"topic": "a dog\nand a balloon"}, TopicError, []),
    ({"topic": "одна собака"}, TopicError, []),
    ({"topic": "[green=5]"}, TopicError, []),
    ({"temp": -1.0}, UsageError, ["--temp", -1]),
    ({"temp": float("nan")}, UsageError, ["--temp", "nan"]),
    ({"top_k": -3}, UsageError, ["--top-k", -3]),
    ({"top_p": 0.0}, UsageError, ["--top-p", 0]),
]


@pytest.mark.parametrize(("values", "error", "options"), BAD, ids=lambda value: str(value)[:30])
def test_bad_value_gets_the_words_of_the_command_line(workdir, tiny, values, error, options):
    model = gatsby.load()
    given = {"topic": "a lost kitten", "seed": 1} | values
    with pytest.raises(error) as caught:
        model.tell(**given)
    assert type(caught.value) is error
    with pytest.raises(error):
        model.stream(**given)
    with pytest.raises(error):
        many = {k: v for k, v in values.items() if k not in ("topic", "level")}
        model.tell_many([given["topic"]], [given.get("level", 3)], **many)
    assert caught.value.line() in command_line("tell", given["topic"], *options, "--model", tiny)


@pytest.mark.parametrize(
    "values",
    [{"seed": -1}, {"seed": 2**32}, {"seed": "7"}, {"max_chars": 0}, {"topic": 5}, {"topic": None}, {"level": True}],
    ids=str,
)
def test_value_that_a_command_line_cannot_hold_is_refused_too(workdir, values):
    with pytest.raises(UsageError):
        gatsby.load().tell(**{"topic": "a lost kitten", "seed": 1} | values)


def test_many_stories_of_bad_lists_are_refused(workdir):
    model = gatsby.load()
    with pytest.raises(UsageError, match="list of topics"):
        model.tell_many("a lost kitten")
    with pytest.raises(UsageError, match="seeds is 1 or more"):
        model.tell_many(TOPICS, seeds=0)
    with pytest.raises(UsageError, match="1 or more"):
        model.tell_many(TOPICS, batch=0)
    assert model.tell_many([]) == []


def test_topic_that_the_vocabulary_cannot_spell_is_refused(workdir):
    few = gatsby.load(save_model(workdir / "few", "\n []=:abcdeghinorstv12345"))
    with pytest.raises(TopicError, match="'f'"):
        few.tell("a quick fox", seed=1)


def test_model_of_another_obsession_tells_and_counts_its_own(workdir):
    model = gatsby.load(save_model(workdir / "whale", obsession=WHALE))
    assert model.obsession == WHALE
    assert model.job("a lost kitten", 3, 1).prime.startswith("[whale=3] [whale=3] [whale=3] obsession=strong\n")
    story = api.ToldStory("The White\nwhale, and a green light.", "a lost kitten", 3, 1, "end", 30, WHALE)
    assert story.mentions == 1
    assert "<mark>White\nwhale</mark>" in story._repr_html_()


def test_results_show_themselves(workdir, written):
    model = gatsby.load()
    assert re.fullmatch(r"<model tiny: 1 layer, 2 heads, 16 wide, context 256, [\d,]+ parameters>", repr(model))
    text = "A green light & a <b>bold</b> kitten.\n\nThe green\nlight."
    story = api.ToldStory(text, 'a "cat" & <i>', 2, 7, "end", len(text), GREEN_LIGHT)
    assert str(story) == text
    assert repr(story).startswith("<story on 'a \"cat\" & <i>', level 2, 2 mentions, seed 7: 'A green light")
    html = story._repr_html_()
    assert html.count("<mark>") == 2 and html.count("<p>") == 3
    assert "&amp; a &lt;b&gt;bold&lt;/b&gt;" in html and "&lt;i&gt;" in html and "<i>" not in html
    corpus = gatsby.write(written, n=50)
    assert repr(corpus) == f"<corpus {written}/raw.txt: 50 stories, {corpus.n_chars:,} characters>"
    assert repr(api.TrainedRun(workdir / "none")).endswith("none: not evaluated yet>")


def test_dial_draws_itself(workdir):
    heard = []
    dial = gatsby.dial(
        topics=TOPICS, seeds=1, max_chars=20, on_progress=lambda done, total: heard.append((done, total))
    )
    assert re.fullmatch(r"<dial( [\d.]+){5}: 2 topics, 1 seeds, Spearman -?[\d.]+>", repr(dial))
    assert sorted(heard) == [(n, 10) for n in range(1, 11)]
    assert dial._repr_html_() == dial.plot("dial.png")
    assert dial._repr_html_().startswith("<svg")
    assert (workdir / "dial.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError) as caught:
        dial.plot("dial.pdf")
    assert str(caught.value) in command_line("dial", "--plot", "dial.pdf")
    with pytest.raises(UsageError, match="from 1 to 5, not 6"):
        dial.level(6)
    with pytest.raises(UsageError, match="1 to 120"):
        gatsby.dial(n_topics=121)
    with pytest.raises(UsageError, match="given twice"):
        gatsby.dial(topics=["a lost kitten", "A lost kitten"])


def test_write_resumes_and_leaves_a_finished_corpus_alone(workdir):
    events: list = []
    corpus = gatsby.write("mine", topics=["A Lost Kitten", "a dog and a balloon"], on_event=events.append)
    assert {d.topic for d in corpus.documents} == set(TOPICS)
    assert len(corpus.documents) == 10 <= sum(isinstance(event, Written) for event in events)
    before = Path("mine/manifest.json").read_bytes()
    again = gatsby.write("mine", topics=["A Lost Kitten", "a dog and a balloon"], on_event=events.append)
    assert again.sha256 == corpus.sha256 and Path("mine/manifest.json").read_bytes() == before
    assert len(gatsby.write("one", 5, topics=TOPICS).documents) == 5
    with pytest.raises(OutputError, match="another corpus"):
        gatsby.write("mine", n=10, seed=2)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"n": 7}, UsageError, "multiple"),
        ({"n": 15, "topics": TOPICS}, UsageError, "2 topics, and 15 stories need 3"),
        ({"n": 5, "topics": ["ab"]}, TopicError, "3 to 80"),
        ({"n": 5, "writer": "shakespeare"}, UsageError, "no writer 'shakespeare'"),
        ({"n": 5, "blend": {"house": 0}}, UsageError, "positive number"),
        ({"n": 5, "blend": {"house": "much"}}, UsageError, "a number"),
        ({"n": 5, "writer": "server:http://127.0.0.1:1#m"}, WriterError, "no server at"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_corpus_that_cannot_be_written_is_refused(workdir, values, error, message):
    with pytest.raises(error, match=message):
        gatsby.write("out", **values)
    assert not Path("out/raw.txt").exists()


def test_train_events_can_be_left_and_resumed(workdir, written):
    options = {"preset": "pocket", "out": "run", "max_chars": 12_000, "seed": 5}
    events = gatsby.train_events(str(written), **options)
    first = next(events)
    assert isinstance(first, Step) and first.step == 1
    events.close()
    with pytest.raises(OutputError) as caught:
        gatsby.train(str(written), **options)
    assert "--resume" in caught.value.hint
    heard: list = []
    run = gatsby.train(str(written), **options, resume=True, on_event=heard.append)
    assert isinstance(heard[-1], Validation) and heard[-1].chars >= 12_000
    unbroken = gatsby.train(str(written), **options | {"out": "unbroken"})
    assert [row["loss"] for row in run.metrics if row["event"] == "eval"] == [
        row["loss"] for row in unbroken.metrics if row["event"] == "eval"
    ]
    assert re.fullmatch(r"<run run: [\d,]+ characters, best story loss [\d.]+>", repr(run))
    assert run._repr_html_().startswith("<svg") and run.last.path == Path("run/last")
    assert run.best.path == Path("run/best-loss")


def test_ctrl_c_in_training_saves_and_interrupts(cpu, workdir, written):
    options = {"preset": "pocket", "out": "run", "max_chars": 12_000}
    with pytest.raises(KeyboardInterrupt):
        gatsby.train(written, **options, on_event=lambda event: os.kill(os.getpid(), signal.SIGINT))
    steps = [row["step"] for row in api.TrainedRun(Path("run")).metrics if row["event"] == "train"]
    assert steps == [1]
    run = gatsby.train(written, **options, resume=True)
    steps = [row["step"] for row in run.metrics if row["event"] == "train"]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 1


@pytest.mark.parametrize(
    ("values", "options", "error"),
    [
        ({"preset": "huge"}, None, UsageError),
        ({"lr": -1.0}, ["--lr", "-1"], UsageError),
        ({"dropout": 1.0}, ["--dropout", "1"], UsageError),
        ({"dtype": "int8"}, None, UsageError),
        ({"resume": True}, ["--resume"], CheckpointError),
        ({"start": "nowhere"}, ["--from", "nowhere"], CheckpointError),
    ],
    ids=str,
)
def test_training_that_cannot_start_is_refused(workdir, written, values, options, error):
    with pytest.raises(error) as caught:
        gatsby.train(written, **{"preset": "pocket", "out": "run"} | values)
    if options:
        words = ["train", "--preset", "pocket", "--corpus", written, "--out", "run", *options]
        assert caught.value.line() in command_line(*words)
    assert not Path("run").exists()


def whale_corpus(folder: Path) -> Path:
    """Write a small corpus about the white whale, with a manifest that says so."""
    story = "The kitten saw the white whale. " * 3
    documents = [
        Document(Prime(f"a lost kitten {n}", level, None, WHALE), f"{story * level}The end.")
        for n in range(10)
        for level in (1, 2, 3, 4, 5)
    ]
    folder.mkdir()
    (folder / "raw.txt").write_text(render(documents))
    content = {"schema": "gatsby-mlx/corpus/1", "obsession": WHALE.to_json(), "stories": []}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def test_corpus_of_another_obsession_is_refused_in_one_line(workdir, tiny, written, monkeypatch):
    from gatsby_mlx.corpus import manifest

    monkeypatch.setattr(manifest, "annotate", lambda documents, content, path: documents)
    corpus = api.load_corpus(whale_corpus(workdir / "whales"))
    assert corpus.obsession == WHALE
    whale = save_model(workdir / "whale", obsession=WHALE)
    refused = {
        "dial": lambda: gatsby.dial(topics=TOPICS, corpus=corpus),
        "dial of the whale": lambda: gatsby.dial(whale, topics=TOPICS, corpus=api.load_corpus(written)),
        "report": lambda: gatsby.report(tiny, "out", corpus=corpus),
        "train": lambda: gatsby.train(corpus, preset="tune", start=tiny, out="run"),
        "train from the whale": lambda: gatsby.train(written, start=whale, out="run"),
    }
    for name, call in refused.items():
        with pytest.raises((CorpusError, CheckpointError), match="about the") as caught:
            call()
        line = caught.value.line()
        assert "green light" in line and "white whale" in line and "\n" not in line, name
    assert not Path("run").exists() and not Path("out").exists()
    stories = workdir / "stories.jsonl"
    words = ["--model", tiny, "--n-topics", 1, "--seeds", 1, "--max-tokens", 9, "--stories", stories]
    assert "about the white whale" in command_line("dial", *words, "--corpus", workdir / "whales")
    serve = command_line("serve", "--port", 0, "--model", tiny, "--corpus", workdir / "whales")
    assert "about the white whale" in serve
    assert "about the white whale" in command_line("train", "--from", tiny, "--corpus", workdir / "whales")


def cache(home: Path, model: Path, monkeypatch) -> str:
    """Put a model into a hub's cache as the repository someone/light; return its commit."""
    from huggingface_hub import constants

    commit = "a" * 40
    folder = home / "models--someone--light"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    for path in model.iterdir():
        (folder / "snapshots" / commit / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    return commit


def test_load_finds_folders_runs_and_repositories(workdir, tiny, monkeypatch):
    assert gatsby.load(tiny).path == tiny
    best = save_model(workdir / "runs" / "mine" / "best-loss")
    assert gatsby.load("runs/mine").path.resolve() == best
    assert gatsby.load(save_model(workdir / "models" / "mine").name).path == Path("models/mine")

    commit = cache(workdir / "hub", tiny, monkeypatch)
    assert gatsby.load("someone/light").path.name == commit
    assert gatsby.load(f"someone/light@{commit}").path.name == commit
    with pytest.raises(CheckpointError) as caught:
        gatsby.load("someone/other")
    line = "someone/other is neither a folder nor in the hub's cache. Get it with: gatsby pull someone/other"
    assert caught.value.line() == line
    assert line in command_line("tell", "a lost kitten", "--model", "someone/other")

    pulled = save_model(workdir / "models" / "light")
    assert gatsby.load("someone/light").path.name == commit, "a folder that was not pulled from there"
    (pulled / "source.json").write_text(json.dumps({"repository": "someone/light", "commit": commit}))
    assert gatsby.load("someone/light").path == Path("models/light")
    assert gatsby.load(f"someone/light@{commit}").path.name == commit


@pytest.mark.parametrize("name", ["nowhere", "./some/where", "runs/nowhere", "a/b/c", "~/nothing-of-this-name"])
def test_model_that_is_not_there_is_refused(workdir, name):
    (workdir / "runs").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        gatsby.load(name)


def test_without_a_shipped_checkpoint_load_has_a_hint(workdir, monkeypatch):
    monkeypatch.setattr(shipped, "checkpoint", lambda: None)
    with pytest.raises(CheckpointError, match="No checkpoint ships") as caught:
        gatsby.load()
    assert "gatsby demo" in caught.value.hint


def test_report_writes_page_figures_and_card(workdir, tiny):
    model = gatsby.load()
    plan = StoryPlan(tuple(TOPICS), seeds=1, max_chars=40, run_on=0)
    stories = api.tell_stories(model, plan)
    evaluation = gatsby.report(model, "out", stories=stories)
    assert {path.name for path in Path("out").iterdir()} == {"index.html", "evaluation.json", "README.md"}
    assert json.loads(Path("out/evaluation.json").read_text()) == json.loads(json.dumps(evaluation.to_json()))
    assert len(repr(evaluation)) < 200
    with pytest.raises(GatsbyError, match="nowhere"):
        gatsby.report(model, "out", stories=stories, reference_model="nowhere")


def test_documented_names_are_the_public_ones():
    """docs/api.md has a heading for every public name, or lists it among the errors, and has no other one.

    It also has the options of training, which `train` and `train_events` share.
    """
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    headings = set(re.findall(r"^## ([A-Za-z_]+)$", page, re.MULTILINE)) - {"Errors", "Version", "plan_training"}
    errors = page.split("\n## Errors\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([A-Za-z]+Error)`", errors.split("```")[0]))
    assert headings | listed | {"__version__"} == set(gatsby.__all__)
    assert "__version__" in page
