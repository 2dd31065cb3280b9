"""Decoding on a device that is no CPU: the newest characters share a column, and a step reads the drawn ids alone."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from off_cpu import Waits, off_cpu, operations
from test_decode import LOGITS, TOKENIZER, TOPICS, V, tiny

from gatsby_mlx import kernels
from gatsby_mlx.model import decode as decoding
from gatsby_mlx.model.batch import GROWTH, Slots
from gatsby_mlx.model.decode import Telling, TellingBatch, decode, draw, uniforms
from gatsby_mlx.story.prime import build
from gatsby_mlx.story.sampling import Job, Sampling


def some_ids(B: int, T: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, (B, T)).astype(np.int32)


@pytest.mark.parametrize("B", [1, 3])
def test_cached_logits_equal_uncached_whatever_the_lengths(monkeypatch, B):
    """Primes of 5 to 290 characters, in any order: columns have to be made on the left, and dropped there."""
    off_cpu(monkeypatch)
    model = tiny(block_size=700)
    starts = ([127, 5, 290, 128] * 6)[:B]
    ids, slots = some_ids(B, 700), Slots(model, B)
    uncached = model(mx.array(ids))
    for slot, start in enumerate(starts):
        slots.prefill(slot, ids[slot, :start].tolist())
        assert float(mx.abs(slots.logits[slot] - uncached[slot, start - 1]).max()) < 1e-4
    lengths, longest = list(starts), 0
    for t in range(250):
        if t in (100, 200):  # a story ends, and a short one takes its slot
            slots.release(0)
            lengths[0] = 20
            slots.prefill(0, ids[0, :20].tolist())
        fed = mx.array([int(ids[slot, n]) for slot, n in enumerate(lengths)])
        logits = slots.step(fed)
        lengths = [n + 1 for n in lengths]
        longest = max(longest, *lengths)
        assert slots.positions.tolist() == [n - 1 for n in lengths]
        assert len(set((slots.first + slots.positions).tolist())) == 1
        if t % 20 == 0 or t in (101, 201):
            for slot, n in enumerate(lengths):
                assert float(mx.abs(logits[slot] - uncached[slot, n - 1]).max()) < 1e-4, (t, slot)
    assert slots.parts[0].caches[0].keys.shape[2] <= -(-longest // GROWTH) * GROWTH + GROWTH


def test_texts_are_those_of_a_cpu(monkeypatch):
    model = tiny()
    jobs = [Job(build(TOPICS[i % 5], 1 + i % 5), i, key=i) for i in range(8)]

    def texts() -> dict[Any, str]:
        return {s.job.key: s.text for s in decode(model, TOKENIZER, jobs, Sampling(temp=0), 60, batch=3)}

    on_cpu = texts()
    off_cpu(monkeypatch)
    assert texts() == on_cpu and len(set(on_cpu.values())) > 3


@pytest.mark.parametrize("B", [1, 5, 16])
def test_step_writes_slices_attends_by_the_fused_kernel_and_has_no_scatter(monkeypatch, B):
    off_cpu(monkeypatch)
    fused, calls = mx.fast.scaled_dot_product_attention, []

    def counted(*args: Any, **options: Any) -> mx.array:
        calls.append(args[1].shape)
        return fused(*args, **options)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", counted)
    monkeypatch.setattr("gatsby_mlx.device.n_workers", lambda: 1)
    model = tiny()
    slots = Slots(model, B)
    for slot in range(B):
        slots.prefill(slot, some_ids(B, 130 + slot)[slot].tolist())
    calls.clear()
    found = operations(slots.step(mx.zeros((B,), mx.int32)))
    n_layer = model.config.n_layer
    assert found["DynamicSliceUpdate"] == 2 * n_layer  # keys and values
    assert not any("Scatter" in name for name in found)
    assert calls == [(B, 2, 2 * GROWTH, 16)] * n_layer  # all cached columns in one call


@pytest.mark.parametrize("kinds", [1, 3])
def test_step_reads_the_drawn_ids_and_nothing_else(monkeypatch, kinds):
    off_cpu(monkeypatch)
    monkeypatch.setattr("gatsby_mlx.device.n_workers", lambda: 1)
    samplings = [Sampling(temp=0.7), Sampling(temp=0), Sampling(temp=1.2, top_k=5, top_p=0.9)][:kinds]
    batch, calls = TellingBatch(tiny(), 6), []

    def counted(*args: Any) -> mx.array:
        calls.append(len(args[2]))
        return draw(*args)

    monkeypatch.setattr(decoding, "draw", counted)
    for slot in range(5):  # one stays free
        telling = Telling(TOKENIZER, uniforms(slot, 200), samplings[slot % kinds])
        batch.begin(slot, TOKENIZER.encode(build(TOPICS[slot], 2)), telling)
    with monkeypatch.context() as patch:
        waits = Waits(patch)
        for _ in range(150):
            batch.step()
        assert (waits.reads, waits.evals, waits.queued) == (["array"] * 150, 0, 150)
    assert calls == [1 if kinds == 1 else 6] * 150


def test_one_call_draws_for_several_kinds_of_sampling():
    kinds = [
        Sampling(temp=0),
        Sampling(temp=0.5),
        Sampling(temp=1.5, top_k=3),
        Sampling(top_p=0.4),
        Sampling(temp=1e-9),
    ]
    samplings = [kinds[i % 5] for i in range(400)]
    logits = mx.broadcast_to(mx.array(LOGITS, dtype=mx.float32), (400, len(LOGITS)))
    u = mx.array(uniforms(1, 400))
    together = np.array(draw(logits, u, samplings)).tolist()
    apart = [np.array(draw(logits, u, [kind])).tolist() for kind in kinds]
    assert together == [apart[i % 5][i] for i in range(400)]
    assert len(set(together)) > 3


@pytest.mark.parametrize("gpu", [False, True])
def test_free_slot_does_not_make_steps_longer(monkeypatch, gpu):
    if gpu:
        off_cpu(monkeypatch)
    slots = Slots(tiny(), 2)
    slots.prefill(0, [1] * 20)
    slots.release(0)
    for t in range(GROWTH + 30):
        if t % 50 == 0:  # a new story each time
            slots.prefill(1, [1] * 20)
        slots.step(mx.array([1, 2]))
    assert slots.positions[0] == 0
    assert slots.parts[0].caches[0].keys.shape[2] <= (2 if gpu else 1) * GROWTH


def test_weights_as_a_batch_reads_them_give_the_same_bits():
    weight, x = mx.random.normal((1152, 384), key=mx.random.key(1)), mx.random.normal((45, 384), key=mx.random.key(2))
    stored = kernels.stored(weight)
    assert stored.shape == weight.shape and (stored == weight).all()
    assert (x @ stored.T == x @ weight.T).all()
    model = tiny()
    slots = Slots(model, 16)
    assert model.h[0].mlp.c_fc.weight is not slots.parts[0].model.h[0].mlp.c_fc.weight
    assert model.wte.weight.shape == slots.parts[0].model.wte.weight.shape
