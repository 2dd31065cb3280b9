"""decode: cached equals uncached, a story does not depend on the others, draws follow the distribution, stories end."""

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
from gatsby_mlx.model.batch import CACHED_PRIMES, Slots
from gatsby_mlx.model.decode import Decoder, Telling, TellingBatch, decode, draw, uniforms
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story.prime import ALPHABET, build
from gatsby_mlx.story.sampling import Job, Sampling, Story
from gatsby_mlx.tokenizer import CharTokenizer

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = CharTokenizer(ALPHABET)
V = len(TOKENIZER)
TOPICS = ("a cat", "a dog and a balloon", "the clock that lost its tick", "a robot who wanted a friend", "an owl")


def tiny(block_size: int = 300, sharp: float = 6.0, **changes) -> GPT:
    """Return a model with matrices `sharp` times as large, so that its distributions are far from uniform."""
    mx.random.seed(1)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": block_size, "vocab_size": V}
    model = GPT(GPTConfig(**{**shape, **changes}))
    model.update(tree_map(lambda p: p * sharp if p.ndim == 2 else p, model.parameters()))
    return model.eval()


class Scripted:
    """Replaces a model: it generates `script` and then periods, since its logits depend on the position only."""

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
                cache.keys = cache.values = mx.zeros((1, 1, ids.shape[1], 8))
        return self.table[positions + 1]


def scripted(story: str, block_size: int = 300, **options) -> tuple[str, Story]:
    """Decode a scripted story; return the pieces joined, and the story."""
    prime = build("a cat", 1)
    decoder = Decoder(Scripted(prime + story, block_size), TOKENIZER, 1, Sampling(temp=0), **options)
    decoder.add(Job(prime, 1))
    pieces = list(decoder.pieces())
    finished = pieces[-1][2]
    assert finished is not None
    return "".join(piece for _, piece, _ in pieces), finished


@pytest.mark.parametrize("B", [4, 17])  # one part, and one for each core
def test_lookahead_equals_steps_and_changes_nothing(B):
    model = tiny()
    rng = np.random.default_rng(1)
    ahead = rng.integers(0, V, (2, 5)).tolist()
    slots, last = Slots(model, B), B - 1
    for slot, T in ((last, 126), (1, 40), (0, 200)):
        slots.prefill(slot, rng.integers(0, V, T).tolist())
    positions, logits = slots.positions.copy(), np.array(slots.logits)
    keys = np.array(slots.parts[0].caches[1].keys)
    seen = slots.lookahead([last, 1], ahead)
    assert seen.shape == (2, 5, V)
    assert np.array_equal(slots.positions, positions) and np.array_equal(np.array(slots.logits), logits)
    now = np.array(slots.parts[0].caches[1].keys)  # there may be more room by now
    assert np.array_equal(now[:, :, : keys.shape[2]], keys)
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
@pytest.mark.parametrize("B", [1, 3, 17])  # alone, a small batch, and one that is compiled and split over the cores
def test_cached_logits_equal_uncached(B, changes):
    model = tiny(**changes)
    rng = np.random.default_rng(0)
    starts = ([127, 5, 128] * 6)[:B]  # on both sides of the edge of a block
    ids = rng.integers(0, V, (B, 300)).astype(np.int32)
    slots = Slots(model, B)
    uncached = model(mx.array(ids))
    for i, start in enumerate(starts):
        slots.prefill(i, ids[i, :start].tolist())
        assert float(mx.abs(slots.logits[i] - uncached[i, start - 1]).max()) < 1e-4
    for t in range(172):
        logits = slots.step(mx.array([int(ids[i, start + t]) for i, start in enumerate(starts)]))
        for i, start in enumerate(starts):
            assert float(mx.abs(logits[i] - uncached[i, start + t]).max()) < 1e-4, (i, t)


