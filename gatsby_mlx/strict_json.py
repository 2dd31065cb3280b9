"""Values that strict JSON can hold: it has neither tuples nor NaN."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Return `value` with tuples as lists and NaN as None, at any depth of dicts, lists and tuples.

    >>> plain({"mean": 1.5, "interval": (1.0, float("nan"))})
    {'mean': 1.5, 'interval': [1.0, None]}
    """
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
