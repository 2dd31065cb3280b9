"""kernels: the CPU forms agree with the plain forms in value and gradient; off the CPU only the plain forms run."""

import math
from collections.abc import Callable
from types import FunctionType

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map

from gatsby_mlx import kernels
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.kernels import cpu
from gatsby_mlx.kernels import mlx as plain
from gatsby_mlx.model.batch import Slots
from gatsby_mlx.model.cache import GrowingCache
from gatsby_mlx.model.decode import Telling, TellingBatch, uniforms
from gatsby_mlx.model.gpt import GPT, flat
from gatsby_mlx.story.prime import ALPHABET, build
from gatsby_mlx.story.sampling import Sampling
from gatsby_mlx.tokenizer import CharTokenizer


def largest(a: mx.array, b: mx.array) -> float:
    """Return the largest absolute difference of two arrays."""
    return float(mx.abs(a - b).max())


def textbook_attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    T = q.shape[2]
    scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)
    return mx.softmax(mx.where(mx.tri(T, dtype=mx.bool_), scores, -mx.inf), axis=-1) @ v


def qkv(T: int, scale: float = 1.0) -> list[mx.array]:
    """Return random q, k, v [2, 3, T, 16]."""
    return [scale * mx.random.normal((2, 3, T, 16), key=mx.random.key(i)) for i in range(3)]


# Elementwise functions.


@pytest.mark.parametrize(("low", "tolerance"), [(-8, 5e-6), (-24, 4e-4)])
def test_exp_has_the_error_that_its_docstring_says(low, tolerance):
    x = np.linspace(low, 0, 20_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(np.array(cpu.exp_nonpositive(mx.array(x))) / exact - 1).max() < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(mx.bfloat16, 2**-8), (mx.float16, 2**-10)])
def test_exp_in_low_precision_is_rounded_once(dtype, tolerance):
    x = mx.linspace(-9, 0, 4_001).astype(dtype)
    result, exact = cpu.exp_nonpositive(x), mx.exp(x.astype(mx.float32))
    assert result.dtype == dtype
    assert largest(result.astype(mx.float32) / exact, mx.array(1.0)) < tolerance


def test_exp_is_bounded_below_its_range():
    out = cpu.exp_nonpositive(mx.array([-1e30, -mx.inf, 0.0]))
    assert float(out[2]) == 1
    assert 0 < float(out[0]) == float(out[1]) < 1e-10
    assert math.isnan(float(cpu.exp_nonpositive(mx.array(math.nan))))  # a run that diverges has to show it


PAIRS = [
    pytest.param(cpu.sigmoid, mx.sigmoid, id="sigmoid"),
    pytest.param(kernels.gelu_tanh, nn.gelu_approx, id="gelu_tanh"),
    pytest.param(kernels.gelu_erf, nn.gelu, id="gelu_erf"),
]


@pytest.mark.parametrize("n", [100, 24_001, cpu.LARGE])  # below SMALL, above it, and above LARGE
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_activations_equal_those_of_mlx(ours, theirs, n):
    x = mx.concatenate([mx.linspace(-12, 12, n), mx.array([-60.0, 60.0, 0.0])])
    assert largest(ours(x), theirs(x)) < 1e-6
    weights = mx.sin(x)
    ours_grad, theirs_grad = (mx.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (ours, theirs))
    assert largest(ours_grad, theirs_grad) < 2e-6


def test_softmax_equals_that_of_mlx():
    x = 5 * mx.random.normal((40, 512), key=mx.random.key(1))
    x = mx.where(mx.arange(512) > mx.arange(40)[:, None] * 9, -mx.inf, x)
    assert largest(cpu.softmax(x), mx.softmax(x, axis=-1)) < 1e-6
    assert (cpu.softmax(x)[0, 1:] == 0).all()


# Causal attention.


