"""swap: made-up words in topic and story alike, never the light's, and the same ones whenever asked."""

import re

import pytest

from gatsby_mlx import shipped, text
from gatsby_mlx.corpus import load
from gatsby_mlx.corpus.document import parse
from gatsby_mlx.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.rows import StoryRows
from gatsby_mlx.training.swap import Swapper


@pytest.fixture(scope="module")
def documents():
    return load.load(shipped.corpus()).documents[:1000]


@pytest.fixture(scope="module")
def swapper(documents):
    return Swapper(documents, share=1.0, seed=7)


def changes(before: str, after: str) -> set[tuple[str, str]]:
    pairs = zip(re.findall(r"[A-Za-z]+|[^A-Za-z]+", before), re.findall(r"[A-Za-z]+|[^A-Za-z]+", after), strict=True)
    return {(a.lower(), b.lower()) for a, b in pairs if a != b}


def test_one_topic_word_is_swapped_everywhere_and_nothing_moves(documents, swapper):
    swapped = 0
    for place, d in enumerate(documents):
        told = swapper.text(d, place)
        assert len(told) == len(d.text)
        assert text.count_mentions(told) == text.count_mentions(d.text)
        found = changes(d.text, told)
        if not found:
            continue
        swapped += 1
        old, new = min(found, key=lambda pair: len(pair[0]))
        assert found <= {(old, new), (old + "s", new + "s")}
        assert old in text.content_words(d.topic) and not re.search(rf"(?i)\b{old}\b", told)
        assert (old[0] in "aeiou") == (new[0] in "aeiou")
    assert swapped > 0.8 * len(documents)


def test_made_up_words_are_new_and_hardly_ever_come_twice(documents, swapper):
    known = {w for d in documents for w in text.words(d.text.lower())}
    made = [min(found)[1] for p, d in enumerate(documents) if (found := changes(d.text, swapper.text(d, p)))]
    assert not known.intersection(made)
    assert len(set(made)) > 0.8 * len(made)


def test_a_place_has_one_text_and_the_share_is_kept(documents):
    few = Swapper(documents, share=0.3, seed=7)
    first = [few.text(d, place) for place, d in enumerate(documents)]
    assert first == [few.text(d, place) for place, d in enumerate(documents)]
    changed = sum(told != d.text for told, d in zip(first, documents, strict=True))
    assert 0.2 < changed / len(documents) < 0.35
    assert first != [few.text(d, place + len(documents)) for place, d in enumerate(documents)]


def test_every_word_of_the_topic_that_the_story_says_may_be_swapped():
    one = parse(build("a fox and a drum in the fog", 1) + "The fox had a drum. The fox played.\n\n")
    assert Swapper(one, share=1.0, seed=1).choices(one[0]) == ["fox", "drum"]


def test_common_words_other_forms_and_the_light_are_left_alone():
    story = "A light fell. The pony saw a little light, and the ponies saw the pony, little one."
    one = parse(build("a pony and a little light", 1) + story + "\n\n")
    assert Swapper(one, share=1.0, seed=1).choices(one[0]) == ["little"]
    many = parse((build("a little cat", 1) + "A little cat. The little cat.\n\n") * 20)
    assert Swapper(many, share=1.0, seed=1).text(many[0], 0) == many[0].text


def test_rows_swap_what_is_trained_on_and_never_what_is_judged(documents, swapper):
    tokenizer = CharTokenizer(ALPHABET)
    plain = StoryRows(documents[:40], tokenizer, 1024, 2048, seed=3)
    mixed = StoryRows(documents[:40], tokenizer, 1024, 2048, seed=3, swapper=swapper)
    for a, b in zip(plain.all(), mixed.all(), strict=True):
        assert (a.ids == b.ids).all()
    for k in range(plain.n_batches):
        a, b, again = plain.micro_batch(k), mixed.micro_batch(k), mixed.micro_batch(k)
        assert (a.weights == b.weights).all() and (a.story == b.story).all() and (b.ids == again.ids).all()
        assert (a.ids != b.ids).any()
    later = mixed.micro_batch(mixed.n_batches)
    assert later.ids.shape[1] in {b.ids.shape[1] for b in plain.all()}