def test_greedy_text_equals_the_uncached_loop():
    model = tiny()
    for story in decode(model, TOKENIZER, [Job(build(t, 3), 0) for t in TOPICS], Sampling(temp=0), 100):
        assert story.text == greedy_without_cache(model, story.job.prime, 100).rstrip("\n")


def test_decoding_uses_no_dropout():
    model = tiny(dropout=0.5)
    model.train()
    first, second = (next(decode(model, TOKENIZER, [Job(build("a cat", 1), 4)], max_chars=40)).text for _ in "12")
    assert first == second


def test_story_does_not_depend_on_the_others_in_the_batch():
    """Bit for bit, in a process with the fast BLAS, whose rounding depends on the index of a row in a product."""
    program = "import sys, gatsby_mlx.model; sys.path.append('tests/model'); from test_decode import *; exactness()"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr


def traces(model: GPT, B: int, fillers: list[Job]) -> dict[str, tuple[str, bytes]]:
    """Decode marked jobs, each in slot 2 of B, among `fillers`; return the text of each and the bits of its logits."""
    decoder = Decoder(model, TOKENIZER, B, Sampling(temp=1.0), 90)
    marked = [Job(build(topic, 5), 77 + i, key=topic) for i, topic in enumerate(TOPICS[:3])]
    fill = iter(fillers)
    for job in marked:
        for slot in range(B):
            decoder.add(job if slot == 2 else next(fill))
    logits: dict[str, list[bytes]] = {}
    texts = {}
    step = decoder.batch.slots.step

    def recording(ids):
        out = step(ids)
        job = decoder.jobs[2]
        if job is not None and decoder.batch.tellings[2] is not None:
            logits.setdefault(job.key, []).append(np.array(out[2]).tobytes())
        return out

    decoder.batch.slots.step = recording
    for job, _, story in decoder.pieces():
        if story is not None and job.key:
            texts[job.key] = story.text
    return {key: (texts[key], b"".join(logits[key])) for key in texts}


def exactness() -> None:
    """Compare the texts and logits of a slot with different stories in the others; runs in a separate process."""
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


def test_slot_that_is_used_again_has_no_trace_of_the_first_story():
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


def test_same_seed_gives_the_same_text_and_another_seed_another_text():
    model = tiny()

    def text(seed: int) -> str:
        return next(decode(model, TOKENIZER, [Job(build("a cat", 1), seed)], max_chars=50)).text

    assert text(3) == text(3)
    assert len({text(seed) for seed in range(6)}) == 6


def test_story_with_a_higher_limit_begins_in_the_same_way():
    """A story draws one number for each character, whatever the limit is."""
    assert (uniforms(9, 400)[:30] == uniforms(9, 30)).all()
    model = tiny()
    short, long = (next(decode(model, TOKENIZER, [Job(build("a cat", 1), 9)], max_chars=n)).text for n in (30, 80))
    assert long.startswith(short)


