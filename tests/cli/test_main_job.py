"""The main job, command by command: write, corpus show, train, tell, dial."""

import json
import math
import re
import shlex

import pytest
from cli_tools import document, gatsby, save_model

from gatsby_mlx import shipped
from gatsby_mlx.corpus.load import load

TOPIC = "a dog and a balloon"


def test_write_reports_on_stderr_and_leaves_a_corpus(corpus):
    found = load(corpus)
    assert len(found.documents) == 50
    assert {d.level for d in found.documents} == {1, 2, 3, 4, 5}
    again = gatsby("write", "--n", 50, "--out", corpus)
    assert again.exit_code == 0
    assert again.stdout == ""
    assert "nothing to do" in again.stderr


def test_write_uses_given_topics_at_five_levels(workdir):
    (workdir / "mine.txt").write_text("A Lost Kitten\n\n# a comment\na dog and a balloon\nthe old clock\n")
    assert gatsby("write", "--topics", "mine.txt", "--out", "all").exit_code == 0
    assert len(load("all").documents) == 15
    assert gatsby("write", "--topics", "mine.txt", "--n", 10, "--out", "some").exit_code == 0
    assert {d.topic for d in load("some").documents} == {"a lost kitten", TOPIC}


def test_corpus_show_prints_a_table_and_one_json_document(corpus):
    shown = gatsby("corpus", "show", corpus)
    assert shown.exit_code == 0
    assert shown.stderr == ""
    assert "50 stories" in shown.stdout
    assert re.search(r"^house +1\.\d\d \(\d-\d\)", shown.stdout, re.MULTILINE)
    result = document(gatsby("corpus", "show", corpus / "raw.txt", "--json"))
    assert result["documents"] == 50
    (dial,) = result["dial"]
    assert dial["writer"] == "house"
    assert dial["means"] == sorted(dial["means"])
    assert dial["n"] == [10] * 5


def test_corpus_show_of_a_corpus_without_a_level_is_still_json(corpus, workdir):
    kept = [d.text for d in load(corpus).documents if d.level != 4]
    (workdir / "raw.txt").write_text("".join(kept))
    shown = gatsby("corpus", "show", "raw.txt", "--json")
    result = json.loads(shown.stdout, parse_constant=lambda name: pytest.fail(f"JSON has no {name}"))
    assert result["dial"][0]["means"][3] is None
    assert "nan" not in gatsby("corpus", "show", "raw.txt").stdout


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_corpus_show_plots(corpus, workdir, suffix, start):
    assert gatsby("corpus", "show", corpus, "--plot", f"dial.{suffix}").exit_code == 0
    assert start in (workdir / f"dial.{suffix}").read_bytes()[:400]


def test_train_leaves_checkpoints_metrics_and_a_hint_that_works(corpus, workdir):
    done = gatsby("train", "--preset", "pocket", "--corpus", corpus, "--max-chars", 20_000, "--seed", 7)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "without the position table" in done.stderr
    assert "(best, best dial)" in done.stderr
    run = workdir / "runs" / "pocket"
    assert {"last", "best-loss", "best-dial", "metrics.jsonl", "loss.svg"} <= {p.name for p in run.iterdir()}
    assert re.search(r"dial [\d.]+ [\d.]+ [\d.]+ [\d.]+ [\d.]+ \(\d+% off\)", done.stderr)
    assert "small dial" in (run / "loss.svg").read_text()
    hint = shlex.split(done.stderr.splitlines()[-1])
    result = gatsby(*hint[1:], "--max-tokens", 20)
    assert result.exit_code == 0, result.output

    second = gatsby("train", "--preset", "pocket", "--corpus", corpus)
    assert second.exit_code == 1
    assert "runs/pocket" in second.stderr
    assert "--resume" in second.stderr

    unasked = gatsby("tell", TOPIC, "--max-tokens", 20)
    assert unasked.exit_code == 1, "a model that was trained here is never taken unasked"
    assert "No checkpoint ships" in unasked.stderr