@pytest.mark.parametrize("T", [1, 7, 127, 128, 129, 300])
def test_attention_equals_the_plain_form(T):
    inputs = qkv(T)
    fused = mx.fast.scaled_dot_product_attention(*inputs, scale=0.25, mask="causal")
    assert largest(kernels.causal_attention(*inputs), fused) < 4e-6
    weights = mx.random.normal(inputs[0].shape, key=mx.random.key(9))
    ours, theirs = (
        mx.grad(lambda q, k, v, f=f: (f(q, k, v) * weights).sum(), argnums=(0, 1, 2))(*inputs)
        for f in (kernels.causal_attention, textbook_attention)
    )
    assert max(map(largest, ours, theirs)) < 1e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [(mx.bfloat16, 0.01), (mx.float16, 0.002)])
def test_attention_in_low_precision_has_the_gradients_of_float32(dtype, tolerance):
    """Over 600 positions the total of a softmax exceeds 256, and its square the range of float16."""

    def gradients(dtype):
        def summed(q, k, v):
            out = kernels.causal_attention(*(a.astype(dtype) for a in (q, k, v)))
            return (out.astype(mx.float32) * mx.sin(mx.arange(600 * 16).reshape(600, 16))).sum()

        return mx.grad(summed, (0, 1, 2))(*qkv(600, 0.3))

    for exact, rounded in zip(gradients(mx.float32), gradients(dtype), strict=True):
        assert float(mx.linalg.norm(rounded - exact) / mx.linalg.norm(exact)) < tolerance


def test_attention_with_large_scores_has_finite_gradients():
    q, k, v = qkv(160, scale=40.0)  # the score of a future key is hundreds above the largest one that is allowed
    for dropout in (0.0, 0.5):
        grads = mx.grad(lambda *a, d=dropout: kernels.causal_attention(*a, d).sum(), argnums=(0, 1, 2))(q, k, v)
        assert all(bool(mx.isfinite(g).all()) for g in grads)


def test_attention_ignores_the_future():
    q, k, v = qkv(200)
    changed = kernels.causal_attention(q, *(mx.where(mx.arange(200)[:, None] < 150, a, 7.0) for a in (k, v)))
    assert bool((changed[:, :, :150] == kernels.causal_attention(q, k, v)[:, :, :150]).all())


@pytest.mark.parametrize("form", [cpu, plain], ids=["cpu", "mlx"])
def test_attention_dropout_is_unbiased(form):
    q, k, v = qkv(140)
    mx.random.seed(3)
    many = mx.stack([form.causal_attention(q, k, v, dropout=0.3) for _ in range(300)])
    error = mx.abs(many.mean(axis=0) - form.causal_attention(q, k, v))
    standard_error = mx.sqrt(many.var(axis=0) / 300) + 1e-6
    assert float((error / standard_error).max()) < 6  # of 13,440 draws of a normal, the largest is about 4
    assert float(error.mean() / standard_error.mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.1)


# Decoding steps.


@pytest.mark.parametrize("B", [1, 3, cpu.BATCHED, 20])
def test_slot_attention_equals_the_plain_form(B):
    q = mx.random.normal((B, 3, 1, 16), key=mx.random.key(1))
    keys, values = (mx.random.normal((B, 3, 3 * cpu.KEY_BLOCK, 16), key=mx.random.key(i)) for i in (2, 3))
    for blocks in (1, 2, 3):
        n = blocks * cpu.KEY_BLOCK
        positions = mx.array(np.random.default_rng(B).integers(0, n, B))
        visible = (mx.arange(n)[None, :] <= positions[:, None])[:, None, None, :]
        ours, theirs = (form.slot_attention(q, keys, values, visible) for form in (cpu, plain))
        assert ours.shape == (B, 3, 1, 16)
        assert largest(ours, theirs) < 4e-6


@pytest.mark.parametrize("B", [1, 5])
@pytest.mark.parametrize("form", [cpu, plain], ids=["cpu", "mlx"])
def test_slot_update_writes_each_column_and_nothing_else(form, B):
    cached = np.random.default_rng(1).normal(size=(B, 3, 40, 16)).astype(np.float32)
    new = np.random.default_rng(2).normal(size=(B, 3, 1, 16)).astype(np.float32)
    columns = np.arange(B) * 9 + 3 if form is cpu else np.full(B, 3)  # off the CPU all slots share one
    expected = cached.copy()
    expected[np.arange(B), :, columns] = new[:, :, 0]
    written = form.slot_update(mx.array(cached), mx.array(new), mx.array(columns.astype(np.int32)))
    assert np.array_equal(np.array(written), expected)


