"""What reads bytes that others wrote never ends in anything but a value or an error of the project's.

Hypothesis damages real files (cuts, flips, repeats, inserts) and replaces parts of real JSON. Each reader gets a few
seconds; all of it is a minute in `make test-all`.
"""

import io
import json
import pickle
import sqlite3
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatsby_mlx.bench import document as bench_document
from gatsby_mlx.cli.corpus import acceptance_table, empty_line
from gatsby_mlx.corpus import blend, load, manifest
from gatsby_mlx.corpus.compose import assemble
from gatsby_mlx.errors import GatsbyError
from gatsby_mlx.evaluation import stories, topics
from gatsby_mlx.hub import torch_pickle, vocabulary
from gatsby_mlx.hub.archive import open_archive
from gatsby_mlx.model import checkpoint
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training import record
from gatsby_mlx.writers import local_models
from gatsby_mlx.writers.answers import chat_models, read
from gatsby_mlx.writers.transport import BadAnswerError

PINS = Path(__file__).resolve().parent / "pins"
pytestmark = pytest.mark.slow
EXAMPLES = 120
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["1", ""])
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: Callable, whole: bytes) -> bytes:
    """Return `whole` after up to four of the things that happen to files."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "drop", "flip", "insert", "repeat", "swap"])):
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 40))]
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xef\xbb\xbf", b"\r", b"\0"]))
            case "repeat":
                data[at:at] = data[at : at + 200]
            case "swap" if at < len(data):  # a value in a text: a digit becomes another
                data[at : at + 1] = draw(st.sampled_from([b"9", b"-", b"e", b"{", b"[", b'"']))
            case _:
                pass
    return bytes(data)


@st.composite
def changed(draw: Callable, whole: Any) -> Any:
    """Return a JSON value with one of its parts, however deep, replaced by anything, or left out."""
    if isinstance(whole, dict) and whole and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(whole)))
        if not draw(st.integers(0, 6)):
            return {k: v for k, v in whole.items() if k != key}
        return {**whole, key: draw(changed(whole[key]))}
    if isinstance(whole, list) and whole and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(whole) - 1))
        return [*whole[:at], draw(changed(whole[at])), *whole[at + 1 :]]
    return draw(anything)


ODD = (None, True, -1, 2**70, 1.5, "", "1", "a cat", [], {}, [[1]], {"a": None}, [None, "x"])


def mutated(whole: Any, random: Random) -> Any:
    """Return a JSON value with one of its parts replaced by an odd one, or left out."""
    if isinstance(whole, dict) and whole and random.random() < 0.8:
        key = random.choice(sorted(whole))
        if random.random() < 0.15:
            return {k: v for k, v in whole.items() if k != key}
        return {**whole, key: mutated(whole[key], random)}
    if isinstance(whole, list) and whole and random.random() < 0.8:
        at = random.randrange(len(whole))
        return [*whole[:at], mutated(whole[at], random), *whole[at + 1 :]]
    return random.choice(ODD)


def tolerates(reading: Callable[[], object]) -> None:
    """Read; an error of the project's, in one line, is as good as a value. Anything else is a bug."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            reading()
        except GatsbyError as error:
            line = error.line()
            assert "\n" not in line and len(line) < 1_000, line
            assert error.hint, line


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


RAW = (PINS / "corpus" / "raw.txt").read_bytes()[:6_000]
MANIFEST = json.loads((PINS / "corpus" / "manifest.json").read_text("utf-8"))
TOLD = (PINS / "told.jsonl").read_bytes()
NATIVE = PINS / "native"


@FUZZ
@given(damaged(RAW))
@example(b"\xff\xfe[\0g\0")
def test_a_corpus_is_read_or_refused(tmp_path, data):
    (tmp_path / "c.txt").write_bytes(data)
    tolerates(lambda: load.load(tmp_path / "c.txt"))


