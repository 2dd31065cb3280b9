"""Where something new may be written: an empty place, or one that holds the same kind of thing."""

from pathlib import Path

from gatsby_mlx.errors import OutputError


def check_free(out: Path, *ours: str) -> None:
    """Raise OutputError unless `out` is absent, an empty folder, or a folder with one of the files `ours` in it."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_dir() and (not any(out.iterdir()) or any((out / name).is_file() for name in ours)):
        return
    what = "is a folder with something in it" if out.is_dir() else "is a file"
    raise OutputError(f"{out} {what}", "Choose another folder with --out, or remove it first")
