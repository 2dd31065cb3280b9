"""Estimate the hours that each of the four writers needs for 2,000 stories, without running them.

    python benchmarks/hours_on_paper.py

The time is the larger of two: reading weights and cache at the speed of memory, multiplying at the speed of the GPU.
"""

import argparse

from gatsby_mlx.cli.console import table
from gatsby_mlx.device.memory import PUBLISHED_GB_PER_S
from gatsby_mlx.writers.estimate import story_s
from gatsby_mlx.writers.specs import FOUR

MACHINES, BATCHES, STORIES = ("M1 Max", "M4 Max"), (1, 16, 32), 2000


def hours(name: str, chip: str, batch: int) -> float:
    spec, speed = FOUR[name], 1e9 * max(PUBLISHED_GB_PER_S[chip])
    return STORIES * story_s(spec.active, spec.size_bytes, spec.kv_bytes, speed, batch) / 3600


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = [[name, *(f"{hours(name, chip, batch):.1f}" for chip in MACHINES for batch in BATCHES)] for name in FOUR]
    print(table(["hours", *(f"{chip}, {batch} at once" for chip in MACHINES for batch in BATCHES)], rows))


if __name__ == "__main__":
    main()