def drawn(logits: np.ndarray, sampling: Sampling, n: int = 20_000) -> np.ndarray:
    """Return the share of each id in `n` draws."""
    u = np.concatenate([uniforms(seed, n // 20) for seed in range(20)])
    repeated = mx.broadcast_to(mx.array(logits, dtype=mx.float32), (n, len(logits)))
    return np.bincount(np.array(draw(repeated, mx.array(u), [sampling])), minlength=len(logits)) / n


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()


LOGITS = np.random.default_rng(5).normal(0, 1.5, 20)


@pytest.mark.parametrize("temp", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temp):
    p = softmax(LOGITS / temp)
    chi_square = 20_000 * ((drawn(LOGITS, Sampling(temp=temp)) - p) ** 2 / p).sum()
    assert chi_square < 43.8  # 19 degrees of freedom: one in a thousand is above


def test_top_k_and_top_p_keep_the_most_likely():
    order, p = np.argsort(-LOGITS), softmax(LOGITS)
    for k in (1, 3, 19):
        kept = drawn(LOGITS, Sampling(temp=1, top_k=k)) > 0
        assert kept[order[k:]].sum() == 0 and kept[order[: min(k, 5)]].all()
    for top_p in (1e-9, 0.3, 0.8):
        n = int(np.searchsorted(np.cumsum(p[order]), top_p) + 1)  # as many as it takes to reach top_p
        shares = drawn(LOGITS, Sampling(temp=1, top_p=top_p))
        assert shares[order[n:]].sum() == 0 and (shares[order[:n]] > 0).all()
        assert shares[order[:n]] == pytest.approx(p[order[:n]] / p[order[:n]].sum(), abs=0.015)


def test_top_k_above_the_size_of_the_vocabulary_is_off():
    every = drawn(LOGITS, Sampling(temp=1))
    for k in (0, 20, 21, 10_000):
        assert (drawn(LOGITS, Sampling(temp=1, top_k=k)) == every).all()


def test_greedy_takes_the_most_likely_and_so_does_a_tiny_temperature():
    logits = mx.array(np.random.default_rng(1).normal(0, 30, (64, 20)), dtype=mx.float32)
    u = mx.array(uniforms(3, 64))
    best = mx.argmax(logits, axis=-1).tolist()
    for temp in (0, 1e-45, 1e-38, 1e-6, 1e-3):
        assert draw(logits, u, [Sampling(temp=temp)]).tolist() == best


def test_ends_of_the_unit_interval_draw_a_possible_id():
    logits = mx.array([[0.0, 1.0, -mx.inf, 1.0]] * 2)
    for sampling in (Sampling(temp=1), Sampling(temp=1, top_k=2), Sampling(temp=1, top_p=0.5)):
        ids = draw(logits, mx.array([0.0, 1 - 2**-24]), [sampling]).tolist()
        assert ids[0] == 1 and ids[1] in (0, 1, 3)


@pytest.mark.parametrize(
    "values",
    [{"temp": -0.1}, {"temp": float("nan")}, {"temp": float("inf")}, {"top_k": -1}, {"top_p": 0}, {"top_p": 2}],
)
def test_invalid_sampling_is_refused(values):
    with pytest.raises(UsageError):
        Sampling(**values)


def test_story_ends_at_the_marker_after_a_blank_line_only():
    written = "A cat [sat.\n[x] Here.\n\nThere."
    pieces, story = scripted(written + "\n\n[green=")
    assert (story.text, story.finish, story.n_chars) == (written, "end", len(written) + 3)
    assert pieces == written  # neither the blank line nor the marker
    assert story.run_on == ""


def test_story_that_does_not_end_says_why():
    prime = build("a cat", 1)
    pieces, story = scripted("A cat sat.\n\n", max_chars=12)
    assert (story.text, story.finish, story.n_chars) == ("A cat sat.", "limit", 12)
    assert pieces == story.text
    _, story = scripted("A cat sat.\n\n[", max_chars=13)
    assert story.finish == "end"
    for limit in (None, 5_000):
        pieces, story = scripted("A cat", block_size=len(prime) + 9, max_chars=limit)
        assert (story.text, story.finish, story.n_chars) == ("A cat.....", "context", 10)
        assert pieces == story.text


@pytest.mark.parametrize("room", [1, 2, 30])
def test_story_stops_at_the_end_of_the_context_and_logits_stay_finite(room):
    prime = build("a cat", 1)
    model = tiny(block_size=len(prime) + room)
    decoder = Decoder(model, TOKENIZER, 3, Sampling(), 10_000)
    for i in range(7):
        decoder.add(Job(prime if i % 2 else prime[:-30], i))
    stories = []
    for _, _, story in decoder.pieces():
        assert bool(mx.isfinite(decoder.batch.slots.logits).all())
        # MLX does not check indices: beyond the position table it would read any memory
        assert decoder.batch.slots.positions.max() < model.config.block_size
        stories += [story] if story else []
    assert len(stories) == 7
    for story in stories:
        n_free = model.config.block_size - len(story.job.prime) + 1
        assert story.finish == "end" or (story.finish, story.n_chars) == ("context", n_free)


def test_prime_without_room_is_refused_before_decoding():
    decoder = Decoder(tiny(block_size=40), TOKENIZER, 1, Sampling())
    for prime, reason in (("x" * 40, "no room"), ("x" * 41, "no room"), ("", "empty"), ("caf\u00e9", "\u00e9")):
        with pytest.raises(GatsbyError, match=reason):
            decoder.add(Job(prime, 1))
    assert list(decoder.pieces()) == []
    for batch, limit in ((0, None), (1, 0)):
        with pytest.raises(UsageError):
            Decoder(tiny(), TOKENIZER, batch, Sampling(), limit)


def test_past_end_continues_and_still_gives_the_story():
    pieces, story = scripted("A cat.\n\n[green=1]\n\n[green=", past_end=True, max_chars=40)
    assert (story.text, story.finish, story.n_chars) == ("A cat.", "end", 40)
    assert pieces == story.run_on == "A cat.\n\n[green=1]\n\n[green=" + "." * 14
    for written in ("A cat sat.", "A cat.\n\n", "A cat.\n\nIt", "A cat\n["):
        _, story = scripted(written, past_end=True, max_chars=len(written))
        assert (story.finish, story.run_on) == ("limit", written)
        assert story.text == written.rstrip("\n")


@pytest.mark.parametrize("batch", [1, 3])
def test_pieces_joined_are_the_story(batch):
    decoder = Decoder(tiny(), TOKENIZER, batch, Sampling(temp=1.5), 60)
    for i, topic in enumerate(TOPICS):
        decoder.add(Job(build(topic, 1), i, key=i))
    texts, stories = Counter(), {}
    for job, piece, story in decoder.pieces():
        texts[job.key] = (texts[job.key] or "") + piece
        assert bool(piece) == (story is None)
        if story is not None:
            stories[job.key] = story
    assert texts == {key: story.text for key, story in stories.items()}
    assert len(stories) == len(TOPICS)


def test_prime_is_read_once_for_several_stories(monkeypatch):
    model, read = tiny(), []
    call = GPT.__call__

    def counting(self, ids, caches=None, positions=None):
        read.append(ids.shape)
        return call(self, ids, caches, positions)

    monkeypatch.setattr(GPT, "__call__", counting)
    slots = Slots(model, 4)
    for slot, length in enumerate((20, 30, 20, 20)):
        slots.prefill(slot, [1] * length)
    assert read == [(1, 20), (1, 30)]
    assert (slots.logits[0] == slots.logits[3]).all() and not (slots.logits[0] == slots.logits[1]).all()
    for length in range(1, 50):
        slots.prefill(0, [1] * length)
    assert len(slots._primes) == CACHED_PRIMES


def test_compiled_step_uses_the_current_weights():
    """A traced function with the weights as constants would keep the old ones."""
    model = tiny()
    slots = Slots(model, 16)
    for slot in range(16):
        slots.prefill(slot, [1] * 20)
    before = np.array(slots.step(mx.zeros((16,), mx.int32)))
    model.update(tree_map(lambda p: p * 0.5, model.parameters()))
    after = np.array(slots.step(mx.zeros((16,), mx.int32)))
    assert np.abs(after - before).max() > 0.1


def test_cache_grows_with_the_stories():
    slots = Slots(tiny(block_size=256), 4)
    slots.prefill(0, [1] * 20)
    slots.prefill(1, [1] * 130)
    assert slots.parts[0].caches[0].keys.shape[2] == 256
    short = Slots(tiny(block_size=256), 4)
    for slot in range(4):
        short.prefill(slot, [1] * 20)
    short.step(mx.zeros((4,), mx.int32))
    assert short.parts[0].caches[0].keys.shape[2] == 128


# Telling and TellingBatch, which the exhibit uses directly.


def take_all(telling: Telling, generated: str) -> list[str]:
    """Let `telling` take `generated` until it is finished; return what each character added."""
    new = []
    for drawn in TOKENIZER.encode(generated):
        new.append(telling.take(drawn))
        if telling.finish:
            break
    return new


def test_telling_holds_line_ends_back_until_the_next_character():
    telling = Telling(TOKENIZER, uniforms(1, 100), Sampling())
    assert take_all(telling, "A.\n\nB\n[") == ["A", ".", "", "", "\n\nB", "", "\n["]
    assert (telling.story, telling.written, telling.finish) == ("A.\n\nB\n[", "A.\n\nB\n[", "")
    assert take_all(telling, "\n\n") == ["", ""]
    assert (telling.story, telling.written) == ("A.\n\nB\n[", "A.\n\nB\n[\n\n")
    assert take_all(telling, "[green") == [""]
    assert (telling.story, telling.finish, telling.n_drawn) == ("A.\n\nB\n[", "end", 10)


def test_telling_ends_when_its_draws_are_used_up():
    for full in ("context", "limit"):
        telling = Telling(TOKENIZER, uniforms(1, 3), Sampling(), full)
        assert take_all(telling, "A cat sat.") == ["A", " ", "c"]
        assert telling.finish == full
    telling = Telling(TOKENIZER, uniforms(1, 4), Sampling())
    assert take_all(telling, "A\n\n[") == ["A", "", "", ""]
    assert telling.finish == "end"  # even with the last draw


def test_telling_continues_a_story():
    telling = Telling(TOKENIZER, uniforms(1, 20), Sampling(), story="A cat")
    assert take_all(telling, " sat.") == [" ", "s", "a", "t", "."]
    assert (telling.story, telling.n_drawn) == ("A cat sat.", 5)


@pytest.mark.parametrize("n", [3, 16])
def test_batch_draws_each_story_with_its_sampling(n):
    """Stories with different sampling, and free slots between them, give the texts that they give alone."""
    model = tiny()
    samplings = [Sampling(temp=0), Sampling(temp=1.5), Sampling(temp=1, top_k=3), Sampling(temp=0)]

    def texts(chosen: list[int]) -> dict[int, str]:
        batch = TellingBatch(model, n)
        tellings = {}
        for slot in chosen:
            tellings[slot] = Telling(TOKENIZER, uniforms(slot, 40), samplings[slot % 4])
            batch.begin(slot, TOKENIZER.encode(build(TOPICS[slot % 5], 2)), tellings[slot])
        assert batch.n_live == len(chosen)
        while batch.n_live:
            for slot, telling, _ in batch.step():
                assert tellings[slot] is telling
                assert (batch.tellings[slot] is None) == bool(telling.finish)
        return {slot: telling.written for slot, telling in tellings.items()}

    slots = [slot for slot in range(n) if slot % 5 != 1]
    together = texts(slots)
    random = [together[slot] for slot in slots if samplings[slot % 4].temp]
    assert len(set(random)) == len(random)
    for slot in slots[:4]:
        assert texts([slot]) == {slot: together[slot]}


def test_released_slot_takes_another_story():
    batch = TellingBatch(tiny(), 2)
    for slot in (0, 1):
        batch.begin(slot, TOKENIZER.encode(build("a cat", 1)), Telling(TOKENIZER, uniforms(slot, 50), Sampling()))
    batch.step()
    batch.release(0)
    assert (len(batch), batch.n_live) == (2, 1)
    assert [slot for slot, _, _ in batch.step()] == [1]
    again = Telling(TOKENIZER, uniforms(0, 50), Sampling())
    batch.begin(0, TOKENIZER.encode(build("a cat", 1)), again)
    for _ in range(30):
        batch.step()
    alone = TellingBatch(tiny(), 2)
    first = Telling(TOKENIZER, uniforms(0, 50), Sampling())
    alone.begin(0, TOKENIZER.encode(build("a cat", 1)), first)
    for _ in range(30):
        alone.step()
    assert again.written == first.written
