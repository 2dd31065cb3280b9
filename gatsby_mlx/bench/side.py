"""Two halves, each in a process of its own, that do what they are told: a line of JSON in, a line of JSON out.

with Side("torch") as side:
    side.ask("hello", device="cpu")
    side.ask("train_turn", steps=10)["seconds"]
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from gatsby_mlx.errors import GatsbyError, UsageError

NAMES = ("mlx", "torch")
TORCH_CURE = "pip install 'gatsby-mlx[bench]', or in a checkout: make bench"


class SideError(GatsbyError):
    """A half could not do what it was asked."""


class Side:
    """A half that runs as a child process. Use it as a context manager: it ends with the block."""

    def __init__(self, name: str):
        self.name = name
        command = [sys.executable, "-m", "gatsby_mlx.bench.side", name]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *exception) -> None:
        if self._child.stdin:
            self._child.stdin.close()  # the child reads the end and leaves
        if exception and exception[0] is not None:
            self._child.kill()
        self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()

    def ask(self, what: str, **values: Any) -> dict[str, Any]:
        """Have the child do `what` and return its answer; raise its GatsbyError, or SideError if it died."""
        try:
            assert self._child.stdin and self._child.stdout
            self._child.stdin.write(json.dumps({"do": what, **values}).encode() + b"\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            code = self._child.wait()
            told = f"The {self.name} half ended with code {code} while it did {what}"
            raise SideError(told, "Try a smaller --batch" if code in (-9, 137) else "Its last words stand above")
        answer = json.loads(line)
        if "error" in answer:
            raise (UsageError if answer["usage"] else SideError)(answer["error"], answer["cure"])
        return answer


def resident_peak_bytes(reset: bool = False) -> int:
    """Return the largest resident memory of this process so far (on Linux: since the last `reset`), in bytes."""
    if sys.platform == "linux":
        if reset:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def serve(half: Any, commands: Any, answers: Any) -> None:
    """Do what each line of `commands` asks of `half` until there are no more, one answer a line."""
    for line in commands:
        asked = json.loads(line)
        try:
            answer = getattr(half, asked.pop("do"))(**asked) or {}
        except GatsbyError as error:
            answer = {"error": str(error), "cure": error.cure, "usage": isinstance(error, UsageError)}
        except (MemoryError, RuntimeError) as error:
            if "memory" not in str(error).lower() and "alloc" not in str(error).lower():
                raise
            told = " ".join(str(error).split())[:200]
            answer = {"error": f"It does not fit in memory: {told}", "cure": "Try a smaller --batch", "usage": False}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def half(name: str) -> Any:
    """Return the half called `name`; raise SideError where PyTorch is missing or too old."""
    if name == "mlx":
        from gatsby_mlx.bench.mlx_half import MlxHalf

        return MlxHalf()
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SideError(f"PyTorch cannot be imported ({error})", TORCH_CURE) from None
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 6):
        raise SideError(f"PyTorch {torch.__version__} is too old, 2.6 or newer is needed", TORCH_CURE)
    from gatsby_mlx.bench.torch_half import TorchHalf

    return TorchHalf()


def main(name: str) -> None:
    """Be a half: answer on what was stdout, and send everything else that is printed to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        made = half(name)
    except SideError as error:
        refused = {"error": str(error), "cure": error.cure, "usage": False}
        sys.stdin.readline()
        answers.write(json.dumps(refused) + "\n")
        return
    serve(made, sys.stdin, answers)


if __name__ == "__main__":
    main(cast(str, sys.argv[1]))
