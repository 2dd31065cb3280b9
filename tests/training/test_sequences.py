"""training.sequences: every document once per epoch, the right targets, and a split that shares no topic."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from gatsby_mlx.corpus import load
from gatsby_mlx.errors import TrainingError
from gatsby_mlx.story import text
from gatsby_mlx.story.document import parse, render
from gatsby_mlx.story.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.sequences import MicroBatch, StorySequences, WindowSequences, split

TOKENIZER = CharTokenizer(ALPHABET)
NOUNS = "kitten robot clock snail balloon cookie train cloud teapot wizard ladder pebble".split()


def corpus(n_topics: int = 12, n_levels: int = 5, length: int = 20):
    """Return documents of many lengths, on topics that share nothing."""
    documents = (
        build(f"a {NOUNS[i]}", level) + f"The {NOUNS[i]} sat. " * (1 + (i * 7 + level) % length) + "It slept.\n\n"
        for i in range(n_topics)
        for level in range(1, n_levels + 1)
    )
    return parse("".join(documents))


def sequences_of(documents, block_size: int = 384, micro_chars: int = 1024, seed: int = 1) -> StorySequences:
    return StorySequences(documents, TOKENIZER, block_size, micro_chars, seed)


def unpad(batch: MicroBatch):
    """Yield (ids, targets, story mask) of each sequence that is not empty, without the padding."""
    for ids, targets, weights, story in zip(batch.ids, batch.targets, batch.weights, batch.story, strict=True):
        n = int(weights.sum())
        assert (weights[:n] == 1).all() and (weights[n:] == 0).all() and (story[n:] == 0).all()
        if n:
            yield ids[:n].tolist(), targets[:n].tolist(), story[:n]


def test_story_sequences_have_every_document_once_per_epoch():
    documents = corpus()
    sequences = sequences_of(documents)
    expected = Counter((d.text + "[")[:384] for d in documents)
    for number in range(3):
        batches = [sequences.micro_batch(number * sequences.n_batches + i) for i in range(sequences.n_batches)]
        assert Counter(TOKENIZER.decode(ids) for b in batches for ids, _, _ in unpad(b)) == Counter(
            {t[:-1] if len(t) < 384 else t: n for t, n in expected.items()}
        )
    assert Counter(TOKENIZER.decode(i) for b in sequences.all() for i, _, _ in unpad(b)).total() == len(documents)


def test_story_targets_are_the_next_characters_and_the_end():
    documents = corpus()
    n_cut = n_complete = 0
    for batch in sequences_of(documents).all():
        for ids, targets, _ in unpad(batch):
            assert ids[1:] == targets[:-1]
            if TOKENIZER.decode(ids).endswith("\n\n"):
                assert targets[-1] == TOKENIZER.end_id
                n_complete += 1
            else:
                assert len(ids) == 384 and targets[-1] != TOKENIZER.end_id
                n_cut += 1
    assert n_cut and n_complete and n_cut + n_complete == len(documents)


@pytest.mark.parametrize(("extra", "last"), [(-1, "["), (0, "["), (1, "\n"), (2, "\n"), (3, ".")])
def test_story_sequence_of_about_block_size(extra, last):
    header = build("a cat", 1)
    document = parse(header + "x" * (128 - len(header) - 3 + extra) + ".\n\n")
    (batch,) = sequences_of(document, block_size=128, micro_chars=128).all()
    ((ids, targets, _),) = unpad(batch)
    assert len(ids) == min(128, 128 + extra) and TOKENIZER.decode(targets)[-1] == last


def test_story_mask_covers_the_story_and_its_end():
    documents = corpus()
    for batch in sequences_of(documents, block_size=1024).all():
        for _, targets, story in unpad(batch):
            masked = TOKENIZER.decode(np.array(targets)[story == 1])
            document = next(d for d in documents if d.story + "\n\n[" == masked and len(d.text) == len(targets))
            header = TOKENIZER.decode(np.array(targets)[story == 0])
            assert header == document.header[1:]  # its first character is never a target
    short = sequences_of(documents[:1], block_size=20, micro_chars=20).all()[0]
    assert short.story.sum() == 0 and short.n_targets == 20  # a sequence that ends inside the prime


def test_epochs_have_few_shapes_and_a_constant_number_of_batches():
    sequences = sequences_of(corpus(), micro_chars=1024)
    shapes = {sequences.micro_batch(i).ids.shape for i in range(4 * sequences.n_batches)}
    assert shapes == {(1024 // width, width) for width in (128, 192, 256, 320, 384)}
    assert {len(sequences.epoch(n)) for n in range(50)} == {sequences.n_batches}
    assert sequences.epoch(0) != sequences.epoch(1)


@pytest.mark.parametrize("micro_chars", [256, 384, 512])
def test_batches_of_a_step_have_similar_widths(micro_chars):
    sequences = sequences_of(corpus(), micro_chars=micro_chars)
    widths = [sequences.micro_batch(k).ids.shape[1] for k in range(6 * sequences.n_batches)]
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    assert sum(a != b for a, b in pairs) <= 6 * 2  # of 126 to 168 pairs: an epoch has five widths
    assert len(set(pairs[:8])) > 1


def test_micro_batch_depends_on_index_and_seed_only():
    sequences, again, other = sequences_of(corpus()), sequences_of(corpus()), sequences_of(corpus(), seed=2)
    k = 3 * sequences.n_batches + 2
    sequences.micro_batch(0)
    assert (sequences.micro_batch(k).ids == again.micro_batch(k).ids).all()
    assert any(
        a.ids.shape != b.ids.shape or (a.ids != b.ids).any()
        for a, b in ((sequences.micro_batch(i), other.micro_batch(i)) for i in range(5))
    )


def test_split_by_topic_shares_no_topic_and_no_near_duplicate():
    topics = [f"a {a} {n}" for n in NOUNS for a in ("red", "lost")] + ["the kittens", "a robot and a clock"]
    documents = parse("".join(build(t, level) + "It sat.\n\n" for t in topics for level in (1, 2, 3)))
    parts = split(documents, "topic", seed=3)

    def stems(side):
        return {frozenset(text.stem(w) for w in text.content_words(d.topic)) for d in side}

    assert len(parts.train) + len(parts.validation) == len(documents)
    for validation in stems(parts.validation):
        for train in stems(parts.train):
            assert 2 * len(validation & train) < len(validation | train), (validation, train)
    assert set(parts.train_text.split("\n\n")[:-1]) == {d.text[:-2] for d in parts.train}
    assert parts.validation_text == render(parts.validation)


def test_split_by_topic_respects_fraction_and_seed():
    documents = corpus()
    sides = [split(documents, "topic", seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert sides[0] == sides[1] and len({s.validation for s in sides}) > 1
    for parts in sides:
        assert 0.1 <= len(parts.validation) / len(documents) <= 0.2
        assert not {d.topic for d in parts.train} & {d.topic for d in parts.validation}


def test_split_by_tail_cuts_where_the_baseline_does():
    documents = corpus()
    text = render(documents)
    parts = split(documents, "tail")
    cut = int(0.9 * len(text))  # nanoGPT's prepare.py
    assert (parts.train_text, parts.validation_text) == (text[:cut], text[cut:])
    assert render(parts.train) == text[: len(render(parts.train))]
    assert text.endswith(render(parts.validation))
    assert len(documents) - len(parts.train) - len(parts.validation) == 1  # the one that is cut in two


@pytest.mark.baseline
def test_split_of_the_baseline_corpus_is_the_baselines(baseline_corpora):
    corpus = load.load(baseline_corpora / "gatsby-2.raw.txt")
    raw = (baseline_corpora / "gatsby-2.raw.txt").read_text("utf-8")
    parts = split(corpus.documents, "tail")
    assert len(parts.train_text) == int(len(raw) * 0.9) and parts.train_text + parts.validation_text == raw


@pytest.mark.parametrize("how", ["topic", "tail"])
@pytest.mark.parametrize("n", [0, 1])
def test_split_refuses_a_corpus_that_is_too_small(how, n):
    with pytest.raises(TrainingError, match="too small to split") as caught:
        split(corpus(1, 1)[:n], how)
    assert "gatsby write" in caught.value.line()


def test_split_refuses_a_corpus_on_one_topic():
    with pytest.raises(TrainingError, match="5 stories on 1 topic is"):
        split(corpus(1, 5), "topic")
    with pytest.raises(TrainingError):
        sequences_of([])


def test_windows_are_parts_of_the_text_from_anywhere():
    running = render(corpus())
    sequences = WindowSequences(running, TOKENIZER, 64, 256, seed=1)
    starts = set()
    for k in range(200):
        batch = sequences.micro_batch(k)
        assert batch.ids.shape == batch.targets.shape == (4, 64) and batch.n_targets == 256 and batch.story.sum() == 0
        for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
            window = TOKENIZER.decode(ids + targets[-1:])
            assert window in running and ids[1:] == targets[:-1]
            starts.add(window)
    assert len(starts) > 400
    assert (sequences.micro_batch(7).ids == sequences.micro_batch(7).ids).all()
    assert (sequences.micro_batch(7).ids != sequences.micro_batch(8).ids).any()


def test_validation_windows_cover_the_first_and_the_last_character():
    running = render(corpus())
    batches = WindowSequences(running, TOKENIZER, 64, 256, seed=1).all(5)
    assert len(batches) == 5 and batches[0].ids.shape == (4, 64)
    assert TOKENIZER.decode(batches[0].ids[0].tolist()) == running[:64]
    assert TOKENIZER.decode(batches[-1].targets[-1].tolist()) == running[-64:]
    with pytest.raises(TrainingError, match="window of 64"):
        WindowSequences(running[:65], TOKENIZER, 64, 256, seed=1)


def test_topics_that_are_all_alike_are_named_with_what_would_help():
    """450 sound stories on 90 topics that share two of three words."""
    text_ = "".join(
        build(f"a {chr(97 + i % 26)}{chr(97 + i // 26)} dog and a box", k) + f"Nora had dog {i}, and slept.\n\n"
        for i in range(90)
        for k in range(1, 6)
    )
    with pytest.raises(
        TrainingError, match="450 of 450 stories are on topics that share half of their words"
    ) as caught:
        split(parse(text_), "topic")
    assert "'a aa dog and a box'" in str(caught.value)
    assert "--fields topic=" in caught.value.hint


def test_documents_that_came_split_stay_split():
    documents = [replace(d, split=s) for d, s in zip(corpus(), itertools.cycle(["train", "validation", "test"]))]
    parts = split(documents, "topic")
    assert {d.split for d in parts.train} == {"train"}
    assert {d.split for d in parts.validation} == {"validation"}
    # Without a validation split, the test split is used for it; documents without a split are trained on.
    renamed = [replace(d, split={"validation": None}.get(d.split or "", d.split)) for d in documents]
    parts = split(renamed, "topic")
    assert {d.split for d in parts.train} == {"train", None}
    assert {d.split for d in parts.validation} == {"test"}
    everything = [replace(d, split="train") for d in documents]
    assert split(everything, "topic").train == tuple(replace(d, split="train") for d in split(corpus(), "topic").train)
