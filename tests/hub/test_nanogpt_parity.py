"""nanogpt: a checkpoint that PyTorch itself saved gives PyTorch's logits within 1e-4. Slow: needs the `bench` extra."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from gatsby_mlx.hub import nanogpt

pytestmark = pytest.mark.slow
ALPHABET = '\n !".[]abcdefghijklmnop\u2014\u2026'
ARGS = {"n_layer": 3, "n_head": 4, "n_embd": 64, "block_size": 96, "vocab_size": len(ALPHABET), "dropout": 0.2}
TOLERANCE = 1e-4


def compare(path: Path, state: dict, args: dict) -> float:
    """Return the largest difference of two logits, over 3 sequences as long as the context."""
    import torch
    import torch_gpt

    ids = np.random.default_rng(7).integers(0, args["vocab_size"], (3, args["block_size"]))
    with torch.no_grad():
        theirs = torch_gpt.logits(state, args, torch.tensor(ids)).numpy()
    ready = nanogpt.load(path, ALPHABET)
    assert ready.model.config.gelu == "erf"
    assert ready.model.config.bias == args["bias"]
    return float(np.abs(np.array(ready.model(mx.array(ids))) - theirs).max())


def saved(tmp_path: Path, args: dict, state: dict, **more) -> Path:
    import torch

    optimizer = torch.optim.AdamW([torch.nn.Parameter(v.detach().clone().float()) for v in state.values()])
    content = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "model_args": args,
        "iter_num": 2000,
        "best_val_loss": torch.tensor(0.622),
        "config": {"dataset": "gatsby", "learning_rate": 1e-3, "compile": True, "decay_lr": True},
    }
    torch.save({**content, **more}, tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_pytorch_s(tmp_path, bias):
    import torch_gpt

    args = {**ARGS, "bias": bias}
    state = torch_gpt.random_state(args)
    path = saved(tmp_path, args, state)
    assert compare(path, state, args) < TOLERANCE
    info = nanogpt.load(path, ALPHABET).info
    assert info["step"] == 2000
    assert abs(info["evaluation"]["loss"] - 0.622) < 1e-6


def test_keys_of_a_compiled_model_and_a_state_dict_with_metadata(tmp_path):
    import collections

    import torch_gpt

    args = {**ARGS, "bias": False}
    plain = torch_gpt.random_state(args, seed=1)
    state = collections.OrderedDict((f"_orig_mod.{k}", v) for k, v in plain.items())
    state._metadata = collections.OrderedDict([("", {"version": 1})])  # type: ignore[attr-defined]
    assert compare(saved(tmp_path, args, state), state, args) < TOLERANCE


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_other_widths(tmp_path, dtype):
    import torch
    import torch_gpt

    args = {**ARGS, "bias": True}
    state = {k: v.to(getattr(torch, dtype)) for k, v in torch_gpt.random_state(args, seed=2).items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]
    assert compare(saved(tmp_path, args, state), state, args) < TOLERANCE


def test_weights_that_are_views_of_their_storage(tmp_path):
    """Transposed, every other column of a wider one, and with an offset: views are saved with their strides."""
    import torch
    import torch_gpt

    args = {**ARGS, "bias": False}
    state = torch_gpt.random_state(args, seed=3)
    for i, (name, w) in enumerate(list(state.items())):
        if w.ndim == 2 and name != "lm_head.weight":
            wide = torch.zeros(w.shape[0] + 2, 2 * w.shape[1])
            wide[2:, ::2] = w
            state[name] = w.t().contiguous().t() if i % 2 else wide[2:, ::2]
            assert not state[name].is_contiguous()
    state["lm_head.weight"] = state["transformer.wte.weight"]
    assert compare(saved(tmp_path, args, state), state, args) < TOLERANCE


def test_arguments_and_step_that_are_tensors(tmp_path):
    import torch
    import torch_gpt

    args = {**ARGS, "bias": False}
    state = torch_gpt.random_state(args, seed=4)
    args_saved = {**args, "n_layer": torch.tensor(3), "dropout": torch.tensor(0.1)}
    path = saved(tmp_path, args_saved, state, iter_num=torch.tensor(17), best_val_loss=torch.tensor([0.5]))
    assert compare(path, state, args) < TOLERANCE
    info = nanogpt.load(path, ALPHABET).info
    assert (info["step"], info["evaluation"]["loss"]) == (17, 0.5)


def test_parameters_saved_as_such_are_read(tmp_path):
    import torch
    import torch_gpt

    args = {**ARGS, "bias": False}
    state = torch_gpt.random_state(args)
    path = saved(tmp_path, args, {k: torch.nn.Parameter(v) for k, v in state.items()})
    assert compare(path, state, args) < TOLERANCE
