"""decode: cached equals uncached, a row never feels its neighbours, draws follow the distribution, stories end."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.errors import GatsbyError, UsageError
from gatsby_mlx.model.decode import Decoder, Job, Sampling, decode, draw, uniforms
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.model.slots import Slots
from gatsby_mlx.prime import ALPHABET, build
from gatsby_mlx.tokenizer import CharTokenizer

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = CharTokenizer(ALPHABET)
V = len(TOKENIZER)
TOPICS = ("a cat", "a dog and a balloon", "the clock that lost its tick", "a robot who wanted a friend", "an owl")


def tiny(block_size: int = 300, sharp: float = 6.0, **changes) -> GPT:
    """Return a model whose matrices are `sharp` times as large, so that its choices are far from even."""
    mx.random.seed(1)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": block_size, "vocab_size": V}
    model = GPT(GPTConfig(**{**shape, **changes}))
    model.update(tree_map(lambda p: p * sharp if p.ndim == 2 else p, model.parameters()))
    return model.eval()


class Scripted:
    """A stand-in for a model that wants certain characters in turn: its logits depend on the position alone."""

    def __init__(self, script: str, block_size: int = 300):
        self.config = GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=block_size, vocab_size=V)
        ids = TOKENIZER.encode(script + "." * (block_size + 1 - len(script)))
        self.table = 50.0 * mx.eye(V)[mx.array(ids)]

    def eval(self):
        return self

    def __call__(self, ids, caches=None, positions=None):
        if positions is None:
            positions = mx.arange(ids.shape[1])[None]
            for cache in caches:
                cache.k = cache.v = mx.zeros((1, 1, ids.shape[1], 8))
        return self.table[positions + 1]


def scripted(story: str, block_size: int = 300, **options):
    prime = build("a cat", 1)
    decoder = Decoder(Scripted(prime + story, block_size), TOKENIZER, 1, Sampling(temp=0), **options)
    decoder.add(Job(prime, 1))
    pieces = list(decoder.pieces())
    return "".join(piece for _, piece, _ in pieces), pieces[-1][2]


@pytest.mark.parametrize("B", [4, 17])  # one part, and one for each core
def test_glance_sees_what_steps_would_and_keeps_nothing(B):
    model = tiny()
    rng = np.random.default_rng(1)
    ahead = rng.integers(0, V, (2, 5)).tolist()
    slots, last = Slots(model, B), B - 1
    for row, T in ((last, 126), (1, 40), (0, 200)):
        slots.prefill(row, rng.integers(0, V, T).tolist())
    places, logits, keys = slots.places.copy(), np.array(slots.logits), np.array(slots.parts[0].caches[1].keys)
    seen = slots.glance([last, 1], ahead)
    assert seen.shape == (2, 5, V)
    assert np.array_equal(slots.places, places) and np.array_equal(np.array(slots.logits), logits)
    assert np.array_equal(np.array(slots.parts[0].caches[1].keys), keys)
    for t in range(5):
        ids = np.zeros(B, np.int32)
        ids[[last, 1]] = ahead[0][t], ahead[1][t]
        after = slots.step(mx.array(ids))
        assert float(mx.abs(seen[0, t] - after[last]).max()) < 1e-4
        assert float(mx.abs(seen[1, t] - after[1]).max()) < 1e-4


def greedy_without_cache(model: GPT, prime: str, n: int) -> str:
    ids = TOKENIZER.encode(prime)
    for _ in range(n):
        ids.append(int(mx.argmax(model(mx.array([ids]))[0, -1])))
    return TOKENIZER.decode(ids[len(prime) :])


@pytest.mark.parametrize("changes", [{}, {"bias": True, "gelu": "erf"}])
@pytest.mark.parametrize("B", [1, 3, 17])  # alone, a small batch, and one that is compiled and dealt out to the cores
def test_cached_logits_equal_uncached(B, changes):
    model = tiny(**changes)
    rng = np.random.default_rng(0)
    starts = ([127, 5, 128] * 6)[:B]  # on both sides of a block's edge
    rows = rng.integers(0, V, (B, 300)).astype(np.int32)
    slots = Slots(model, B)
    whole = model(mx.array(rows))
    for i, start in enumerate(starts):
        slots.prefill(i, rows[i, :start].tolist())
        assert float(mx.abs(slots.logits[i] - whole[i, start - 1]).max()) < 1e-4
    for t in range(172):
        logits = slots.step(mx.array([int(rows[i, start + t]) for i, start in enumerate(starts)]))
        for i, start in enumerate(starts):
            assert float(mx.abs(logits[i] - whole[i, start + t]).max()) < 1e-4, (i, t)


def test_greedy_text_equals_the_uncached_loop():
    model = tiny()
    for story in decode(model, TOKENIZER, [Job(build(t, 3), 0) for t in TOPICS], Sampling(temp=0), 100):
        assert story.text == greedy_without_cache(model, story.job.prime, 100).rstrip("\n")


def test_decoding_does_not_drop_out():
    model = tiny(dropout=0.5)
    model.train()
    first, second = (next(decode(model, TOKENIZER, [Job(build("a cat", 1), 4)], max_chars=40)).text for _ in "12")
    assert first == second


def test_rows_never_feel_their_neighbours():
    """Bit for bit, in a process with the fast BLAS, whose rounding depends on a row's place in a product."""
    program = "import sys, gatsby_mlx.model; sys.path.append('tests/model'); from test_decode import *; exactness()"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr


