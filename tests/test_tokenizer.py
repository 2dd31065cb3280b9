"""tokenizer: the `tokenizers` library reads the file and gives the same ids, character by character."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gatsby_mlx.corpus.load import load
from gatsby_mlx.errors import CheckpointError, GatsbyError
from gatsby_mlx.story.prime import ALPHABET
from gatsby_mlx.tokenizer import CharTokenizer

EVERY_ASCII = "".join(map(chr, range(128)))
ACCENTED = ALPHABET + "\u2014\u2026\u00e9\u732b\U0001f431"


@pytest.mark.parametrize("alphabet", [ALPHABET, EVERY_ASCII, ACCENTED, "[", "z[\na"])
def test_tokenizers_library_agrees_and_json_round_trips(alphabet):
    ours = CharTokenizer(alphabet)
    theirs = Tokenizer.from_str(ours.to_json())
    text = alphabet + " [ [" * (" " in alphabet) + alphabet[::-1]
    assert theirs.encode(text).ids == ours.encode(text)
    assert theirs.decode(ours.encode(text), skip_special_tokens=False) == ours.decode(ours.encode(text)) == text
    assert theirs.get_vocab_size() == len(ours) == len(alphabet)
    again = CharTokenizer.from_json(ours.to_json())
    assert again == ours
    assert again.to_json() == ours.to_json()


@pytest.mark.baseline
@pytest.mark.parametrize("name", ["gatsby-1.raw.txt", "gatsby-2.raw.txt"])
def test_tokenizers_library_agrees_on_documents_of_the_baseline(baseline_corpora, name):
    corpus = load(baseline_corpora / name)
    ours = CharTokenizer(corpus.alphabet)
    theirs = Tokenizer.from_str(ours.to_json())
    texts = [d.text for d in corpus.documents[:300]]
    ids = [ours.encode(t) for t in texts]
    assert [e.ids for e in theirs.encode_batch(texts)] == ids
    assert theirs.decode_batch(ids) == texts == [ours.decode(i) for i in ids]


@settings(deadline=None)
@given(st.text(alphabet=sorted(ACCENTED)))
def test_decode_undoes_encode(text):
    tokenizer = CharTokenizer(ACCENTED)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_are_indices_in_the_alphabet_and_the_bracket_is_the_end():
    tokenizer = CharTokenizer("\n [ab")
    assert tokenizer.encode("ab b") == [3, 4, 1, 4]
    assert tokenizer.end_id == 2
    assert tokenizer != CharTokenizer("\n [ba")
    assert hash(tokenizer) == hash(CharTokenizer("\n [ab"))


def test_character_outside_the_vocabulary_is_named():
    with pytest.raises(GatsbyError, match="5 characters has no '\u00e9'"):
        CharTokenizer("\n [ab").encode("ab\u00e9")


@pytest.mark.parametrize("alphabet", ["", "abc", "[aa"])
def test_invalid_vocabulary_is_refused(alphabet):
    with pytest.raises(CheckpointError, match="each character once and the end token"):
        CharTokenizer(alphabet)


def changed(**model) -> str:
    content = json.loads(CharTokenizer("[ab").to_json())
    content["model"] |= model
    return json.dumps(content)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"model": 1, "pre_tokenizer": null}',
        '{"model": {"vocab": {"[": 0}}, "pre_tokenizer": null}',
        changed(merges=["a b"]),
        changed(vocab={"[": 0, "a": 2}),
        changed(vocab={"[": 0, "a": 0}),
        changed(vocab={"[": 0, "ab": 1}),
        changed(vocab={"[": 0, "": 1}),
        changed(vocab={"[": "0"}),
        changed(vocab={}),
        changed(vocab={"a": 0}),
        changed(vocab=["["]),
    ],
)
def test_tokenizer_json_of_another_kind_is_refused(content):
    with pytest.raises(CheckpointError) as caught:
        CharTokenizer.from_json(content)
    assert "gatsby train" in caught.value.line()


def test_empty_piece_in_a_vocabulary_is_refused():
    content = json.loads(CharTokenizer("[a\u00e9").to_json())
    content["model"]["vocab"] = {"[": 0, "": 1, "\u00e9": 2}
    with pytest.raises(CheckpointError, match="not a character vocabulary"):
        CharTokenizer.from_json(json.dumps(content))
