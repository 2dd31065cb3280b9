"""Processes that each run one framework and obey requests: a line of JSON in, a line of JSON out.

    with Peer("torch") as peer:
        peer.ask("handshake", device="cpu")
        peer.ask("train_round", steps=10)["seconds"]

Here are the parent's end of the pipe (`Peer`) and the loop of the child process (`serve`). What the child does is in
`mlx_peer` and `torch_peer`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from gatsby_mlx.errors import BenchError, GatsbyError, UsageError
from gatsby_mlx.foreign import device_error

TORCH_HINT = "Install it from a checkout: pip install '.[bench]' (or run: make bench)"
TORCH_MIN = (2, 6)


class Peer:
    """A child process that runs one framework, "mlx" or "torch". It is a context manager, and ends with the block.

    An `exact` one keeps all bits of float32 products: on an M5, MLX rounds their factors to TF32's ten by default.
    """

    def __init__(self, name: str, exact: bool = False):
        self.name = name
        command = [sys.executable, "-m", "gatsby_mlx.bench.peer", name]
        environment = {**os.environ, "MLX_ENABLE_TF32": "0"} if exact else None
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._child.stdin:
            self._child.stdin.close()  # the child sees the end of its input and exits
        if exception and exception[0] is not None:
            self._child.kill()
        self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()

    def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the child and return its answer. Raise its GatsbyError, or BenchError if it has died."""
        try:
            assert self._child.stdin and self._child.stdout
            self._child.stdin.write(json.dumps({"do": method, **arguments}).encode() + b"\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            code = self._child.wait()
            message = f"The {self.name} peer ended with code {code} during {method}"
            raise BenchError(message, "Try a smaller --batch" if code in (-9, 137) else "Its last output is above")
        answer = json.loads(line)
        if "error" in answer:
            raise (UsageError if answer["usage"] else BenchError)(answer["error"], answer["hint"])
        return answer


def serve(peer: object, requests: Iterable[str], answers: TextIO) -> None:
    """Call the method of `peer` that each line of `requests` names, and write one line of answer for each."""
    for line in requests:
        arguments = json.loads(line)
        try:
            answer = getattr(peer, arguments.pop("do"))(**arguments) or {}
        except GatsbyError as error:
            answer = _error(error)
        except (MemoryError, RuntimeError) as error:
            known = device_error(error)
            if known is None:
                raise
            answer = _error(BenchError(str(known), "Try a smaller --batch"))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _error(error: GatsbyError) -> dict[str, Any]:
    return {"error": str(error), "hint": error.hint, "usage": isinstance(error, UsageError)}


def create_peer(name: str) -> object:
    """Return the object with the methods of peer "mlx" or "torch".

    Raises BenchError if PyTorch is missing or too old.
    """
    if name == "mlx":
        from gatsby_mlx.bench.mlx_peer import MlxPeer

        return MlxPeer()
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BenchError(f"PyTorch cannot be imported ({error})", TORCH_HINT) from None
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < TORCH_MIN:
        needed = ".".join(map(str, TORCH_MIN))
        raise BenchError(f"PyTorch {torch.__version__} is too old, {needed} or newer is needed", TORCH_HINT)
    from gatsby_mlx.bench.torch_peer import TorchPeer

    return TorchPeer()


def main(name: str) -> None:
    """Run as a peer: answers go to the original stdout, and everything that libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        peer = create_peer(name)
    except BenchError as error:
        sys.stdin.readline()
        answers.write(json.dumps(_error(error)) + "\n")
        return
    serve(peer, sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1])