def traces(model: GPT, B: int, fillers: list[Job]) -> dict[str, tuple[str, bytes]]:
    """Decode marked jobs, each in slot 2 of B, among `fillers`; return each one's text and the bits of its logits."""
    decoder = Decoder(model, TOKENIZER, B, Sampling(temp=1.0), 90)
    marked = [Job(build(topic, 5), 77 + i, key=topic) for i, topic in enumerate(TOPICS[:3])]
    fill = iter(fillers)
    for job in marked:
        for slot in range(B):
            decoder.add(job if slot == 2 else next(fill))
    logits: dict[str, list[bytes]] = {}
    texts = {}
    step = decoder.slots.step

    def recording(ids):
        out = step(ids)
        if decoder.rows[2]:
            logits.setdefault(decoder.rows[2].job.key, []).append(np.array(out[2]).tobytes())
        return out

    decoder.slots.step = recording
    for job, _, story in decoder.pieces():
        if story is not None and job.key:
            texts[job.key] = story.text
    return {key: (texts[key], b"".join(logits[key])) for key in texts}


def exactness() -> None:
    """Compare a slot's texts and logits among several sets of neighbours; run in a process of its own."""
    from gatsby_mlx import device

    assert device.prepare().how != "late"
    model = tiny(sharp=4.0, n_head=8)
    long = "a very long topic about a snail that raced a beetle over a hill"
    for B in (3, 5, 16):
        sets = [
            [Job(build("an owl", 1), i) for i in range(3 * B)],
            [Job(build(long if i % 2 else TOPICS[i % 5], 1 + i % 5), 1000 + i) for i in range(3 * B)],
            [Job(build("a cat", 2) + "The " * (i % 40), 5) for i in range(3 * B)],
        ]
        first, *others = (traces(model, B, fillers) for fillers in sets)
        assert len(first) == 3
        for other in others:
            assert other == first, B


def test_a_refilled_slot_starts_afresh():
    model = tiny()
    jobs = [Job(build(t, 2), 10 + i, key=i) for i, t in enumerate(TOPICS)]
    alone = {j.key: next(decode(model, TOKENIZER, [j], Sampling(temp=0), 60)).text for j in jobs}
    together = {s.job.key: s.text for s in decode(model, TOKENIZER, jobs, Sampling(temp=0), 60, batch=1)}
    assert together == alone
    assert len(set(alone.values())) == len(jobs)


def test_jobs_may_be_added_while_others_run():
    decoder = Decoder(tiny(), TOKENIZER, 2, Sampling(), 12)
    decoder.add(Job(build("a cat", 1), 1, "first"))
    done = []
    for job, _, story in decoder.pieces():
        if story:
            done.append(job.key)
            if job.key == "first":
                for key in ("second", "third"):
                    decoder.add(Job(build("a cat", 1), 1, key))
    assert sorted(done) == ["first", "second", "third"]
    assert list(decode(tiny(), TOKENIZER, [])) == []


def test_the_same_seed_gives_the_same_text_and_another_another():
    model = tiny()

    def text(seed: int) -> str:
        return next(decode(model, TOKENIZER, [Job(build("a cat", 1), seed)], max_chars=50)).text

    assert text(3) == text(3)
    assert len({text(seed) for seed in range(6)}) == 6


def test_a_longer_story_begins_as_the_shorter_one():
    """A row draws one number a character, whatever the limit is."""
    assert (uniforms(9, 400)[:30] == uniforms(9, 30)).all()
    model = tiny()
    short, long = (next(decode(model, TOKENIZER, [Job(build("a cat", 1), 9)], max_chars=n)).text for n in (30, 80))
    assert long.startswith(short)