def test_train_continues_from_a_checkpoint(corpus, model, workdir):
    few = ("--corpus", corpus, "--max-chars", 6_000)
    done = gatsby("train", "--from", model, *few)
    assert done.exit_code == 0, done.output
    assert f"from {model}" in done.stderr and "1 layer, 2 heads, 16 wide" in done.stderr
    assert (workdir / "runs" / "tune" / "best-loss").is_dir()

    none = gatsby("train", "--preset", "tune", *few, "--out", "other")
    assert none.exit_code == 2
    assert "No checkpoint ships" in none.stderr and "--from DIR" in none.stderr
    assert not (workdir / "other").exists()
    for wrong in ("nowhere", workdir):
        done = gatsby("train", "--from", wrong, *few, "--out", "other")
        assert done.exit_code == 1 and "no checkpoint" in done.stderr, done.output


def test_model_is_the_named_one_else_the_variable_s_else_the_one_that_ships(workdir, model, monkeypatch):
    for name in ("demo/run/best-loss", "runs/stopped/last"):
        save_model(workdir / name)
    monkeypatch.setattr(shipped, "checkpoint", lambda: model)
    told = ("tell", TOPIC, "--max-tokens", 5, "--seed", 1)
    assert gatsby(*told).stderr.splitlines()[0] == f"using the checkpoint that ships, {model.name}"
    monkeypatch.setenv("GATSBY_MODEL", "runs/stopped")
    assert gatsby(*told).stderr.splitlines()[0] == "using runs/stopped, which GATSBY_MODEL names"
    assert json.loads(gatsby(*told, "--json").stdout)["model"] == "runs/stopped/last"
    assert json.loads(gatsby(*told, "--json", "-m", "demo/run").stdout)["model"] == "demo/run/best-loss"
    assert "using" not in gatsby(*told, "-m", "demo/run").stderr
    monkeypatch.setenv("GATSBY_MODEL", "someone/light")
    assert "Get it with: gatsby pull someone/light" in gatsby(*told).stderr


def test_tell_streams_the_story_that_json_holds(model):
    options = ("tell", TOPIC, "--green", 5, "--seed", 11, "--model", model, "--max-tokens", 300)
    streamed, result = gatsby(*options), document(gatsby(*options, "--json"))
    (story,) = result["stories"]
    assert (result["topic"], result["seed"], story["level"]) == (TOPIC, 11, 5)
    assert streamed.stdout == story["story"] + "\n"
    assert gatsby(*options).stdout == streamed.stdout
    assert gatsby(*options[:5], 12, *options[6:]).stdout != streamed.stdout
    assert story["finish"] == "limit"
    assert streamed.stderr == "(cut: --max-tokens is reached)\n"


def test_tell_shows_the_seed_it_chose(model):
    options = ("tell", TOPIC, "--model", model, "--max-tokens", 40)
    first = gatsby(*options)
    seed = re.search(r"^seed (\d+)$", first.stderr, re.MULTILINE)
    assert seed
    assert gatsby(*options, "--seed", seed[1]).stdout == first.stdout


def test_tell_reports_a_full_context(model):
    result = gatsby("tell", TOPIC, "--model", model, "--seed", 1, "--temp", 0)
    assert result.exit_code == 0
    assert result.stderr == "(cut: the context is full)\n"


