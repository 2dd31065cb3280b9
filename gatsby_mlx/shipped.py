"""What ships with the package: the house corpus and the trained checkpoints, in a checkout and in a wheel alike."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the shipped folder `name` ("corpus" or "checkpoints"), which may not exist."""
    inside = _PACKAGE / "_shipped" / name
    return inside if inside.exists() else _PACKAGE.parent / name


def corpus() -> Path:
    return folder("corpus")


def checkpoint() -> Path | None:
    """Return the shipped checkpoint that `tell` falls back on, or None where none ships."""
    found = sorted(p.parent for p in folder("checkpoints").glob("*/config.json"))
    return found[0] if found else None
