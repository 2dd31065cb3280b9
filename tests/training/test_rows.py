"""rows: every document once an epoch, the right targets, and a split that shares nothing."""

from collections import Counter

import numpy as np
import pytest

from gatsby_mlx import text
from gatsby_mlx.corpus import load
from gatsby_mlx.corpus.document import parse, render
from gatsby_mlx.errors import TrainingError
from gatsby_mlx.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer
from gatsby_mlx.training.rows import MicroBatch, StoryRows, WindowRows, split

TOKENIZER = CharTokenizer(ALPHABET)
NOUNS = "kitten robot clock snail balloon cookie train cloud teapot wizard ladder pebble".split()


def corpus(n_topics: int = 12, n_levels: int = 5, length: int = 20):
    """Return documents of many lengths, on topics that share nothing."""
    told = (
        build(f"a {NOUNS[i]}", level) + f"The {NOUNS[i]} sat. " * (1 + (i * 7 + level) % length) + "It slept.\n\n"
        for i in range(n_topics)
        for level in range(1, n_levels + 1)
    )
    return parse("".join(told))


def rows_of(documents, block_size: int = 384, micro_chars: int = 1024, seed: int = 1) -> StoryRows:
    return StoryRows(documents, TOKENIZER, block_size, micro_chars, seed)


def unpad(batch: MicroBatch):
    """Yield (ids, targets, story mask) of each row that holds something, without the padding."""
    for ids, targets, weights, story in zip(batch.ids, batch.targets, batch.weights, batch.story, strict=True):
        n = int(weights.sum())
        assert (weights[:n] == 1).all() and (weights[n:] == 0).all() and (story[n:] == 0).all()
        if n:
            yield ids[:n].tolist(), targets[:n].tolist(), story[:n]


def test_every_document_stands_once_in_an_epoch_and_in_evaluation():
    documents = corpus()
    rows = rows_of(documents)
    wanted = Counter((d.text + "[")[:384] for d in documents)
    for number in range(3):
        batches = [rows.micro_batch(number * rows.n_batches + i) for i in range(rows.n_batches)]
        assert Counter(TOKENIZER.decode(ids) for b in batches for ids, _, _ in unpad(b)) == Counter(
            {t[:-1] if len(t) < 384 else t: n for t, n in wanted.items()}
        )
    assert Counter(TOKENIZER.decode(i) for b in rows.all() for i, _, _ in unpad(b)).total() == len(documents)


def test_targets_are_the_next_character_and_the_last_one_is_the_end():
    documents = corpus()
    cut = whole = 0
    for batch in rows_of(documents).all():
        for ids, targets, _ in unpad(batch):
            assert ids[1:] == targets[:-1]
            if TOKENIZER.decode(ids).endswith("\n\n"):
                assert targets[-1] == TOKENIZER.end_id
                whole += 1
            else:
                assert len(ids) == 384 and targets[-1] != TOKENIZER.end_id
                cut += 1
    assert cut and whole and cut + whole == len(documents)


@pytest.mark.parametrize(("extra", "last"), [(-1, "["), (0, "["), (1, "\n"), (2, "\n"), (3, ".")])
def test_a_document_at_the_edge_of_the_row(extra, last):
    header = build("a cat", 1)
    document = parse(header + "x" * (128 - len(header) - 3 + extra) + ".\n\n")
    (batch,) = rows_of(document, block_size=128, micro_chars=128).all()
    ((ids, targets, _),) = unpad(batch)
    assert len(ids) == min(128, 128 + extra) and TOKENIZER.decode(targets)[-1] == last


def test_the_story_mask_counts_the_story_and_its_end():
    documents = corpus()
    for batch in rows_of(documents, block_size=1024).all():
        for _, targets, story in unpad(batch):
            own = TOKENIZER.decode(np.array(targets)[story == 1])
            document = next(d for d in documents if d.story + "\n\n[" == own and len(d.text) == len(targets))
            header = TOKENIZER.decode(np.array(targets)[story == 0])
            assert header == document.header[1:]  # its first character is never a target
    short = rows_of(documents[:1], block_size=20, micro_chars=20).all()[0]
    assert short.story.sum() == 0 and short.n_targets == 20  # a row that ends inside the prime