def drawn(logits: np.ndarray, sampling: Sampling, n: int = 20_000) -> np.ndarray:
    u = np.concatenate([uniforms(seed, n // 20) for seed in range(20)])
    rows = mx.broadcast_to(mx.array(logits, dtype=mx.float32), (n, len(logits)))
    return np.bincount(np.array(draw(rows, mx.array(u), sampling)), minlength=len(logits)) / n


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()


LOGITS = np.random.default_rng(5).normal(0, 1.5, 20)


@pytest.mark.parametrize("temp", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temp):
    p = softmax(LOGITS / temp)
    chi_square = 20_000 * ((drawn(LOGITS, Sampling(temp=temp)) - p) ** 2 / p).sum()
    assert chi_square < 43.8  # 19 degrees of freedom: one in a thousand lies above


def test_top_k_and_top_p_keep_the_likeliest():
    order, p = np.argsort(-LOGITS), softmax(LOGITS)
    for k in (1, 3, 19):
        kept = drawn(LOGITS, Sampling(temp=1, top_k=k)) > 0
        assert kept[order[k:]].sum() == 0 and kept[order[: min(k, 5)]].all()
    for top_p in (1e-9, 0.3, 0.8):
        n = int(np.searchsorted(np.cumsum(p[order]), top_p) + 1)  # as many as it takes to reach top_p
        found = drawn(LOGITS, Sampling(temp=1, top_p=top_p))
        assert found[order[n:]].sum() == 0 and (found[order[:n]] > 0).all()
        assert found[order[:n]] == pytest.approx(p[order[:n]] / p[order[:n]].sum(), abs=0.015)


def test_top_k_past_the_vocabulary_is_clamped():
    every = drawn(LOGITS, Sampling(temp=1))
    for k in (0, 20, 21, 10_000):
        assert (drawn(LOGITS, Sampling(temp=1, top_k=k)) == every).all()


def test_greedy_takes_the_likeliest_and_a_tiny_temperature_is_nearly_that():
    logits = mx.array(np.random.default_rng(1).normal(0, 30, (64, 20)), dtype=mx.float32)
    u = mx.array(uniforms(3, 64))
    best = mx.argmax(logits, axis=-1).tolist()
    for temp in (0, 1e-45, 1e-38, 1e-6, 1e-3):
        assert draw(logits, u, Sampling(temp=temp)).tolist() == best


def test_the_ends_of_the_unit_interval_draw_something_that_is_possible():
    logits = mx.array([[0.0, 1.0, -mx.inf, 1.0]] * 2)
    for sampling in (Sampling(temp=1), Sampling(temp=1, top_k=2), Sampling(temp=1, top_p=0.5)):
        ids = draw(logits, mx.array([0.0, 1 - 2**-24]), sampling).tolist()
        assert ids[0] == 1 and ids[1] in (0, 1, 3)


@pytest.mark.parametrize(
    "values",
    [{"temp": -0.1}, {"temp": float("nan")}, {"temp": float("inf")}, {"top_k": -1}, {"top_p": 0}, {"top_p": 2}],
)
def test_a_sampling_that_cannot_be_is_refused(values):
    with pytest.raises(UsageError):
        Sampling(**values)


def test_a_story_ends_at_the_marker_after_a_blank_line_only():
    told = "A cat [sat.\n[x] Here.\n\nThere."
    pieces, story = scripted(told + "\n\n[green=")
    assert (story.text, story.finish, story.n_chars) == (told, "end", len(told) + 3)
    assert pieces == told + "\n\n"  # the marker is never shown
    assert story.run_on == ""


def test_a_story_that_does_not_end_says_why():
    prime = build("a cat", 1)
    pieces, story = scripted("A cat sat.\n\n", max_chars=12)
    assert (story.text, story.finish, story.n_chars) == ("A cat sat.", "limit", 12)
    assert pieces.rstrip("\n") == story.text
    _, story = scripted("A cat sat.\n\n[", max_chars=13)
    assert story.finish == "end"
    for limit in (None, 5_000):
        pieces, story = scripted("A cat", block_size=len(prime) + 9, max_chars=limit)
        assert (story.text, story.finish, story.n_chars) == ("A cat.....", "context", 10)
        assert pieces == story.text


@pytest.mark.parametrize("room", [1, 2, 30])
def test_past_the_context_it_stops_and_never_computes_nan(room):
    prime = build("a cat", 1)
    model = tiny(block_size=len(prime) + room)
    decoder = Decoder(model, TOKENIZER, 3, Sampling(), 10_000)
    for i in range(7):
        decoder.add(Job(prime if i % 2 else prime[:-30], i))
    stories = []
    for _, _, story in decoder.pieces():
        assert bool(mx.isfinite(decoder.slots.logits).all())
        assert decoder.slots.places.max() < model.config.block_size  # MLX reads past a table's end unchecked
        stories += [story] if story else []
    assert len(stories) == 7
    for story in stories:
        room_of_its = model.config.block_size - len(story.job.prime) + 1
        assert story.finish == "end" or (story.finish, story.n_chars) == ("context", room_of_its)


def test_a_prime_without_room_is_refused_before_anything_is_told():
    decoder = Decoder(tiny(block_size=40), TOKENIZER, 1, Sampling())
    for prime, told in (("x" * 40, "no room"), ("x" * 41, "no room"), ("", "empty"), ("caf\u00e9", "\u00e9")):
        with pytest.raises(GatsbyError, match=told):
            decoder.add(Job(prime, 1))
    assert list(decoder.pieces()) == []
    for batch, limit in ((0, None), (1, 0)):
        with pytest.raises(UsageError):
            Decoder(tiny(), TOKENIZER, batch, Sampling(), limit)


def test_past_end_runs_on_and_still_knows_the_story():
    pieces, story = scripted("A cat.\n\n[green=1]\n\n[green=", past_end=True, max_chars=40)
    assert (story.text, story.finish, story.n_chars) == ("A cat.", "end", 40)
    assert pieces == story.run_on == "A cat.\n\n[green=1]\n\n[green=" + "." * 14
    for told in ("A cat sat.", "A cat.\n\n", "A cat.\n\nIt", "A cat\n["):
        _, story = scripted(told, past_end=True, max_chars=len(told))
        assert (story.finish, story.run_on) == ("limit", told)
        assert story.text == told.rstrip("\n")


@pytest.mark.parametrize("batch", [1, 3])
def test_pieces_joined_are_the_story(batch):
    decoder = Decoder(tiny(), TOKENIZER, batch, Sampling(temp=1.5), 60)
    for i, topic in enumerate(TOPICS):
        decoder.add(Job(build(topic, 1), i, key=i))
    texts, stories = Counter(), {}
    for job, piece, story in decoder.pieces():
        texts[job.key] = (texts[job.key] or "") + piece
        if story is not None:
            assert piece == ""
            stories[job.key] = story
    assert {key: text.rstrip("\n") for key, text in texts.items()} == {k: s.text for k, s in stories.items()}
    assert len(stories) == len(TOPICS)


def test_rows_of_one_prime_are_read_once(monkeypatch):
    model, read = tiny(), []
    call = GPT.__call__

    def counting(self, ids, caches=None, positions=None):
        read.append(ids.shape)
        return call(self, ids, caches, positions)

    monkeypatch.setattr(GPT, "__call__", counting)
    slots = Slots(model, 4)
    for row, length in enumerate((20, 30, 20, 20)):
        slots.prefill(row, [1] * length)
    assert read == [(1, 20), (1, 30)]
    assert (slots.logits[0] == slots.logits[3]).all() and not (slots.logits[0] == slots.logits[1]).all()
    for length in range(1, 50):
        slots.prefill(0, [1] * length)
    assert len(slots._read) <= 33


def test_a_compiled_step_follows_the_weights():
    """A traced function that took them for constants would go on with the old ones."""
    model = tiny()
    slots = Slots(model, 16)
    for row in range(16):
        slots.prefill(row, [1] * 20)
    before = np.array(slots.step(mx.zeros((16,), mx.int32)))
    model.update(tree_map(lambda p: p * 0.5, model.parameters()))
    after = np.array(slots.step(mx.zeros((16,), mx.int32)))
    assert np.abs(after - before).max() > 0.1


def test_the_cache_grows_with_the_stories():
    slots = Slots(tiny(block_size=256), 4)
    slots.prefill(0, [1] * 20)
    slots.prefill(1, [1] * 130)
    assert slots.parts[0].caches[0].keys.shape[2] == 256
    short = Slots(tiny(block_size=256), 4)
    for row in range(4):
        short.prefill(row, [1] * 20)
    short.step(mx.zeros((4,), mx.int32))
    assert short.parts[0].caches[0].keys.shape[2] == 128
