"""How much of a step goes through the model at once: as the recipe says on a CPU, as memory permits on a GPU.

On a CPU a step's micro-batches are what its worker threads share, and the presets have two. A GPU is busier with fewer
and larger ones.

>>> from gatsby_mlx.config import preset
>>> story = preset("story")
>>> round(activation_bytes(story.model) * story.training.batch_chars / 1e9, 1)  # GB of a step of 4,096 characters
3.9
"""

from gatsby_mlx import kernels
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.device.memory import memory_bytes, working_set_bytes

MEMORY_SHARE = 0.5  # of what is free: the rest is for the weights, the optimizer and the step that is queued


def activation_bytes(model: GPTConfig) -> int:
    """Estimate the bytes for each character that a step takes at its peak, in float32.

    A layer keeps about 32 numbers for each channel until the backward pass and, where the weights of attention are
    dropped, 3.5 for each pair of a head and a position. The layer that is computed takes some more. Measured with
    `mx.get_peak_memory` and the plain forms (tested); a position is the last one that the context has.
    """
    c, pairs = model.n_embd, model.n_head * model.block_size
    kept = 32 * c + (3.5 if model.dropout else 0.5) * pairs
    return int(4 * (model.n_layer * kept + 24 * c + 4 * pairs + 8 * model.vocab_size))


def micro_chars(config: TrainConfig, model: GPTConfig, n_processes: int = 1) -> int:
    """Return how many characters of a step go through `model` at once: on a CPU what `config` says.

    On a GPU a step goes through in one part for each of `n_processes`. If half of the free memory does not hold a part,
    it is halved, and again, but not below a sequence.
    """
    free = [n for n in (working_set_bytes(), memory_bytes()["available"]) if n]
    if kernels.on_cpu() or not free:
        return config.micro_chars
    need, budget = config.batch_chars * activation_bytes(model), MEMORY_SHARE * min(free)
    n = n_processes
    while need / n > budget and config.batch_chars // (2 * n) >= model.block_size:
        n *= 2
    return config.batch_chars // n