# The dropout mask.


@pytest.mark.parametrize("form", [cpu, plain], ids=["cpu", "mlx"])
def test_dropout_mask_keeps_its_share_and_has_no_pattern(form):
    mx.random.seed(7)
    share, n = 0.8, 1 << 20
    masks = np.stack([np.array(form.dropout_mask((1024, 1024), share)).ravel() for _ in range(4)]).astype(np.float64)
    noise = math.sqrt(share * (1 - share) / n)  # of a mean over n draws
    assert np.abs(masks.mean(axis=1) - share).max() < 5 * noise
    centered = (masks - share) / math.sqrt(share * (1 - share))
    for lag in (1, 2, 3, 64, 1024):
        assert abs((centered[0, lag:] * centered[0, :-lag]).mean()) < 5 / math.sqrt(n), lag
    for other in centered[1:]:  # each call draws a new mask
        assert abs((centered[0] * other).mean()) < 5 / math.sqrt(n)
    columns = masks[0].reshape(1024, 1024).mean(axis=0)
    assert columns.std() == pytest.approx(math.sqrt(share * (1 - share) / 1024), rel=0.1)


def test_dropout_mask_follows_the_seed():
    def drawn(seed: int) -> mx.array:
        mx.random.seed(seed)
        return kernels.dropout_mask((64, 64), 0.5)

    assert (drawn(1) == drawn(1)).all()
    assert not (drawn(1) == drawn(2)).all()


# The choice between the two.

TOKENIZER = CharTokenizer(ALPHABET)
V = len(TOKENIZER)
TOPICS = ("a cat", "a dog and a balloon", "the clock that lost its tick", "an owl")


def small_gpt(gelu: str, dropout: float = 0.0) -> GPT:
    mx.random.seed(1)
    config = GPTConfig(2, 2, 32, block_size=300, vocab_size=V, gelu=gelu, dropout=dropout, bias=True)
    model = GPT(config)
    # Larger matrices make the activations large enough to use the functions over their range.
    model.update(tree_map(lambda p: 4 * p if p.ndim == 2 else p, model.parameters()))
    return model


def some_ids(B: int, T: int) -> mx.array:
    return mx.random.randint(0, V, (B, T), key=mx.random.key(2))


