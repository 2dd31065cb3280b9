"""Resume the training run of this folder, and tell the sha256 of what it ends with.

    python tests/pins/resume.py OUT.txt    # with the gatsby_mlx that can be imported

Beside it four runs are made from their beginning: the same one unbroken, one with short rows, one from no checkpoint,
one with random windows. On one machine and one set of libraries two versions of this package should give the same
lines:

    diff BEFORE.txt AFTER.txt
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

PINS = Path(__file__).resolve().parent
COMMON = ["--from", "tiny", "--corpus", "corpus", "--lr", "0.01"]
TUNE = ["--preset", "tune", *COMMON, "--max-chars", "24000"]
RUNS = {
    "run": [*TUNE, "--resume"],
    "unbroken": TUNE,
    "short-rows": ["--preset", "pocket", *COMMON, "--max-chars", "6000"],
    "from-nothing": ["--preset", "pocket", "--corpus", "corpus", "--max-chars", "3000"],
    "windows": ["--preset", "seed", *COMMON, "--max-chars", "60000"],
}


def ends(desk: Path) -> list[str]:
    """Make the runs in the folder `desk`, each in a process of its own, and return a line for each file of arrays."""
    for name in ("corpus", "tiny", "run"):
        shutil.copytree(PINS / name, desk / name)
    env = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(PINS.parents[1]))}
    lines = []
    for name, words in RUNS.items():
        command = [sys.executable, "-m", "gatsby_mlx", "train", *words, "--out", name]
        subprocess.run(command, cwd=desk, env=env, check=True, stderr=subprocess.DEVNULL)
        for path in sorted((desk / name).rglob("*.safetensors")):
            content = path.read_bytes() if path.name == "model.safetensors" else in_order(path)
            lines.append(f"{hashlib.sha256(content).hexdigest()}  {path.relative_to(desk)}")
    same = [(desk / name / "last" / "model.safetensors").read_bytes() for name in ("run", "unbroken")]
    return [*lines, f"the resumed run and the unbroken one end with the same bits: {same[0] == same[1]}"]


def in_order(path: Path) -> bytes:
    """Return the arrays of an optimizer's file by their names: they stand in another order after a resumption."""
    return b"".join(f"{k} {v.dtype} {v.shape}\n".encode() + v.tobytes() for k, v in sorted(load_file(path).items()))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = "\n".join(ends(Path(folder))) + "\n"
    sys.stdout.write(told)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(told, "utf-8")


if __name__ == "__main__":
    main()
