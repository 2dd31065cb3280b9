"""The request for a story and the story that comes back, as plain values without MLX.

>>> Sampling(temp=0.8, top_k=40)
Sampling(temp=0.8, top_k=40, top_p=1.0)
"""

import math
from dataclasses import dataclass
from typing import Any

from gatsby_mlx.errors import UsageError

TEMP = 0.5  # the default temperature; the shipped checkpoint makes the fewest spelling mistakes below 1


@dataclass(frozen=True)
class Sampling:
    """How characters are drawn. `temp` 0 is greedy; `top_k` None or 0 and `top_p` 1 turn these off.

    Raises UsageError for a value outside its range.
    """

    temp: float = TEMP
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self):
        if not 0 <= self.temp < math.inf:
            raise UsageError(f"A temperature is 0 (greedy) or more, not {self.temp}", f"Try --temp {TEMP}")
        if self.top_k is not None and self.top_k < 0:
            raise UsageError(f"top-k is 1 or more (0 is off), not {self.top_k}", "Try --top-k 40")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p is above 0 and up to 1, not {self.top_p}", "Try --top-p 0.95")


@dataclass(frozen=True)
class Job:
    """A story to tell: its `prime` (both lines), its random `seed`, and a `key` that the caller can recognize it by."""

    prime: str
    seed: int
    key: Any = None


@dataclass(frozen=True)
class Story:
    """A finished story.

    `text` is the story without the marker at its end. `finish` says why it ended: "end" (the model ended it), "limit"
    (max_chars) or "context" (no position was left). `n_chars` is the number of characters drawn, the marker included.
    `run_on` is everything that was generated if decoding continued past the end, else "".
    """

    job: Job
    text: str
    finish: str
    n_chars: int
    run_on: str = ""