def off_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the forms as on a device that is not a CPU, and make every function of `kernels.cpu` raise."""

    def forbidden(*_, **__):
        raise AssertionError("a function of kernels.cpu was called")

    functions = [name for name, value in vars(cpu).items() if isinstance(value, FunctionType | mx.custom_function)]
    named = {"exp_nonpositive", "softmax", "gelu_tanh", "gelu_erf", "dropout_mask", "causal_attention", "_attend"}
    assert named <= set(functions)
    for name in functions:
        monkeypatch.setattr(cpu, name, forbidden)
    monkeypatch.setattr(kernels, "on_cpu", lambda: False)


def on_both(monkeypatch: pytest.MonkeyPatch, compute: Callable[[], list[mx.array]]) -> float:
    """Compute with the CPU forms and with the plain forms; return the largest difference."""
    assert kernels.on_cpu()
    ours = compute()
    mx.eval(ours)
    with monkeypatch.context() as patch:
        off_cpu(patch)
        with pytest.raises(AssertionError, match=r"kernels\.cpu"):
            cpu.softmax(mx.zeros(3))
        theirs = compute()
        mx.eval(theirs)
    return max(map(largest, ours, theirs))


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_forward_pass_off_the_cpu_uses_plain_forms_only(monkeypatch, gelu):
    model, ids = small_gpt(gelu), some_ids(4, 300)
    assert on_both(monkeypatch, lambda: [model(ids)]) < 1e-4
    model.eval()
    assert on_both(monkeypatch, lambda: [model(ids)]) < 1e-4


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_gradient_off_the_cpu_uses_plain_forms_only(monkeypatch, gelu):
    model, ids = small_gpt(gelu), some_ids(2, 280)

    def loss() -> mx.array:
        return nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:], reduction="mean")

    def gradients() -> list[mx.array]:
        value, grads = nn.value_and_grad(model, loss)()
        return [value, *flat(grads).values()]

    assert on_both(monkeypatch, gradients) < 1e-4
    assert float(mx.abs(gradients()[1]).max()) > 1e-3  # so that 1e-4 is a comparison


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_dropout_off_the_cpu_uses_plain_forms_only(monkeypatch, gelu):
    """Each form draws its mask in a different way, so all of them get the same masks here."""
    model, ids = small_gpt(gelu, dropout=0.2), some_ids(2, 200)

    def mask(shape, keep):
        return mx.random.uniform(shape=shape, key=mx.random.key(math.prod(shape))) < keep

    def loss() -> mx.array:
        return nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:], reduction="mean")

    def results() -> list[mx.array]:
        value, grads = nn.value_and_grad(model, loss)()
        return [model(ids), value, *flat(grads).values()]

    with monkeypatch.context() as patch:  # 200 positions are one block, whose mask has the shape of the plain form's
        patch.setattr(plain, "dropout_mask", mask)
        patch.setattr(cpu, "dropout_mask", mask)
        assert on_both(patch, results) < 1e-4
        dropped = model(ids)
        assert largest(dropped, model.eval()(ids)) > 0.1

    with monkeypatch.context() as patch:  # with the masks that a GPU draws
        off_cpu(patch)
        model.train()
        mx.random.seed(4)
        first, second = results(), results()
        assert all(bool(mx.isfinite(a).all()) for a in first)
        assert largest(first[0], second[0]) > 0.1


def test_prefill_off_the_cpu_uses_plain_forms_only(monkeypatch):
    model = small_gpt("tanh").eval()
    ids = some_ids(3, 290)

    def in_parts() -> list[mx.array]:
        caches = [GrowingCache() for _ in model.h]
        first = model(ids[:, :150], caches)
        second = model(ids[:, 150:], caches, mx.arange(150, 290))
        return [first, second]

    def in_slots() -> list[mx.array]:
        slots = Slots(model, 3)
        for slot, T in enumerate((290, 5, 128)):
            slots.prefill(slot, ids[slot, :T].tolist())
        return [slots.logits]

    assert on_both(monkeypatch, in_parts) < 1e-4
    assert on_both(monkeypatch, in_slots) < 1e-4


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
@pytest.mark.parametrize("n", [1, 16])  # 16 are compiled, and split on a CPU with several cores
def test_decoding_off_the_cpu_uses_plain_forms_only(monkeypatch, n, gelu):
    model = small_gpt(gelu)

    def texts_and_logits() -> tuple[list[str], list[mx.array]]:
        batch, logits = TellingBatch(model, n), []
        tellings = []
        for slot in range(n):
            telling = Telling(TOKENIZER, uniforms(slot, 90), Sampling(temp=0.8))
            batch.begin(slot, TOKENIZER.encode(build(TOPICS[slot % 4], 1 + slot % 5)), telling)
            tellings.append(telling)
        for _ in range(60):
            batch.step()
            logits.append(mx.array(batch.slots.logits))
        return [telling.written for telling in tellings], logits

    texts: list[list[str]] = []

    def logits() -> list[mx.array]:
        written, steps = texts_and_logits()
        texts.append(written)
        return steps

    assert on_both(monkeypatch, logits) < 1e-4
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == n


def test_lookahead_off_the_cpu_uses_plain_forms_only(monkeypatch):
    model = small_gpt("tanh")
    ids = some_ids(16, 140).tolist()
    ahead = some_ids(2, 6).tolist()

    def logits() -> list[mx.array]:
        slots = Slots(model, 16)
        for slot in range(16):
            slots.prefill(slot, ids[slot][: 130 + slot % 10])
        slots.step(mx.zeros((16,), mx.int32))
        return [slots.lookahead([3, 12], ahead)]

    assert on_both(monkeypatch, logits) < 1e-4
