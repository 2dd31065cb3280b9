"""The files that ship with the package, in a checkout or in a wheel: the house corpus and the trained checkpoints."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the shipped folder `name` ("corpus" or "checkpoints"), which may not exist."""
    inside = _PACKAGE / "_shipped" / name
    return inside if inside.exists() else _PACKAGE.parent / name


def corpus() -> Path:
    """Return the folder of the shipped corpus."""
    return folder("corpus")


def checkpoint() -> Path | None:
    """Return the folder of the shipped checkpoint, the default of `tell`, or None if there is none."""
    folders = sorted(path.parent for path in folder("checkpoints").glob("*/config.json"))
    return folders[0] if folders else None