def test_batches_are_few_shapes_and_their_number_is_constant():
    rows = rows_of(corpus(), micro_chars=1024)
    shapes = {rows.micro_batch(i).ids.shape for i in range(4 * rows.n_batches)}
    assert shapes == {(1024 // width, width) for width in (128, 192, 256, 320, 384)}
    assert {len(rows.epoch(n)) for n in range(50)} == {rows.n_batches}
    assert rows.epoch(0) != rows.epoch(1)


@pytest.mark.parametrize("micro_chars", [256, 384, 512])
def test_the_batches_of_a_step_are_of_like_width(micro_chars):
    rows = rows_of(corpus(), micro_chars=micro_chars)
    widths = [rows.micro_batch(k).ids.shape[1] for k in range(6 * rows.n_batches)]
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    assert sum(a != b for a, b in pairs) <= 6 * 2  # of 126 to 168: a pass has five widths
    assert len(set(pairs[:8])) > 1


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    rows, again, other = rows_of(corpus()), rows_of(corpus()), rows_of(corpus(), seed=2)
    k = 3 * rows.n_batches + 2
    rows.micro_batch(0)
    assert (rows.micro_batch(k).ids == again.micro_batch(k).ids).all()
    assert any(
        a.ids.shape != b.ids.shape or (a.ids != b.ids).any()
        for a, b in ((rows.micro_batch(i), other.micro_batch(i)) for i in range(5))
    )


def test_a_split_by_topic_shares_no_topic_and_no_near_duplicate():
    topics = [f"a {a} {n}" for n in NOUNS for a in ("red", "lost")] + ["the kittens", "a robot and a clock"]
    documents = parse("".join(build(t, level) + "It sat.\n\n" for t in topics for level in (1, 2, 3)))
    parts = split(documents, "topic", seed=3)

    def stems(side):
        return {frozenset(text.stem(w) for w in text.content_words(d.topic)) for d in side}

    assert len(parts.train) + len(parts.validation) == len(documents)
    for held in stems(parts.validation):
        for learnt in stems(parts.train):
            assert 2 * len(held & learnt) < len(held | learnt), (held, learnt)
    assert set(parts.train_text.split("\n\n")[:-1]) == {d.text[:-2] for d in parts.train}
    assert parts.validation_text == render(parts.validation)


def test_a_split_by_topic_keeps_to_its_share_and_its_seed():
    documents = corpus()
    sides = [split(documents, "topic", seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert sides[0] == sides[1] and len({s.validation for s in sides}) > 1
    for parts in sides:
        assert 0.1 <= len(parts.validation) / len(documents) <= 0.2
        assert not {d.topic for d in parts.train} & {d.topic for d in parts.validation}


def test_a_split_by_tail_is_the_seeds_cut():
    documents = corpus()
    running = render(documents)
    parts = split(documents, "tail")
    cut = int(0.9 * len(running))  # nanoGPT's prepare.py
    assert (parts.train_text, parts.validation_text) == (running[:cut], running[cut:])
    assert render(parts.train) == running[: len(render(parts.train))]
    assert running.endswith(render(parts.validation))
    assert len(documents) - len(parts.train) - len(parts.validation) == 1  # the one that the cut goes through


@pytest.mark.seed
def test_the_seed_corpus_splits_as_the_seed_did(seed_corpus):
    found = load.load(seed_corpus / "gatsby-2.raw.txt")
    raw = (seed_corpus / "gatsby-2.raw.txt").read_text("utf-8")
    parts = split(found.documents, "tail")
    assert len(parts.train_text) == int(len(raw) * 0.9) and parts.train_text + parts.validation_text == raw


@pytest.mark.parametrize("how", ["topic", "tail"])
@pytest.mark.parametrize("n", [0, 1])
def test_a_corpus_too_small_is_refused(how, n):
    with pytest.raises(TrainingError, match="too small to split") as caught:
        split(corpus(1, 1)[:n], how)
    assert "gatsby write" in caught.value.line()


def test_a_corpus_on_one_topic_is_refused():
    with pytest.raises(TrainingError, match="5 stories on 1 topics"):
        split(corpus(1, 5), "topic")
    with pytest.raises(TrainingError):
        rows_of([])


def test_windows_are_runs_of_the_text_from_anywhere():
    running = render(corpus())
    rows = WindowRows(running, TOKENIZER, 64, 256, seed=1)
    starts = set()
    for k in range(200):
        batch = rows.micro_batch(k)
        assert batch.ids.shape == batch.targets.shape == (4, 64) and batch.n_targets == 256 and batch.story.sum() == 0
        for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
            window = TOKENIZER.decode(ids + targets[-1:])
            assert window in running and ids[1:] == targets[:-1]
            starts.add(window)
    assert len(starts) > 400
    assert (rows.micro_batch(7).ids == rows.micro_batch(7).ids).all()
    assert (rows.micro_batch(7).ids != rows.micro_batch(8).ids).any()


def test_windows_of_evaluation_reach_from_the_first_to_the_last_character():
    running = render(corpus())
    batches = WindowRows(running, TOKENIZER, 64, 256, seed=1).all(5)
    assert len(batches) == 5 and batches[0].ids.shape == (4, 64)
    assert TOKENIZER.decode(batches[0].ids[0].tolist()) == running[:64]
    assert TOKENIZER.decode(batches[-1].targets[-1].tolist()) == running[-64:]
    with pytest.raises(TrainingError, match="window of 64"):
        WindowRows(running[:65], TOKENIZER, 64, 256, seed=1)
