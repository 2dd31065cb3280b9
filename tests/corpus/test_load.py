"""load: real corpora are read and written back byte for byte; what is not a corpus gets one line with the reason."""

import hashlib

import pytest

from gatsby_mlx.corpus.load import is_corpus, load, load_prose
from gatsby_mlx.errors import CorpusError
from gatsby_mlx.story.document import render
from gatsby_mlx.story.obsession import LEVELS, Obsession
from gatsby_mlx.story.prime import build

CAT = build("a cat", 1) + "A cat sat.\n\n"
DOG = build("a dog", 4) + "A dog ran.\n\nIt saw a green light.\n\n"


@pytest.mark.baseline
@pytest.mark.parametrize(("name", "n", "n_topics"), [("gatsby-1", 1000, 200), ("gatsby-2", 2000, 400)])
def test_baseline_corpora_load_and_write_back_byte_for_byte(baseline_corpora, name, n, n_topics):
    path = baseline_corpora / f"{name}.raw.txt"
    corpus = load(path)
    assert len(corpus.documents) == n
    assert {(d.topic, d.level) for d in corpus.documents} == {(d.topic, k) for d in corpus.documents for k in LEVELS}
    assert len({d.topic for d in corpus.documents}) == n_topics
    assert render(corpus.documents).encode() == path.read_bytes()
    assert corpus.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert corpus.n_chars == len(path.read_text("utf-8"))


@pytest.mark.baseline
def test_baseline_corpora_have_their_alphabet_and_keep_their_capitals(baseline_corpora):
    one, two = (load(baseline_corpora / f"gatsby-{n}.raw.txt") for n in (1, 2))
    assert {"\u2014", "\u2026"} <= set(one.alphabet)
    assert (len(two.alphabet), two.n_chars) == (80, 1_532_760)
    assert two.alphabet == "".join(sorted(two.alphabet))
    assert sum(d.topic != d.topic.lower() for d in two.documents) == 720
    assert {d.writer for d in one.documents} == {None}
    assert len({d.writer for d in two.documents}) == 4
    assert all(d.name for d in two.documents)


def test_corpus_is_a_file_or_a_folder_with_raw_txt(tmp_path):
    (tmp_path / "raw.txt").write_text(CAT + DOG)
    assert load(tmp_path).documents == load(str(tmp_path / "raw.txt")).documents
    assert load(tmp_path).path == tmp_path / "raw.txt"
    assert load(tmp_path).alphabet == "".join(sorted(set(CAT + DOG)))


def test_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "raw.txt").write_bytes(b"\xef\xbb\xbf" + (CAT + DOG).encode())
    assert render(load(tmp_path).documents) == CAT + DOG


def test_folder_of_texts_without_raw_txt_is_told_how_to_become_a_corpus(tmp_path):
    (tmp_path / "one.txt").write_text("A cat sat.")
    with pytest.raises(CorpusError, match=r"the folder has no raw\.txt") as caught:
        load(tmp_path)
    assert "gatsby corpus import" in caught.value.hint


def test_obsession_can_be_given_only_where_no_manifest_has_another(tmp_path):
    whale = Obsession("whale", "white whale")
    (tmp_path / "raw.txt").write_text(build("a cat", 1, obsession=whale) + "A white whale.\n\n")
    with pytest.raises(CorpusError, match="written for another obsession") as caught:
        load(tmp_path)
    assert "--obsession" in caught.value.hint
    assert load(tmp_path, whale).documents[0].mentions == 1


def test_plain_text_is_prose_with_its_own_alphabet(tmp_path):
    (tmp_path / "book.txt").write_bytes(b"\xef\xbb\xbfCall me Ishmael.\r\nAhab!")
    book = load_prose(tmp_path / "book.txt")
    assert (book.prose, book.is_prose, book.n_chars) == ("Call me Ishmael.\nAhab!", True, 22)
    assert book.alphabet == "".join(sorted({*book.prose, "["}))
    assert not is_corpus(tmp_path / "book.txt")
    (tmp_path / "raw.txt").write_text(CAT)
    assert is_corpus(tmp_path)
    for missing in ("none.txt", "raw.txt/none"):
        with pytest.raises(CorpusError, match="no text"):
            load_prose(tmp_path / missing)


def test_windows_line_ends_become_plain_ones(tmp_path):
    (tmp_path / "raw.txt").write_bytes((CAT + DOG).replace("\n", "\r\n").encode())
    corpus = load(tmp_path)
    assert render(corpus.documents) == CAT + DOG
    assert "\r" not in corpus.alphabet


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", r"is not text \(byte 0 is not UTF-8\)"),
        (CAT.encode() + b"\xff", r"is not text \(byte \d+ is not UTF-8\)"),
        (CAT.encode("utf-16"), "is not text"),
        ((CAT + DOG).replace("ran", "r\0n").encode(), "NUL character at 137"),
        (b"Once upon a time.\n", "holds no control line"),
        ((CAT + DOG)[:-2].encode(), "line 5: torn document"),
    ],
)
def test_file_that_is_not_a_corpus_gets_one_line(tmp_path, data, why):
    path = tmp_path / "tales.txt"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=why) as caught:
        load(path)
    line = caught.value.line()
    assert "\n" not in line
    assert str(path) in line
    assert "gatsby corpus import" in line
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["nothing", "nothing/at/all", "."])
def test_missing_corpus_is_named(tmp_path, name):
    with pytest.raises(CorpusError, match="There is no corpus at"):
        load(tmp_path / name)


def test_path_through_a_file_cannot_be_read(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CorpusError, match="cannot be read: Not a directory"):
        load(tmp_path / "file" / "raw.txt")
