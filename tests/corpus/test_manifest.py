"""manifest: every offset, length and hash is checked against the corpus, and what differs is named."""

import copy
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gatsby_mlx.corpus import manifest
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.measure import measure
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story.document import Document, parse, render
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import ALPHABET, Prime, build

DOCUMENTS = parse(build("a cat", 1) + "A cat sat.\n\n" + build("a dog", 4) + "A dog ran.\n\nIt saw a green light.\n\n")


def content() -> dict:
    stories, offset = [], 0
    for name, d in zip(("Mia", "Tom"), DOCUMENTS, strict=True):
        row = {"writer": "house", "name": name, "topic": d.topic, "level": d.level, "offset": offset}
        stories.append(row | {"length": len(d.text), "sha256": hashlib.sha256(d.story.encode()).hexdigest()})
        offset += len(d.text)
    return {"schema": manifest.SCHEMA, "stories": stories, "rejected": [], "timings": {"seconds": 1.5}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw.txt").write_text(render(DOCUMENTS))
    (tmp_path / "manifest.json").write_text(manifest.dump(content()))
    return tmp_path


def test_manifest_gives_writer_hero_and_alphabet(folder):
    corpus = load(folder)
    assert [(d.writer, d.name) for d in corpus.documents] == [("house", "Mia"), ("house", "Tom")]
    assert corpus.alphabet == ALPHABET
    (folder / "manifest.json").unlink()
    assert [d.writer for d in load(folder).documents] == [None, None]


def test_dump_is_json_with_one_line_for_each_story():
    text = manifest.dump(content())
    assert json.loads(text) == content()
    assert sum('"topic"' in line for line in text.splitlines()) == 2
    assert all(line.count('"topic"') <= 1 for line in text.splitlines())


@pytest.mark.parametrize(
    ("key", "value"),
    [("offset", 1), ("length", 3), ("level", 5), ("topic", "a frog"), ("sha256", "0" * 64), ("offset", None)],
)
def test_entry_that_differs_is_refused_naming_key_and_story(folder, key, value):
    wrong = content()
    wrong["stories"][1][key] = value
    (folder / "manifest.json").write_text(manifest.dump(wrong))
    with pytest.raises(CorpusError, match=rf"disagree on {key} of story 2 \(a dog, level 4\)") as caught:
        load(folder)
    assert "move the manifest away" in caught.value.line()


def test_changed_character_in_the_corpus_is_noticed(folder):
    raw = folder / "raw.txt"
    raw.write_text(raw.read_text().replace("A dog ran", "A dog sat"))
    with pytest.raises(CorpusError, match="disagree on sha256 of story 2"):
        load(folder)


def test_missing_story_is_noticed(folder):
    (folder / "raw.txt").write_text(render(DOCUMENTS[:1]))
    with pytest.raises(CorpusError, match="lists 2 stories, and its corpus has 1"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "not a manifest of stories"),
        ("{}", "not a manifest of stories"),
        ('{"stories": 3}', "not a manifest of stories"),
        ('{"samples": ["a"]}', "not a manifest of stories"),
        ('{"stories": []}', "has schema None"),
        ('{"stories": [], "schema": "gatsby-mlx/corpus/9"}', "has schema 'gatsby-mlx/corpus/9'"),
    ],
)
def test_file_that_is_not_a_manifest_is_refused_with_a_hint(folder, text, why):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorpusError, match=why) as caught:
        load(folder)
    assert "move the manifest away" in caught.value.line()


WHALE = Obsession("whale", "white whale", title="The white whale")


def whale_corpus(folder: Path) -> list[Document]:
    """Write a corpus about the white whale to `folder`, with its manifest; return its documents."""
    stories = {1: "Ahab saw the White\nWhale.", 3: "A white whale! The white whale, a whale, a WHITE WHALE."}
    documents = [Document(Prime("a ship", k, None, WHALE), story, "ishmael", "Ahab") for k, story in stories.items()]
    entries, offset = [], 0
    for d in documents:
        digest = hashlib.sha256(d.story.encode()).hexdigest()
        entry = {"writer": d.writer, "name": d.name, "topic": d.topic, "level": d.level, "mentions": d.mentions}
        entries.append(entry | {"offset": offset, "length": len(d.text), "sha256": digest})
        offset += len(d.text)
    content = {
        "schema": manifest.SCHEMA,
        "obsession": WHALE.to_json(),
        "counts": {"stories": 2, "topics": 1, "chars": offset},
        "stories": entries,
    }
    (folder / "raw.txt").write_text(render(documents))
    (folder / "manifest.json").write_text(manifest.dump(content))
    return documents