@FUZZ
@given(changed(MANIFEST).map(text_of) | damaged(text_of(MANIFEST)))
@example(b"[" * 200_000)
@example(text_of({**MANIFEST, "counts": None}))
@example(text_of({**MANIFEST, "attempts": {"x": {"written": 0, "passed": 0, "tokens_out": 1, "failed": None}}}))
@example(text_of({**MANIFEST, "timings": {"by_writer": {"x": "soon"}}}))
@example(b'{"stories": [], "schema": "gatsby-mlx/corpus/1", "obsession": {"levels": [1, 2, 3, 4, 5]}}')
def test_a_manifest_is_read_or_refused(tmp_path, data):
    (tmp_path / "raw.txt").write_bytes((PINS / "corpus" / "raw.txt").read_bytes())
    (tmp_path / "manifest.json").write_bytes(data)

    def reading() -> None:
        found = load.load(tmp_path / "raw.txt")
        manifest.recipe(found.manifest)
        shown = acceptance_table(found.manifest), empty_line(found.manifest)
        assert all(isinstance(text, str) for text in shown)
        manifest.check(found.documents, found.manifest, found.path)

    tolerates(reading)


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


@FUZZ
@given(st.data())
def test_a_checkpoints_config_and_tokenizer_are_read_or_refused(tmp_path, data):
    name = data.draw(st.sampled_from(["config.json", "tokenizer.json"]))
    whole = (NATIVE / name).read_bytes()
    given = data.draw(changed(json.loads(whole)).map(text_of) | damaged(whole))
    for file in NATIVE.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_bytes(given)
    tolerates(lambda: checkpoint.load(tmp_path))


