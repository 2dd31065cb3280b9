"""Figures for people: numbers, percentages, intervals. A missing value or NaN is a dash.

>>> number(1.234), percent(0.5), interval(0.1, 0.2), interval(0.1, 0.2, percent)
('1.23', '50.0%', '0.10 to 0.20', '10.0% to 20.0%')
"""

from collections.abc import Callable
from math import isnan

from gatsby_mlx.story.obsession import Obsession

DASH = "-"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many digits after the point."""
    return DASH if value is None or isnan(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share in 0..1 as a percentage."""
    return DASH if value is None or isnan(value) else f"{100 * value:.{digits}f}%"


def change(value: float | None, digits: int = 1) -> str:
    """Return a relative difference as a signed percentage.

    >>> change(-0.081)
    '-8.1%'
    """
    return DASH if value is None or isnan(value) else f"{100 * value:+.{digits}f}%"


def interval(low: float | None, high: float | None, show: Callable[[float], str] = number, to: str = " to ") -> str:
    """Return the ends of an interval, each formatted with `show`; a dash for the interval of a single topic."""
    return DASH if low is None or high is None or isnan(low) else f"{show(low)}{to}{show(high)}"


def in_unit(digits: int | None) -> Callable[[float], str]:
    """Return the formatter of a figure: a number with so many digits, or for None a percentage."""
    return percent if digits is None else lambda value: number(value, digits)


def subject_of(obsession: Obsession) -> str:
    """Return how a heading or label names what is mentioned.

    >>> subject_of(Obsession()), subject_of(Obsession("whale", "white whale"))
    ('the light', 'the whale')
    """
    return f"the {obsession.words[-1]}"


def plural(n: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "story"), plural(2, "story"), plural(1200, "topic")
    ('1 story', '2 stories', '1,200 topics')
    """
    many = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{n:,} {noun if n == 1 else many}"
