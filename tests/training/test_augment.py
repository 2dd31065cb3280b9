"""training.augment: made-up words in topic and story alike, never in the obsession, and the same ones at each call."""

import re

import pytest

from gatsby_mlx import shipped
from gatsby_mlx.corpus import load
from gatsby_mlx.story import text
from gatsby_mlx.story.document import parse
from gatsby_mlx.story.obsession import GREEN_LIGHT
from gatsby_mlx.story.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.augment import WordSubstitution
from gatsby_mlx.training.sequences import StorySequences


@pytest.fixture(scope="module")
def documents():
    return load.load(shipped.corpus()).documents[:1000]


@pytest.fixture(scope="module")
def substitution(documents):
    return WordSubstitution(documents, share=1.0, seed=7)


def changes(before: str, after: str) -> set[tuple[str, str]]:
    pairs = zip(re.findall(r"[A-Za-z]+|[^A-Za-z]+", before), re.findall(r"[A-Za-z]+|[^A-Za-z]+", after), strict=True)
    return {(a.lower(), b.lower()) for a, b in pairs if a != b}


def test_substitution_replaces_one_topic_word_everywhere(documents, substitution):
    n_changed = 0
    for i, d in enumerate(documents):
        changed = substitution.text(d, i)
        assert len(changed) == len(d.text)
        assert GREEN_LIGHT.count(changed) == GREEN_LIGHT.count(d.text)
        pairs = changes(d.text, changed)
        if not pairs:
            continue
        n_changed += 1
        old, new = min(pairs, key=lambda pair: len(pair[0]))
        assert pairs <= {(old, new), (old + "s", new + "s")}
        assert old in text.content_words(d.topic) and not re.search(rf"(?i)\b{old}\b", changed)
        assert (old[0] in "aeiou") == (new[0] in "aeiou")
    assert n_changed > 0.8 * len(documents)


def test_made_up_words_are_new_and_rarely_repeat(documents, substitution):
    known = {w for d in documents for w in text.words(d.text.lower())}
    made = [min(pairs)[1] for i, d in enumerate(documents) if (pairs := changes(d.text, substitution.text(d, i)))]
    assert not known.intersection(made)
    assert len(set(made)) > 0.8 * len(made)


def test_substitution_repeats_for_an_index_and_respects_the_share(documents):
    few = WordSubstitution(documents, share=0.3, seed=7)
    first = [few.text(d, i) for i, d in enumerate(documents)]
    assert first == [few.text(d, i) for i, d in enumerate(documents)]
    changed = sum(a != d.text for a, d in zip(first, documents, strict=True))
    assert 0.2 < changed / len(documents) < 0.35
    assert first != [few.text(d, i + len(documents)) for i, d in enumerate(documents)]


def test_choices_are_all_topic_words_in_the_story():
    one = parse(build("a fox and a drum in the fog", 1) + "The fox had a drum. The fox played.\n\n")
    assert WordSubstitution(one, share=1.0, seed=1).choices(one[0]) == ["fox", "drum"]


def test_choices_exclude_common_words_other_forms_and_the_obsession():
    story = "A light fell. The pony saw a little light, and the ponies saw the pony, little one."
    one = parse(build("a pony and a little light", 1) + story + "\n\n")
    assert WordSubstitution(one, share=1.0, seed=1).choices(one[0]) == ["little"]
    many = parse((build("a little cat", 1) + "A little cat. The little cat.\n\n") * 20)
    assert WordSubstitution(many, share=1.0, seed=1).text(many[0], 0) == many[0].text


def test_sequences_substitute_words_in_training_but_not_in_validation(documents, substitution):
    tokenizer = CharTokenizer(ALPHABET)
    plain = StorySequences(documents[:40], tokenizer, 1024, 2048, seed=3)
    mixed = StorySequences(documents[:40], tokenizer, 1024, 2048, seed=3, substitution=substitution)
    for a, b in zip(plain.all(), mixed.all(), strict=True):
        assert (a.ids == b.ids).all()
    for k in range(plain.n_batches):
        a, b, again = plain.micro_batch(k), mixed.micro_batch(k), mixed.micro_batch(k)
        assert (a.weights == b.weights).all() and (a.story == b.story).all() and (b.ids == again.ids).all()
        assert (a.ids != b.ids).any()
    later = mixed.micro_batch(mixed.n_batches)
    assert later.ids.shape[1] in {b.ids.shape[1] for b in plain.all()}