def test_tell_all_levels_shows_columns_or_one_story_below_the_other(model, monkeypatch):
    options = ("tell", TOPIC, "--all-levels", "--seed", 4, "--model", model, "--max-tokens", 60)
    rows = document(gatsby(*options, "--json"))["stories"]
    assert [row["level"] for row in rows] == [1, 2, 3, 4, 5]
    monkeypatch.setenv("COLUMNS", "200")
    wide = gatsby(*options)
    assert wide.stdout.splitlines()[0].split() == [f"green={k}" for k in range(1, 6)]
    assert wide.stdout.splitlines()[-1].count("mention") == 5
    assert max(map(len, wide.stdout.splitlines())) <= 200
    monkeypatch.setenv("COLUMNS", "80")
    narrow = gatsby(*options)
    assert sum(line.startswith("green=") for line in narrow.stdout.splitlines()) == 5
    for row in rows:
        assert f"green={row['level']}\n{row['story']}\n({row['mentions']} mention" in narrow.stdout
    assert "(cut at level 3: --max-tokens is reached)" in narrow.stderr


def test_dial_prints_the_table_and_the_exact_json(model, workdir):
    (workdir / "mine.txt").write_text("A Dog and a Balloon\nthe old clock\n")
    options = ("dial", "--topics", "mine.txt", "--seeds", 1, "--max-tokens", 60, "--model", model)
    result = document(gatsby(*options, "--json"))
    assert set(result) >= {"levels", "spearman", "strictly_rising", "adjacent_auc", "seed_count", "topics", "seeds"}
    assert result["topics"] == 2
    assert [row["level"] for row in result["levels"]] == [1, 2, 3, 4, 5]
    for row in result["levels"]:
        assert {"mentions", "low", "high", "per_100_words", "n"} <= set(row)
        assert row["n"] == 2
        assert all(v is None or math.isfinite(v) for v in row.values())
    table = gatsby(*options, "--plot", "dial.svg")
    assert table.exit_code == 0
    assert "95% interval" in table.stdout
    assert "for comparison only" in table.stdout
    assert "<svg" in (workdir / "dial.svg").read_text()[:400]


SHORT = ("--n-topics", 3, "--seeds", 1, "--max-tokens", 60)


@pytest.fixture(scope="module")
def stories(model, tmp_path_factory):
    """A file of stories, told once for the commands that read one."""
    path = tmp_path_factory.mktemp("stories") / "told.jsonl"
    assert gatsby("dial", "--stories", path, "--model", model, *SHORT).exit_code == 0
    return path


def test_stories_are_told_once_and_read_by_every_measure(stories, model, corpus, workdir):
    before = stories.read_bytes()
    assert json.loads(before.splitlines()[0])["plan"]["seeds"] == 1
    again = gatsby("dial", "--stories", stories)
    assert again.exit_code == 0, "a whole file needs no model"
    assert again.stdout == gatsby("dial", "--stories", stories, "--model", model).stdout
    for command in ("honour", "prose"):
        shown = gatsby(command, "--stories", stories, "--corpus", corpus)
        assert shown.exit_code == 0, shown.output
        assert "did not learn from" in shown.stderr, "the tiny model learned from nothing"
        assert document(gatsby(command, "--stories", stories, "--corpus", corpus, "--json"))
    assert stories.read_bytes() == before


def test_honor_separates_seen_from_unseen_topics_where_it_can(stories, corpus):
    found = document(gatsby("honour", "--stories", stories, "--corpus", corpus, "--json"))
    assert found["unseen"]["topics"] + found["seen"]["topics"] == 3
    assert found["corpus"]["honoured"]["mean"] > 0.9 > found["corpus"]["honoured_chance"]["mean"]
    alone = gatsby("honour", "--stories", stories)
    assert "name it with --corpus" in alone.stderr
    assert "unseen nouns" not in alone.stdout
    assert "unseen nouns" in gatsby("honour", "--stories", stories, "--corpus", corpus).stdout


def test_prose_shows_the_corpus_beside_the_model(stories, corpus):
    shown = gatsby("prose", "--stories", stories, "--corpus", corpus)
    assert re.search(r"^stories that reach their end +\d.*100\.0%$", shown.stdout, re.MULTILINE)
    assert "unknown words: " in shown.stdout
    assert "longest passage" not in gatsby("prose", "--stories", stories).stdout


