"""manifest: every offset, length and hash is checked against the corpus, and what disagrees is named."""

import copy
import hashlib
import json
import shutil

import pytest

from gatsby_mlx.corpus import manifest
from gatsby_mlx.corpus.document import parse, render
from gatsby_mlx.corpus.load import load
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.prime import ALPHABET, build

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


def test_our_manifest_tells_writer_and_hero_and_makes_the_alphabet_ours(folder):
    corpus = load(folder)
    assert [(d.writer, d.name) for d in corpus.documents] == [("house", "Mia"), ("house", "Tom")]
    assert corpus.alphabet == ALPHABET
    (folder / "manifest.json").unlink()
    assert [d.writer for d in load(folder).documents] == [None, None]


def test_dump_is_json_with_a_line_for_each_story():
    text = manifest.dump(content())
    assert json.loads(text) == content()
    assert sum('"topic"' in line for line in text.splitlines()) == 2
    assert all(line.count('"topic"') <= 1 for line in text.splitlines())


@pytest.mark.parametrize(
    ("key", "value"),
    [("offset", 1), ("length", 3), ("level", 5), ("topic", "a frog"), ("sha256", "0" * 64), ("offset", None)],
)
def test_an_entry_that_disagrees_is_refused_naming_key_and_story(folder, key, value):
    wrong = content()
    wrong["stories"][1][key] = value
    (folder / "manifest.json").write_text(manifest.dump(wrong))
    with pytest.raises(CorpusError, match=rf"disagree on {key} of story 2 \(a dog, level 4\)") as caught:
        load(folder)
    assert "move the manifest away" in caught.value.line()


def test_a_changed_character_in_the_corpus_is_found(folder):
    raw = folder / "raw.txt"
    raw.write_text(raw.read_text().replace("A dog ran", "A dog sat"))
    with pytest.raises(CorpusError, match="disagree on sha256 of story 2"):
        load(folder)


def test_a_story_too_few_is_found(folder):
    (folder / "raw.txt").write_text(render(DOCUMENTS[:1]))
    with pytest.raises(CorpusError, match="tells of 2 stories, and its corpus holds 1"):
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
def test_a_manifest_that_is_none_is_refused_with_the_way_out(folder, text, why):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorpusError, match=why) as caught:
        load(folder)
    assert "move the manifest away" in caught.value.line()


def test_find_pairs_a_corpus_with_its_own_manifest_only(tmp_path):
    for name in ("raw.txt", "a.raw.txt", "b.raw.txt", "manifest.json", "a.manifest.json"):
        (tmp_path / name).write_text("")
    assert manifest.find(tmp_path / "raw.txt") == tmp_path / "manifest.json"
    assert manifest.find(tmp_path / "a.raw.txt") == tmp_path / "a.manifest.json"
    assert manifest.find(tmp_path / "b.raw.txt") is None


@pytest.mark.seed
def test_every_entry_of_the_seeds_manifest_agrees(seed_corpus):
    raw = (seed_corpus / "gatsby-2.raw.txt").read_text("utf-8")
    samples = json.loads((seed_corpus / "gatsby-2.manifest.json").read_text())["samples"]
    documents = load(seed_corpus / "gatsby-2.raw.txt").documents
    assert len(samples) == len(documents) == 2000
    for sample, d in zip(samples, documents, strict=True):
        begin, end = sample["doc_offset"], sample["doc_offset"] + sample["doc_length"]
        assert raw[begin:end] == d.text
        assert hashlib.sha1(d.story.encode()).hexdigest() == sample["sha1"]
        assert (d.topic, d.level, d.name, d.writer) == tuple(sample[k] for k in ("topic", "level", "name", "model"))


@pytest.mark.seed
@pytest.mark.parametrize(("key", "told"), [("doc_offset", "offset"), ("doc_length", "length"), ("sha1", "sha1")])
def test_a_wrong_entry_in_the_seeds_manifest_is_refused_naming_the_story(seed_corpus, tmp_path, key, told):
    good = json.loads((seed_corpus / "gatsby-2.manifest.json").read_text())
    wrong = copy.deepcopy(good)
    wrong["samples"][1233][key] = good["samples"][0][key]
    shutil.copy(seed_corpus / "gatsby-2.raw.txt", tmp_path)
    (tmp_path / "gatsby-2.manifest.json").write_text(json.dumps(wrong))
    with pytest.raises(CorpusError, match=rf"disagree on {told} of story 1234 \("):
        load(tmp_path / "gatsby-2.raw.txt")
