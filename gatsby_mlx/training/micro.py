"""How much of a step goes through the model at once: as the recipe says on a CPU, as memory permits on a GPU.

On a CPU a step's micro-batches are what its worker threads share, and the presets have two. A GPU is busier with fewer
and larger ones.

>>> from gatsby_mlx.config import preset
>>> story = preset("story")
>>> round(story.model.activation_bytes(1024) * story.training.batch_chars / 1e9, 1)  # GB of a step of 4,096 characters
3.9
"""

from gatsby_mlx import kernels
from gatsby_mlx.config import GPTConfig, TrainConfig
from gatsby_mlx.device.memory import gpu_memory_bytes, memory_bytes

MEMORY_SHARE = 0.5  # of what is free: the rest is for the weights, the optimizer and the step that is queued


def micro_chars(config: TrainConfig, model: GPTConfig, n_processes: int = 1) -> int:
    """Return how many characters of a step go through `model` at once: on a CPU what `config` says.

    On a GPU a step goes through in one part for each of `n_processes`. If half of the free memory does not hold a part,
    it is halved, and again, but not below a sequence.
    """
    free = [n for n in (gpu_memory_bytes(), memory_bytes()["available"]) if n]
    if kernels.on_cpu() or not free:
        return config.micro_chars
    need, budget = config.batch_chars * model.activation_bytes(model.block_size), MEMORY_SHARE * min(free)
    n = n_processes
    while need / n > budget and config.batch_chars // (2 * n) >= model.block_size:
        n *= 2
    return config.batch_chars // n
