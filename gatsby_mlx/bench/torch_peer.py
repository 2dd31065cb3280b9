"""The PyTorch peer: the same model written for PyTorch, trained and decoded as nanoGPT-style code does it.

PyTorch is an extra, so only the process of this peer imports this module (see `peer.create_peer`).
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file
from torch import nn  # pyright: ignore[reportMissingImports]

from gatsby_mlx.bench.work import TrainWork
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.device.memory import resident_peak_bytes
from gatsby_mlx.errors import UsageError

LAYER_NORM_EPS = 1e-5


class CausalSelfAttention(nn.Module):
    def __init__(self, c: GPTConfig):
        super().__init__()
        self.n_head, self.dropout = c.n_head, c.dropout
        self.c_attn = nn.Linear(c.n_embd, 3 * c.n_embd, bias=c.bias)
        self.c_proj = nn.Linear(c.n_embd, c.n_embd, bias=c.bias)
        self.resid_dropout = nn.Dropout(c.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        shape = (B, T, self.n_head, C // self.n_head)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).reshape(B, T, C)))


class MLP(nn.Module):
    def __init__(self, c: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(c.n_embd, 4 * c.n_embd, bias=c.bias)
        self.gelu = nn.GELU(approximate="tanh" if c.gelu == "tanh" else "none")
        self.c_proj = nn.Linear(4 * c.n_embd, c.n_embd, bias=c.bias)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, c: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(c.n_embd, LAYER_NORM_EPS, bias=c.bias)
        self.attn = CausalSelfAttention(c)
        self.ln_2 = nn.LayerNorm(c.n_embd, LAYER_NORM_EPS, bias=c.bias)
        self.mlp = MLP(c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Twin(nn.Module):
    """The model of `gatsby_mlx.model.gpt` in PyTorch, with the same parameter names."""

    def __init__(self, c: GPTConfig):
        super().__init__()
        self.config = c
        self.wte = nn.Embedding(c.vocab_size, c.n_embd)
        self.wpe = nn.Embedding(c.block_size, c.n_embd)
        self.drop = nn.Dropout(c.dropout)
        self.h = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.ln_f = nn.LayerNorm(c.n_embd, LAYER_NORM_EPS, bias=c.bias)

    def forward(self, ids: torch.Tensor, last: bool = False) -> torch.Tensor:
        """Return logits [B, T, V] for ids [B, T]; with `last` only those after the last character, [B, 1, V]."""
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.h:
            x = block(x)
        x = self.ln_f(x[:, -1:] if last else x)
        return F.linear(x, self.wte.weight)

    @torch.no_grad()
    def generate(self, ids: torch.Tensor, n: int, temp: float = 0.8) -> torch.Tensor:
        """Append `n` drawn characters to ids [B, T] by the plain loop, which computes the full text for each one."""
        for _ in range(n):
            logits = self(ids[:, -self.config.block_size :], last=True)[:, -1] / temp
            drawn = torch.multinomial(F.softmax(logits, dim=-1), 1)
            ids = torch.cat((ids, drawn), dim=1)
        return ids


class TorchPeer:
    """Serves the requests of `peer.Peer`: each public method is one, and returns a dictionary for JSON."""

    def handshake(self, device: str = "", compiled: bool = False) -> dict[str, Any]:
        """Choose a device ("gpu" is Metal on a Mac, else CUDA; "" is the fastest); return what this peer runs on.

        Raises UsageError if the device is missing.
        """
        available = {"mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available(), "cpu": True}
        best = next(name for name, here in available.items() if here)
        wanted = best if device in ("", "gpu") else device
        if not available[wanted] or (device == "gpu" and wanted == "cpu"):
            raise UsageError(f"PyTorch has no {device} here", "Try --device cpu")
        self.device, self.compiled = torch.device(wanted), compiled
        blas = {"name": "MKL" if torch.backends.mkl.is_available() else "", "threads": torch.get_num_threads()}
        return {"device": wanted, "versions": {"torch": torch.__version__, "blas": blas, "compiled": compiled}}

    def load(self, folder: str) -> dict[str, Any]:
        """Read the weights that both peers share; return the seconds it took."""
        start = time.perf_counter()
        self.weights = load_file(Path(folder) / "model.safetensors")
        return {"seconds": time.perf_counter() - start}

    def _twin(self, config: dict[str, Any]) -> Twin:
        twin = Twin(GPTConfig(**{**config, "vocab_size": len(self.weights["wte.weight"])}))
        twin.load_state_dict(self.weights)
        return twin.to(self.device)

    def start_training(self, job: dict[str, Any], batches: str) -> dict[str, Any]:
        """Set up training on the batches in an .npz file; return the number of threads."""
        self.work = TrainWork.from_json(job)
        torch.manual_seed(0)
        self.twin = self._twin(job["model"]).train()
        c = TrainConfig()
        matrices = [p for p in self.twin.parameters() if p.ndim >= 2]
        vectors = [p for p in self.twin.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": c.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=self.work.lr, betas=(c.beta1, c.beta2), fused=True)
        self.run = torch.compile(self.twin) if self.compiled else self.twin
        arrays = np.load(batches)
        both = (torch.from_numpy(arrays[name].astype(np.int64)) for name in ("ids", "targets"))
        self.ids, self.targets = (array.to(self.device) for array in both)
        self.step = 0
        scales = self.work.dtype == "float16" and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scales)
        resident_peak_bytes(reset=True)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
        return {"workers": torch.get_num_threads()}

    def _loss(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        lower = self.work.dtype != "float32"
        with torch.autocast(self.device.type, dtype=getattr(torch, self.work.dtype) if lower else None, enabled=lower):
            logits = self.run(ids)
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    def _train_step(self) -> float:
        i = self.step % len(self.ids)
        self.step += 1
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.ids[i], self.targets[i])
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.twin.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()  # waits for the device

    def _synchronize(self) -> None:
        if self.device.type == "mps":
            torch.mps.synchronize()
        elif self.device.type == "cuda":
            torch.cuda.synchronize()

    def train_round(self, steps: int) -> dict[str, Any]:
        """Run `steps` training steps; return the seconds, every loss, and the peak memory (see `_peak`)."""
        start = time.perf_counter()
        losses = [self._train_step() for _ in range(steps)]
        self._synchronize()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "losses": losses, **self._peak()}

    def _peak(self) -> dict[str, Any]:
        """Return the peak memory of training so far, and of what (see `mlx_peer`)."""
        if self.device.type == "cuda":
            return {"peak_bytes": torch.cuda.max_memory_allocated(), "peak_of": "arrays"}
        if self.device.type == "mps":
            return {"peak_bytes": torch.mps.driver_allocated_memory(), "peak_of": "device"}
        return {"peak_bytes": resident_peak_bytes(), "peak_of": "process"}

    def parity(self, theirs: str) -> dict[str, Any]:
        """Compare logits and gradients of the first batch with those that the MLX peer wrote to an .npz file.

        Returns the largest difference of the logits, and of the gradients relative to the largest one of each array.
        The model must have no dropout.
        """
        arrays = np.load(theirs)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            logits = self.twin(self.ids[0]).cpu().numpy()
        self._loss(self.ids[0], self.targets[0]).backward()
        worst = 0.0
        for name, parameter in self.twin.named_parameters():
            ours = parameter.grad.cpu().numpy() if parameter.grad is not None else np.zeros(parameter.shape)
            worst = max(worst, float(np.abs(ours - arrays[f"g.{name}"]).max() / np.abs(ours).max()))
        self.optimizer.zero_grad(set_to_none=True)
        self.step = 0
        return {"logits": float(np.abs(logits - arrays["logits"]).max()), "gradients": worst}

    def tell(self, config: dict[str, Any], primes: list[list[int]], n_chars: int) -> dict[str, Any]:
        """Decode `n_chars` characters for primes [B][T] of one length, all at the same time, by the plain loop."""
        if not hasattr(self, "teller"):
            self.teller = self._twin(config).eval()
            self.teller.generate(torch.tensor(primes, device=self.device), 2)
        torch.manual_seed(0)
        start = time.perf_counter()
        ids = self.teller.generate(torch.tensor(primes, device=self.device), n_chars)
        self._synchronize()
        return {"seconds": time.perf_counter() - start, "chars": ids.shape[0] * n_chars}