def test_dial_with_a_corpus_shows_the_deviation(stories, corpus):
    shown = gatsby("dial", "--stories", stories, "--corpus", corpus)
    assert re.search(r"corpus +off by$", shown.stdout.splitlines()[0])
    assert document(gatsby("dial", "--stories", stories, "--corpus", corpus, "--json"))["corpus"]["means"]


def test_report_writes_page_figures_and_card_and_resumes(model, corpus, workdir):
    words = ("report", "--model", model, "--corpus", corpus, "--out", "out", *SHORT)
    done = gatsby(*words)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (workdir / "out").iterdir()) == [
        "README.md",
        "evaluation.json",
        "index.html",
        "stories.jsonl",
    ]
    figures = (workdir / "out" / "evaluation.json").read_text()
    stories = (workdir / "out" / "stories.jsonl").read_text()
    (workdir / "out" / "stories.jsonl").write_text(stories[:-700])  # as a kill leaves it
    assert gatsby(*words).exit_code == 0
    assert (workdir / "out" / "evaluation.json").read_text() == figures
    other = save_model(workdir / "other", seed=9)
    refused = gatsby("report", "--model", other, "--corpus", corpus, "--out", "out", *SHORT)
    assert refused.exit_code == 1
    assert "another checkpoint" in refused.stderr.splitlines()[-1]


def test_samples_are_markdown_on_stdout_or_in_a_file(stories, model, workdir):
    shown = gatsby("samples", "--model", model, "--n-topics", 2, "--max-tokens", 40)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("\n## ") == 2
    assert gatsby("samples", "--stories", stories, "--out", "samples.md").stdout == ""
    assert (workdir / "samples.md").read_text().count("\n## ") == 3


def test_doctor_reports_as_text_and_as_json():
    result = document(gatsby("doctor", "--json"))
    assert {"device", "mlx", "blas", "measured_gflop_s", "memory", "compiler", "advice"} <= set(result)
    shown = gatsby("doctor").stdout
    assert "GFLOP/s" in shown
    assert "MLX" in shown


@pytest.mark.slow
def test_demo_writes_trains_tells_and_measures_in_a_small_world(workdir):
    done = gatsby("demo", "--n", 100, "--seconds", 1)  # as little training as there is
    assert done.exit_code == 0, done.output
    manifest = json.loads((workdir / "demo" / "corpus" / "manifest.json").read_text())
    assert manifest["writers"]["house-small"]["world"] == "small"
    result = {d.topic for d in load("demo/corpus").documents}
    asked = (workdir / "demo" / "topics.txt").read_text().splitlines()
    assert len(set(asked)) == 20 and not result & {*asked, "a puppy and a balloon"}
    dial = json.loads((workdir / "demo" / "dial.json").read_text())
    assert [level["n"] for level in dial["levels"]] == [20] * 5
    page = (workdir / "demo" / "index.html").read_text()
    assert page.count("seed 1925") == 5 and "A puppy and a balloon" in page
    assert "--topics demo/topics.txt" in done.stdout
    files = {p: p.read_bytes() for p in (workdir / "demo" / "run").rglob("*.safetensors")}
    again = gatsby("demo", "--n", 100, "--topic", "a pig and a star")
    assert again.exit_code == 0, again.output
    assert "resumed at step 0" in again.stdout and "missing" not in again.output
    trained = {p: p.read_bytes() for p in (workdir / "demo" / "run").rglob("*.safetensors")}
    assert trained != files
    again = gatsby("demo", "--n", 100, "--topic", "a duck and a star")
    assert again.exit_code == 0, again.output
    assert "trained by an earlier demo" in again.stdout
    assert trained == {p: p.read_bytes() for p in (workdir / "demo" / "run").rglob("*.safetensors")}
    assert "A duck and a star" in (workdir / "demo" / "index.html").read_text()
    other = gatsby("demo")
    assert other.exit_code == 1
    assert "gatsby demo --again --out demo" in other.stderr
