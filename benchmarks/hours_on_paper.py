"""Hours for 2,000 stories by each of the four, on paper: weights and cache over memory speed, products over peak speed.

python benchmarks/hours_on_paper.py
"""

from gatsby_mlx.cli.console import table
from gatsby_mlx.writers.specs import FOUR

MACHINES = {
    "M1 Max": (400e9, 10.4e12),
    "M4 Max": (546e9, 17e12),
}  # bytes/s and FLOP/s (half precision), Apple's figures
PARAMETERS = {"olmo": (7e9, 7e9), "ministral": (8e9, 8e9), "gemma": (4e9, 26e9), "granite": (8e9, 8e9)}  # active, all
REACHED = 0.6  # of both speeds
TOKENS, CONTEXT, STORIES = 180, 450, 2000


def hours(name: str, machine: str, batch: int) -> float:
    spec, (active, everything) = FOUR[name], PARAMETERS[name]
    speed, flops = MACHINES[machine]
    read = spec.size_bytes * min(1.0, batch * active / everything)
    step = max((read + batch * CONTEXT * spec.kv_bytes) / speed, 2 * active * batch / flops) / REACHED
    return STORIES / batch * TOKENS * step / 3600


rows = [
    [name, *(f"{hours(name, machine, batch):.1f}" for machine in MACHINES for batch in (1, 16, 32))] for name in FOUR
]
print(table(["hours", *(f"{machine}, {batch} at once" for machine in MACHINES for batch in (1, 16, 32))], rows))
