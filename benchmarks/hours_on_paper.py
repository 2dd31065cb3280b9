"""Hours for 2,000 stories by each of the four, on paper: weights and cache over memory speed, products over peak speed.

python benchmarks/hours_on_paper.py
"""

from gatsby_mlx.cli.console import table
from gatsby_mlx.device.memory import PUBLISHED_GB_PER_S
from gatsby_mlx.writers.estimate import story_s
from gatsby_mlx.writers.specs import FOUR

MACHINES, BATCHES, STORIES = ("M1 Max", "M4 Max"), (1, 16, 32), 2000


def hours(name: str, chip: str, batch: int) -> float:
    spec, speed = FOUR[name], 1e9 * max(PUBLISHED_GB_PER_S[chip])
    return STORIES * story_s(name, spec.size_bytes, spec.kv_bytes, speed, batch) / 3600


rows = [[name, *(f"{hours(name, chip, batch):.1f}" for chip in MACHINES for batch in BATCHES)] for name in FOUR]
print(table(["hours", *(f"{chip}, {batch} at once" for chip in MACHINES for batch in BATCHES)], rows))
