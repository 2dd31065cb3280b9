"""What this package did at version 0.1.0, held from outside: through the command line and the files it leaves.

Nothing here imports a module of the package but `gatsby_mlx.cli`, for its `main`. The folder `pins` holds what was
written then: corpora, a journal of a run of `gatsby write` that was killed, a training run that was stopped half-way,
a checkpoint and its exported forms, stories with all their measures, and the command tree. Later versions may add
keys, commands and options; they may not lose or change any. Figures that hang on how a machine's kernels round
(losses, weights) are compared in kind, or to a thousandth where a run has to follow the run of then.
"""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from gatsby_mlx import config
from gatsby_mlx.cli import main

ROOT = Path(__file__).resolve().parents[1]
PINS = Path(__file__).resolve().parent / "pins"
SHIPPED = ROOT / "checkpoints" / "small"
TRAIN = {
    "tune": ["--preset", "tune", "--from", "tiny", "--corpus", "corpus", "--max-chars", 24_000, "--lr", 0.01],
    "pocket": ["--preset", "pocket", "--from", "tiny", "--corpus", "corpus", "--max-chars", 6_000, "--lr", 0.01],
    "nothing": ["--preset", "pocket", "--corpus", "corpus", "--max-chars", 3_000],
    "seed": ["--preset", "seed", "--from", "tiny", "--corpus", "corpus", "--max-chars", 60_000, "--lr", 0.01],
}
# What kernels round, in events, config.json and state.json, and what clocks tell.
LOSSES = {"loss", "story_loss", "header_loss", "story_bpc"}
ROUNDED = LOSSES | {"grad_norm", "dial", "dial_error", "best_loss", "best_dial", "best_dial_loss"}
CLOCKS = {"seconds", "chars_per_s", "seconds_left", "timings"}
HEX = re.compile(r"[0-9a-f]{64}")


def gatsby(*words: object, code: int = 0) -> Result:
    """Run `gatsby` in this process."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def pinned(name: str) -> Any:
    return json.loads((PINS / name).read_text("utf-8"))


def read(path: Path | str) -> Any:
    return json.loads(Path(path).read_text("utf-8"))


def rows_of(path: Path | str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """The working folder, with copies of the pinned folders in it."""
    for name in ("corpus", "tiny", "run", "gpt2", "native"):
        shutil.copytree(PINS / name, tmp_path / name)
    shutil.copy(PINS / "stories.jsonl", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kind(value: Any) -> str:
    """Return the JSON type of a value; whole numbers and others are one."""
    if isinstance(value, bool):
        return "bool"
    names = {dict: "object", list: "list", str: "string", int: "number", float: "number", type(None): "null"}
    return names[type(value)]


def changes(old: Any, new: Any, rounded: frozenset[str] | set[str] = frozenset(), at: str = "") -> Iterator[str]:
    """Yield where `new` is not what `old` was: added keys are passed over, as is the value of a key in `rounded`."""
    if kind(old) != kind(new):
        yield f"{at}: {old!r:.60} is {new!r:.60}"
    elif isinstance(old, dict):
        for key, value in old.items():
            where = f"{at}.{key}"
            if key not in new:
                yield f"{where} is lost"
            elif key not in rounded:
                yield from changes(value, new[key], rounded, where)
            elif shapes := list(misshapen(shape(value), shape(new[key]), where)):
                yield from shapes
    elif isinstance(old, list):
        if len(old) != len(new):
            yield f"{at}: {len(old)} items are {len(new)}"
        for n, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from changes(one, other, rounded, f"{at}[{n}]")
    elif old != new and not (kind(old) == "number" and math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-12)):
        yield f"{at}: {old!r:.60} is {new!r:.60}"


def shape(value: Any) -> Any:
    """Return a document's shape: its keys and JSON types, a list's by its first element."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return kind(value)