@FUZZ
@given(damaged((NATIVE / "model.safetensors").read_bytes()[:4_000]))
def test_damaged_weights_are_refused(tmp_path, data):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((NATIVE / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(data)
    tolerates(lambda: checkpoint.load(tmp_path))


@FUZZ
@given(changed(json.loads(CharTokenizer("[ab").to_json())).map(json.dumps))
def test_any_tokenizer_file_is_read_or_refused(content):
    tolerates(lambda: CharTokenizer.from_json(content))


@FUZZ
@given(damaged(TOLD[:8_000]))
def test_stories_of_an_evaluation_are_read_or_refused(tmp_path, data):
    (tmp_path / "told.jsonl").write_bytes(data)
    tolerates(lambda: stories.read(tmp_path / "told.jsonl"))


@FUZZ
@given(changed([json.loads(line) for line in TOLD.splitlines()[:6]]))
def test_lines_of_an_evaluation_with_other_values_are_read_or_refused(tmp_path, lines):
    rows = lines if isinstance(lines, list) else [lines]
    (tmp_path / "told.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tolerates(lambda: stories.read(tmp_path / "told.jsonl"))


TOML = b"""[writers.mine]
model = "mlx-community/Qwen3-8B-4bit"
revision = "main"
share = 0.6
temp = 0.9
[writers.served]
model = "server:http://localhost:1234"
api_key_env = "SERVER_KEY"
[bands]
5 = [11, 30]
"""


@FUZZ
@given(damaged(TOML))
@example(b"a=" + b"[" * 5_000)
@example(b"writers = 1")
def test_a_blend_file_is_read_or_refused(tmp_path, data):
    (tmp_path / "b.toml").write_bytes(data)
    tolerates(lambda: blend.parse(str(tmp_path / "b.toml")))


@FUZZ
@given(damaged(b"a cat\n# comment\na dog and a balloon\n"))
def test_topics_are_read_or_refused(tmp_path, data):
    (tmp_path / "t.txt").write_bytes(data)
    tolerates(lambda: topics.read_topics(tmp_path / "t.txt"))


ANSWER = {
    "id": "x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Nora."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 3}},
}
LIST = {"object": "list", "data": [{"id": "text-embedding"}, {"id": "qwen3-8b", "type": "llm"}]}


@FUZZ
@given(changed(ANSWER), changed(LIST))
def test_any_answer_of_a_server_is_read_or_refused(answer, models):
    if isinstance(answer, dict):
        tolerates(lambda: read(answer, "http://localhost"))
    if isinstance(models, dict):
        tolerates(lambda: chat_models(models))
    assert issubclass(BadAnswerError, GatsbyError)


@FUZZ
@given(st.data())
def test_a_vocabulary_is_read_or_refused(tmp_path, data):
    table = {"stoi": {"a": 0, "b": 1}, "itos": {"0": "a", "1": "b"}, "vocab_size": 2}
    (tmp_path / "v.json").write_bytes(text_of(data.draw(changed(table))))
    tolerates(lambda: vocabulary.from_file(tmp_path / "v.json"))
    pickled = pickle.dumps({"stoi": {"a": 0}, "itos": {0: "a"}, "more": {1, 2}}, data.draw(st.integers(0, 5)))
    (tmp_path / "m.pkl").write_bytes(data.draw(damaged(pickled)))
    tolerates(lambda: vocabulary.from_file(tmp_path / "m.pkl"))


@FUZZ
@given(damaged(pickle.dumps({"a": [1, 2.5, ("b", None)], "c": b"bytes", "d": {3}, "e": Path("f")}, 2)))
def test_a_pickle_is_read_or_refused(data):
    tolerates(lambda: torch_pickle.loads(data, "it"))


@FUZZ
@given(st.data())
def test_a_zip_file_is_read_or_refused(tmp_path, data):
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("ckpt/data.pkl", pickle.dumps({"model": {}}, 2))
        archive.writestr("ckpt/byteorder", "little")
    (tmp_path / "c.pt").write_bytes(data.draw(damaged(out.getvalue())))

    def reading() -> None:
        with open_archive(tmp_path / "c.pt") as archive:
            for name in archive.entries:
                archive.read(name)
        with torch_pickle.open_checkpoint(tmp_path / "c.pt"):
            pass

    tolerates(reading)


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> bytes:
    """Return a journal of a run that was stopped, as one file."""
    from gatsby_mlx import api
    from gatsby_mlx.corpus.write import Written

    out = tmp_path_factory.mktemp("journal") / "c"
    chosen = api.as_blend("house-small")
    events = iter(api.plan_writing(chosen, api.write_config(chosen, 10), out))
    for _ in range(6):
        while not isinstance(next(events), Written):
            pass
    events.close()
    with sqlite3.connect(out / "journal.sqlite3") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return (out / "journal.sqlite3").read_bytes()


@FUZZ
@given(st.data())
def test_a_journal_is_resumed_or_refused(tmp_path_factory, journal, data):
    out = tmp_path_factory.mktemp("c")
    (out / "journal.sqlite3").write_bytes(data.draw(damaged(journal)))
    tolerates(lambda: assemble(out))


@pytest.fixture(scope="module")
def facts(tmp_path_factory, journal) -> dict[str, Any]:
    """Return what the journal says of its plan and of what was asked for."""
    path = tmp_path_factory.mktemp("facts") / "journal.sqlite3"
    path.write_bytes(journal)
    database = sqlite3.connect(path)
    rows = dict(database.execute("SELECT key, value FROM facts").fetchall())
    database.close()
    return {key: json.loads(rows[key]) for key in ("plan", "request")}


COLUMNS = ["writer", "topic", "level", "name", "seed", "story", "mentions", "failed"]
CELLS = (None, -1, 2**62, 1.5, "", "1", "a cat", "[", b"\x00")


@pytest.mark.parametrize("key", ["plan", "request"])
def test_a_journal_with_other_content_is_resumed_or_refused(tmp_path_factory, journal, facts, key):
    for seed in range(EXAMPLES):
        random = Random(seed)
        column, cell = random.choice(COLUMNS), random.choice(CELLS)
        out = tmp_path_factory.mktemp("c")
        (out / "journal.sqlite3").write_bytes(journal)
        database = sqlite3.connect(out / "journal.sqlite3")
        new = json.dumps(mutated(facts[key], random))
        database.execute("UPDATE facts SET value = ? WHERE key = ?", (new, key))
        database.execute(f"UPDATE OR IGNORE attempts SET {column} = ?", (cell,))
        database.commit()
        database.close()
        tolerates(partial(assemble, out))


@FUZZ
@given(st.data())
def test_what_surrounds_a_run_is_read_or_refused(tmp_path, data):
    (tmp_path / "metrics.jsonl").write_bytes(data.draw(damaged(b'{"step": 1, "event": "train"}\n{"step": 2}\n')))
    tolerates(lambda: record.read_metrics(tmp_path / "metrics.jsonl"))
    tolerates(lambda: record.open_metrics(tmp_path / "metrics.jsonl", 1).close())
    (tmp_path / "b.json").write_bytes(text_of(data.draw(changed({"schema": bench_document.SCHEMA, "results": []}))))
    tolerates(lambda: bench_document.read(tmp_path / "b.json"))
    folder = tmp_path / "m"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"")
    for name in ("config.json", "model.safetensors.index.json"):
        (folder / name).write_bytes(
            text_of(data.draw(changed({"weight_map": {"a": "b"}, "quantization": {"bits": 4}})))
        )
    tolerates(lambda: local_models.is_model(folder) and local_models._is_4bit(folder))