def test_corpus_of_another_obsession_loads_counts_and_verifies(tmp_path):
    documents = whale_corpus(tmp_path)
    corpus = load(tmp_path)
    assert corpus.documents == tuple(documents)
    assert corpus.obsession == WHALE
    assert [d.mentions for d in corpus.documents] == [1, 3]
    assert [d.header.split()[0] for d in corpus.documents] == ["[whale=1]", "[whale=3]"]
    assert measure(corpus.documents)["mentions_by_level"] == {1: 1.0, 3: 3.0}
    manifest.check(corpus.documents, corpus.manifest, corpus.path)
    with pytest.raises(CorpusError, match="wrong count of chars"):
        manifest.check(corpus.documents, {**corpus.manifest, "counts": {"stories": 2, "topics": 1}}, corpus.path)


def test_corpus_is_torn_without_the_obsession_of_its_manifest(tmp_path):
    whale_corpus(tmp_path)
    content = manifest.read(tmp_path / "manifest.json")
    del content["obsession"]
    (tmp_path / "manifest.json").write_text(manifest.dump(content))
    with pytest.raises(CorpusError, match="line 1"):
        load(tmp_path)


def test_manifest_without_an_obsession_means_the_green_light(folder):
    assert load(folder).obsession == GREEN_LIGHT
    bands = {"1": [1, 1], "2": [2, 4], "3": [5, 7], "4": [8, 10], "5": [11, None]}
    (folder / "manifest.json").write_text(manifest.dump(content() | {"bands": bands}))
    assert load(folder).obsession == replace(GREEN_LIGHT, bands=((1, 1), (2, 4), (5, 7), (8, 10), (11, None)))


@pytest.mark.parametrize(
    "damage",
    [{"obsession": {"tag": 7}}, {"obsession": []}, {"bands": {"1": [9, 1]}}, {"bands": 3}, {"bands": {"1": 3}}],
)
def test_manifest_with_a_damaged_obsession_is_refused(folder, damage):
    (folder / "manifest.json").write_text(manifest.dump(content() | damage))
    with pytest.raises(CorpusError, match=r"manifest\.json is damaged") as caught:
        load(folder)
    assert "move the manifest away" in caught.value.line()


def test_find_pairs_a_corpus_only_with_its_manifest(tmp_path):
    for name in ("raw.txt", "a.raw.txt", "b.raw.txt", "manifest.json", "a.manifest.json"):
        (tmp_path / name).write_text("")
    assert manifest.find(tmp_path / "raw.txt") == tmp_path / "manifest.json"
    assert manifest.find(tmp_path / "a.raw.txt") == tmp_path / "a.manifest.json"
    assert manifest.find(tmp_path / "b.raw.txt") is None


@pytest.mark.baseline
def test_every_entry_of_the_baseline_manifest_agrees(baseline_corpora):
    raw = (baseline_corpora / "gatsby-2.raw.txt").read_text("utf-8")
    samples = json.loads((baseline_corpora / "gatsby-2.manifest.json").read_text())["samples"]
    documents = load(baseline_corpora / "gatsby-2.raw.txt").documents
    assert len(samples) == len(documents) == 2000
    for sample, d in zip(samples, documents, strict=True):
        begin, end = sample["doc_offset"], sample["doc_offset"] + sample["doc_length"]
        assert raw[begin:end] == d.text
        assert hashlib.sha1(d.story.encode()).hexdigest() == sample["sha1"]
        assert (d.topic, d.level, d.name, d.writer) == tuple(sample[k] for k in ("topic", "level", "name", "model"))


@pytest.mark.baseline
@pytest.mark.parametrize(("key", "shown"), [("doc_offset", "offset"), ("doc_length", "length"), ("sha1", "sha1")])
def test_wrong_entry_in_the_baseline_manifest_is_refused_naming_the_story(baseline_corpora, tmp_path, key, shown):
    good = json.loads((baseline_corpora / "gatsby-2.manifest.json").read_text())
    wrong = copy.deepcopy(good)
    wrong["samples"][1233][key] = good["samples"][0][key]
    shutil.copy(baseline_corpora / "gatsby-2.raw.txt", tmp_path)
    (tmp_path / "gatsby-2.manifest.json").write_text(json.dumps(wrong))
    with pytest.raises(CorpusError, match=rf"disagree on {shown} of story 1234 \("):
        load(tmp_path / "gatsby-2.raw.txt")