def misshapen(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """Yield where the shape `new` lacks what the shape `old` has.

    What is null on one machine or for one model may have a value elsewhere, and a list may be empty.
    """
    if old == "null" or (isinstance(old, str) and new == "null"):
        return
    if type(old) is not type(new) or (isinstance(old, str) and old != new):
        yield f"{at}: {old!r:.60} is {new!r:.60}"
    elif at.endswith(".misspelled"):
        return  # its keys are words
    elif isinstance(old, dict):
        for key, value in old.items():
            if key in new:
                yield from misshapen(value, new[key], f"{at}.{key}")
            else:
                yield f"{at}.{key} is lost"
    elif isinstance(old, list) and old and new:
        yield from misshapen(old[0], new[0], f"{at}[0]")


def same(old: Any, new: Any, rounded: frozenset[str] | set[str] = frozenset()) -> None:
    if isinstance(old, dict) and "gates" in old:  # later versions have more gates
        new = {**new, "gates": [gate for gate in new["gates"] if gate in old["gates"]]}
    assert not list(changes(old, new, rounded))


def same_shape(name: str, document: Any) -> None:
    assert not list(misshapen(pinned("shapes.json")[name], shape(document)))


# The ways of comparing, themselves.


def test_added_keys_pass_and_lost_or_changed_ones_are_named():
    old = {"a": 1, "b": [{"c": "x", "loss": 0.5}], "d": None}
    same(old, {"a": 1, "b": [{"c": "x", "loss": 0.7, "new": 1}], "d": None, "e": {}}, {"loss"})
    assert list(changes(old, {"b": [{"c": "y", "loss": "z"}], "d": None}, {"loss"})) == [
        ".a is lost",
        ".b[0].c: 'x' is 'y'",
        ".b[0].loss: 'number' is 'string'",
    ]
    assert list(changes([1, 2], [1])) == [": 2 items are 1"]
    assert not list(misshapen(shape({"a": 1.0, "b": [], "c": None}), shape({"a": None, "b": [1], "c": {"d": 1}})))
    assert list(misshapen(shape({"a": [1], "b": {}}), shape({"a": "x", "b": None})))


# The command line: every name and spelling.


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command under one, by its words."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None, name
            yield from tree(found, (*path, name))


def described(option: click.Parameter) -> dict[str, Any]:
    """Return what a person can type for an option or argument, and what stands in its place when nothing is typed."""
    default = option.default
    told: dict[str, Any] = {
        "names": sorted([*option.opts, *option.secondary_opts]) if isinstance(option, click.Option) else [],
        "flag": bool(getattr(option, "is_flag", False)),
        "nargs": option.nargs,
        "required": option.required,
        "default": default if isinstance(default, str | int | float) and default is not False else None,
    }
    if isinstance(option.type, click.Choice):
        told["choices"] = list(option.type.choices)
    return told


def command_tree() -> dict[str, list[dict[str, Any]]]:
    return {path: [described(option) for option in command.params] for path, command in tree(main)}


def find(path: str) -> click.Command:
    """Return the command of these words, whether it is shown or hidden."""
    found: click.Command = main
    for word in path.split():
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None, f"gatsby {path} is lost"
        found = inner
    return found


@pytest.mark.parametrize("path", sorted(pinned("commands.json")), ids=lambda path: path or "gatsby")
def test_command_takes_what_it_took(path):
    command, old = find(path), pinned("commands.json")[path]
    new = [described(option) for option in command.params]
    options = {name: option for option in new for name in option["names"]}
    taken: list[str] = []
    for option in old:
        for name in option["names"]:
            assert name in options, f"gatsby {path} {name} is lost"
            now = options[name]
            assert {k: now[k] for k in ("flag", "nargs", "default")} == {
                k: option[k] for k in ("flag", "nargs", "default")
            }, name
            assert set(option.get("choices", [])) <= set(now.get("choices", option.get("choices", []))), name
            taken.append(name)
    needed = {name for name, option in options.items() if option["required"]}
    assert needed <= {name for option in old if option["required"] for name in option["names"]}
    arguments = [[option["nargs"], option["required"]] for option in new if not option["names"]]
    assert arguments == [[option["nargs"], option["required"]] for option in old if not option["names"]]
    assert gatsby(*path.split(), "-h").stdout == gatsby(*path.split(), "--help").stdout


# `gatsby write`: byte for byte.


@pytest.mark.parametrize("writer", ["house", "house-plain", "house-small"])
def test_small_corpus_is_the_one_of_then(desk, writer):
    gatsby("write", "--writer", writer, "--n", 10, "--seed", 7, "--out", "out")
    kept = PINS / "written" / writer
    assert (desk / "out" / "raw.txt").read_bytes() == (kept / "raw.txt").read_bytes()
    same(read(kept / "manifest.json"), read("out/manifest.json"), CLOCKS)
    assert sorted(p.name for p in Path("out").iterdir() if not p.name.startswith(".")) == ["manifest.json", "raw.txt"]


@pytest.mark.parametrize("case", pinned("write.json"), ids=lambda case: case["command"])
def test_larger_corpus_is_the_one_of_then(desk, case):
    gatsby(*case["command"].split(), "--out", "out")
    assert digests(Path("out"), case["keys"]) == case["sha256"]
    same(case["manifest"], read("out/manifest.json"), CLOCKS)


def digests(folder: Path, keys: list[str]) -> dict[str, str]:
    """Return the sha256 of raw.txt, and of the manifest's rows by these keys."""
    rows = [[row[key] for key in keys] for row in read(folder / "manifest.json")["stories"]]
    return {"raw.txt": sha256(folder / "raw.txt"), "stories": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


def test_corpus_of_then_is_sound_and_left_alone(desk):
    assert "50 stories; every offset, length and hash agrees" in gatsby("corpus", "verify", "corpus").stdout
    before = {path.name: path.read_bytes() for path in Path("corpus").iterdir()}
    told = gatsby("write", "--writer", "house-small", "--n", 50, "--seed", 7, "--out", "corpus").stderr
    assert "holds this corpus already" in told
    assert {path.name: path.read_bytes() for path in Path("corpus").iterdir()} == before


def test_journal_of_then_goes_on_to_the_unbroken_corpus(desk):
    with tarfile.open(PINS / "stopped.tar.xz") as archive:
        archive.extractall(desk, filter="data")
    case = pinned("stopped.json")
    gatsby("write", "--assemble", "--out", "stopped")
    assert len(read("stopped/manifest.json")["stories"]) == case["kept"]
    gatsby(*case["command"].split(), "--out", "stopped")
    assert digests(Path("stopped"), case["keys"]) == case["sha256"]
    same(case["manifest"], read("stopped/manifest.json"), CLOCKS)


# `gatsby train`: what it reads, in which order, and what it leaves.


def events_agree(old: list[dict], new: list[dict]) -> None:
    """Check that a run follows the one of then: characters and rates to the digit, losses to a thousandth."""
    new = [row for row in new if row["event"] in ("train", "eval")]  # other kinds of events may join them
    same(old, new, ROUNDED | CLOCKS)
    for was, now in zip(old, new, strict=True):
        for key in LOSSES & was.keys():
            assert (was[key] is None) == (now[key] is None), (was, now)
            assert was[key] is None or abs(was[key] - now[key]) < 1e-3, (key, was, now)


def documents_agree(old: dict[str, dict], run: Path) -> None:
    """Check config.json and state.json of a run's checkpoints; the weights' hash, which kernels round, in kind."""
    for name, document in old.items():
        found = read(run / name)
        wanted = json.loads(json.dumps(document))
        if "weights" in wanted:
            assert HEX.fullmatch(found["weights"]["sha256"])
            assert found["weights"]["sha256"] == sha256((run / name).with_name("model.safetensors"))
            wanted["weights"]["sha256"] = found["weights"]["sha256"]
        same(wanted, found, ROUNDED | CLOCKS)


def slow(*names: str) -> list:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", ["tune", "pocket", *slow("nothing", "seed")])
def test_training_is_the_one_of_then(cpu, desk, name):
    gatsby("train", *TRAIN[name], "--out", "fresh")
    kept = pinned(f"trained/{name}.json")
    events_agree(kept["metrics"], rows_of("fresh/metrics.jsonl"))
    documents_agree(kept["documents"], Path("fresh"))
    assert set(kept["files"]) <= {p.relative_to("fresh").as_posix() for p in Path("fresh").rglob("*") if p.is_file()}


def test_run_of_then_goes_on_to_its_end(desk):
    before = Path("run/metrics.jsonl").read_text("utf-8")
    stopped = read("run/last/state.json")["progress"]["step"]
    assert "arrays of optimiser state are whole" in gatsby("checkpoint", "verify", "run").stdout
    gatsby("train", *TRAIN["tune"], "--out", "run", "--resume")
    kept = pinned("trained/tune.json")
    assert Path("run/metrics.jsonl").read_text("utf-8").startswith(before)
    rows = rows_of("run/metrics.jsonl")
    assert 0 < stopped < rows[-1]["step"]
    events_agree(kept["metrics"], rows)
    documents_agree(kept["documents"], Path("run"))
    assert "is sound" in gatsby("checkpoint", "verify", "run").stdout


def test_run_of_then_refuses_other_options(desk):
    told = gatsby("train", *TRAIN["tune"], "--seed", 3, "--out", "run", "--resume", code=1).stderr
    assert "another seed" in told


def begun(preset: str, out: Path) -> dict[str, dict]:
    """Start a training run with a preset, kill it once its untrained model is saved, and return what it told of it."""
    words = ["train", "--preset", preset, "--corpus", "corpus", "--out", str(out)]
    words += ["--micro-chars", str(config.preset(preset).training.micro_chars)]  # a GPU's are sized by its memory
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-m", "gatsby_mlx", *words], env=env, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not (out / "last" / "state.json").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return {name: read(out / name) for name in ("last/config.json", "last/state.json")}


@pytest.mark.parametrize("preset", ["pocket", "small", "tune", *slow("story", "seed")])
def test_preset_is_the_one_of_then(desk, preset):
    documents = begun(preset, Path("begun"))
    old = pinned("presets.json")[preset]
    if preset == "tune":  # it begins from the checkpoint that ships, which may be another one by now
        for found in (old["last/config.json"], old["last/state.json"]["run"]):
            assert set(found.pop("start")) <= set(documents["last/config.json"]["start"])
    if documents["last/state.json"]["progress"]["step"]:  # it had made a step before it was killed
        pytest.fail("the untrained model was not met")
    documents_agree(old, Path("begun"))


# Checkpoints and their forms.


def test_checkpoint_of_then_is_read(desk):
    for folder in ("tiny", "native"):
        assert f"{folder} is sound" in gatsby("checkpoint", "verify", folder).stdout
        told = json.loads(gatsby("tell", "a lost kitten", "--model", folder, "--seed", 1, "--json").stdout)
        assert told["model"] == folder
        assert told["stories"][0]["story"]


@pytest.mark.parametrize(("form", "options"), [("gpt2", []), ("native", ["--dtype", "float16"])])
def test_export_is_the_one_of_then(desk, form, options):
    gatsby("export", "tiny", "--to", form, *options, "--out", "exported")
    for path in (PINS / form).iterdir():
        found = desk / "exported" / path.name
        if path.suffix == ".json":
            same(read(path), read(found))
        elif path.name != "README.md":
            assert found.read_bytes() == path.read_bytes(), path.name
        assert found.is_file()


def test_gpt2_form_of_then_is_told_from_a_checkpoint(desk):
    assert "gpt2 has format None" in gatsby("tell", "a lost kitten", "--model", "gpt2", code=1).stderr


# The documents of --json.


def test_checkpoint_documents_are_those_of_then(desk):
    listed = json.loads(gatsby("checkpoint", "list", "tiny", "--json").stdout)
    shown = json.loads(gatsby("checkpoint", "show", "tiny", "--json").stdout)
    same(pinned("documents/checkpoint-list.json"), listed)
    same(pinned("documents/checkpoint-show.json"), shown)


def test_corpus_document_is_the_one_of_then(desk):
    told = json.loads(gatsby("corpus", "show", "corpus", "--json").stdout)
    same(pinned("documents/corpus-show.json"), told)


@pytest.mark.parametrize("command", ["dial", "honour", "prose"])
def test_measures_of_the_stories_of_then(desk, command):
    """The stories of then, measured again, figure by figure; the bootstrap is seeded."""
    told = json.loads(gatsby(command, "--stories", "stories.jsonl", "--corpus", "corpus", "--json").stdout)
    same(pinned(f"documents/{command}.json"), told)
    same_shape(command, told)


def test_evaluation_of_the_stories_of_then(desk):
    gatsby("report", "--model", "tiny", "--stories", "stories.jsonl", "--corpus", "corpus", "--out", "report")
    told = read("report/evaluation.json")
    same(pinned("documents/evaluation.json"), told)
    same_shape("evaluation.json", told)
    assert all(Path("report", name).stat().st_size for name in ("README.md", "evaluation.json", "index.html"))


def test_samples_of_the_stories_of_then(desk):
    told = gatsby("samples", "--stories", "stories.jsonl").stdout
    assert told == (PINS / "samples.md").read_text("utf-8")


def test_doctor_has_the_shape_of_then():
    same_shape("doctor", json.loads(gatsby("doctor", "--json").stdout))


# The checkpoint that ships tells stories: what no kernel's rounding changes in them.

SHORT = ["--max-tokens", 40, "--n-topics", 2, "--seeds", 1, "--batch", 16]


def masked(page: str) -> str:
    """Return a page of samples with marks in the place of its stories and of what is counted in them."""
    page = re.sub(r"(?m)^(\| \[.*?\]\(#\d+\)).*$", r"\1 COUNTS |", page)
    page = re.sub(r"(?m)^(\*\*\d \w+\*\*) \(\d+, seed (\d+)(?:, cut)?\)$", r"\1 (N, seed \2)", page)
    return re.sub(r"(?m)^>.*(?:\n>.*)*$", "> STORY", page)


def test_stories_file_has_the_form_of_then_and_is_told_again(desk):
    page = gatsby("samples", "--model", SHIPPED, *SHORT, "--stories", "told.jsonl").stdout
    assert masked(page) == (PINS / "samples-masked.md").read_text("utf-8")
    head, *rows = rows_of("told.jsonl")
    old, *old_rows = rows_of(PINS / "told.jsonl")
    assert set(old["source"]) <= set(head["source"])
    same({k: v for k, v in old.items() if k != "source"}, head)
    order = sorted(rows, key=lambda row: (old["plan"]["topics"].index(row["topic"]), row["level"]))
    same(old_rows, order, {"text", "finish", "n_chars"})
    assert all(row["n_chars"] <= 40 for row in rows)
    for command in ("dial", "honour", "prose"):  # of stories that are whole, no model is loaded
        told = gatsby(command, "--stories", "told.jsonl", "--corpus", "corpus", "--json").stdout
        same_shape(f"{command}, short", json.loads(told))
    gatsby("samples", "--model", SHIPPED, *SHORT, "--stories", "again.jsonl")
    assert sorted(rows_of("again.jsonl")[1:], key=str) == sorted(rows, key=str)


def test_tell_has_the_form_of_then_and_tells_it_again(desk):
    words = ["tell", "A Lost  Kitten", "--all-levels", "--seed", 7, "--json", "--max-tokens", 40, "--model", SHIPPED]
    told = gatsby(*words).stdout
    document = json.loads(told)
    same_shape("tell", document)
    assert (document["topic"], document["seed"]) == ("a lost kitten", 7)
    assert [story["level"] for story in document["stories"]] == [1, 2, 3, 4, 5]
    assert gatsby(*words).stdout == told


@pytest.mark.slow
def test_report_of_the_checkpoint_that_ships_has_the_shape_of_then(desk):
    gatsby("report", "--model", SHIPPED, "--n-topics", 2, "--seeds", 1, "--out", "report")
    same_shape("evaluation.json, shipped", read("report/evaluation.json"))
