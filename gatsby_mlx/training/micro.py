"""How much of a step goes through the model at once: as the recipe says on a CPU, as memory permits on a GPU.

On a CPU a step's micro-batches are what its worker threads share, and the presets have two. A GPU is busier with fewer
and larger ones.

>>> from gatsby_mlx.config import preset
>>> story = preset("story")
>>> round(activation_bytes(story.model, 1024) * story.training.batch_chars / 1e9, 1)  # GB of a step of 4,096 characters
3.9
"""

from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.device.memory import gpu_memory_bytes, memory_bytes

MEMORY_SHARE = 0.5  # of what is free: the rest is for the weights, the optimizer and the step that is queued


def activation_bytes(model: GPTConfig, context: int) -> int:
    """Estimate the bytes that each character of a step takes, in sequences of `context`: an upper bound, in float32.

    A layer keeps about 21 numbers for each channel and 3 for each pair of a head and a position for the backward pass,
    where attention is not fused and nothing is compiled; dropout adds 3 and 1.5, its masks among them. The backward
    pass of one layer needs 16 and 2 more, the logits 4 for each character of the vocabulary.
    """
    wide, square = (24, 4.5) if model.dropout else (21, 3)
    channels, pairs = model.n_embd, model.n_head * context
    kept = model.n_layer * (wide * channels + square * pairs)
    return int(4 * (kept + 16 * channels + 2 * pairs + 4 * model.vocab_size))


def micro_chars(config: TrainConfig, model: GPTConfig, n_processes: int = 1) -> int:
    """Return how many characters of a step go through `model` at once: on a CPU what `config` says.

    On a GPU a step goes through in one part for each of `n_processes`. If half of the free memory does not hold a part,
    it is halved, and again, but not below a sequence.
    """
    from gatsby_mlx import kernels  # loads MLX and its BLAS, and the benchmark's PyTorch must not have that

    free = [n for n in (gpu_memory_bytes(), memory_bytes()["available"]) if n]
    if kernels.on_cpu() or not free:
        return config.micro_chars
    need, budget = config.batch_chars * activation_bytes(model, model.block_size), MEMORY_SHARE * min(free)
    n = n_processes
    while need / n > budget and config.batch_chars // (2 * n) >= model.block_size:
        n *= 2
    return config.batch_chars // n
