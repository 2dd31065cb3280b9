"""nanoGPT's forward pass in PyTorch, in functional form, over a state dict: the reference for an import."""

import math

import torch
from torch.nn import functional as F


def random_state(args: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a state dict with nanoGPT's names and shapes, with weights that are far from its initial ones."""
    generator = torch.Generator().manual_seed(seed)
    C, V = args["n_embd"], args["vocab_size"]

    def draw(*shape: int, around: float = 0.0, scale: float = 0.2) -> torch.Tensor:
        return around + scale * torch.randn(*shape, generator=generator)

    state = {"transformer.wte.weight": draw(V, C), "transformer.wpe.weight": draw(args["block_size"], C)}

    def norm(name: str) -> None:
        state[f"{name}.weight"] = draw(C, around=1.0)
        if args["bias"]:
            state[f"{name}.bias"] = draw(C)

    for layer in range(args["n_layer"]):
        h = f"transformer.h.{layer}"
        norm(f"{h}.ln_1")
        norm(f"{h}.ln_2")
        for name, rows, columns in (
            ("attn.c_attn", 3 * C, C),
            ("attn.c_proj", C, C),
            ("mlp.c_fc", 4 * C, C),
            ("mlp.c_proj", C, 4 * C),
        ):
            state[f"{h}.{name}.weight"] = draw(rows, columns, scale=C**-0.5)
            if args["bias"]:
                state[f"{h}.{name}.bias"] = draw(rows)
    norm("transformer.ln_f")
    state["lm_head.weight"] = state["transformer.wte.weight"]  # tied, as in nanoGPT
    return state


def logits(state: dict[str, torch.Tensor], args: dict, ids: torch.Tensor) -> torch.Tensor:
    """Return logits [B, T, V] in float32 for ids [B, T]: pre-norm blocks, exact GELU, an embedding tied to the head."""
    w = {name.replace("_orig_mod.", ""): value.float() for name, value in state.items()}
    B, T = ids.shape
    C, H = args["n_embd"], args["n_head"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (C,), w[f"{name}.weight"], w.get(f"{name}.bias"), 1e-5)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:T]
    hidden = torch.full((T, T), -math.inf).triu(1)
    for layer in range(args["n_layer"]):
        h = f"transformer.h.{layer}"
        q, k, v = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").view(B, T, 3, H, C // H).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(C // H) + hidden
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C)
        x = x + linear(y, f"{h}.attn.c_proj")
        x = x + linear(F.gelu(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")), f"{h}.mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["lm_head.weight"].T
