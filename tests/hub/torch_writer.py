"""A small writer of PyTorch checkpoints, so that fast tests need no PyTorch: the opcodes and the zip of torch.save.

The pickle is protocol 2, as `pickletools.dis` shows it for a file of torch 2.13 (memo left out, which is optional):

    PROTO 2, then the value; a dictionary is EMPTY_DICT MARK key value ... SETITEMS, a state dict GLOBAL 'collections
    OrderedDict' EMPTY_TUPLE REDUCE MARK ... SETITEMS; a tensor is GLOBAL 'torch._utils _rebuild_tensor_v2' MARK
    [MARK 'storage' GLOBAL 'torch FloatStorage' key 'cpu' elements TUPLE BINPERSID] offset shape strides NEWFALSE
    [GLOBAL 'collections OrderedDict' EMPTY_TUPLE REDUCE] TUPLE REDUCE; STOP at the end

The zip holds `ckpt/data.pkl`, `ckpt/byteorder`, `ckpt/data/0`, ... and `ckpt/version`, none compressed.
"""

import io
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {"<f4": "FloatStorage", "<f2": "HalfStorage", "<f8": "DoubleStorage", "<i8": "LongStorage"}
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
STOP = b"."


@dataclass
class Raw:
    """Opcodes that replace a value, for a hostile or a rare one."""

    opcodes: bytes


@dataclass
class Writer:
    storages: list[bytes] = field(default_factory=list)

    def value(self, value: Any) -> bytes:
        """Return the opcodes that leave `value` on the stack."""
        if isinstance(value, Raw):
            return value.opcodes
        if isinstance(value, dict):
            return b"}(" + b"".join(self.value(k) + self.value(v) for k, v in value.items()) + b"u"
        if isinstance(value, tuple | list):
            items = b"".join(map(self.value, value))
            return b"(" + items + b"t" if isinstance(value, tuple) else b"](" + items + b"e"
        if isinstance(value, np.ndarray):
            return self.tensor(value)
        return scalar(value)

    def state(self, tensors: dict[str, Any]) -> Raw:
        """Return a state dict: an OrderedDict with the versions of its modules as its state."""
        items = b"".join(scalar(k) + self.value(v) for k, v in tensors.items())
        return Raw(ORDERED_DICT + b"(" + items + b"u" + self.value({"_metadata": {"": {"version": 1}}}) + b"b")

    def tensor(self, array: np.ndarray, **changes: Any) -> bytes:
        """Return the opcodes of a tensor; its storage is the array's bytes in memory order, its strides the array's."""
        base = np.asarray(array)
        flat = np.ravel(base, order="K")
        self.storages.append(flat.tobytes())
        told = {
            "kind": "torch\n" + STORAGES[array.dtype.str],
            "key": str(len(self.storages) - 1),
            "size": flat.size,
            "offset": 0,
            "shape": tuple(base.shape),
            "strides": tuple(n // base.itemsize for n in base.strides),
        } | changes
        return rebuild(**told)


def rebuild(kind: str, key: Any, size: Any, offset: Any, shape: Any, strides: Any) -> bytes:
    """Return the opcodes of a tensor with these values, valid or not."""
    write = Writer().value
    module = b"c" + kind.encode() + b"\n"
    storage = b"(" + scalar("storage") + module + write(key) + scalar("cpu") + write(size) + b"tQ"
    rest = write(offset) + write(shape) + write(strides) + b"\x89" + ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def scalar(value: Any) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def archive(
    pickled: bytes, storages: Iterable[bytes] = (), compression: int = zipfile.ZIP_STORED, **more: bytes
) -> bytes:
    """Return the zip of a checkpoint; `more` are further entries, or replace the usual ones."""
    entries = {"data.pkl": pickled, "byteorder": b"little"}
    entries |= {f"data/{i}": data for i, data in enumerate(storages)} | {"version": b"3\n"} | more
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(f"ckpt/{name}", data)
    return out.getvalue()


def checkpoint(path: Path, build: Callable[[Writer], Any]) -> Path:
    """Write the value that `build` returns (it may use the writer it is given) as a checkpoint."""
    writer = Writer()
    body = writer.value(build(writer))
    path.write_bytes(archive(b"\x80\x02" + body + STOP, writer.storages))
    return path


def nanogpt(path: Path, weights: dict[str, np.ndarray], args: dict[str, Any], **more: Any) -> Path:
    """Write a checkpoint as nanoGPT's train.py does: `weights` by nanoGPT's names."""

    def build(writer: Writer) -> dict[str, Any]:
        content = {"model": writer.state(weights), "model_args": args, "iter_num": 2000}
        return {**content, "best_val_loss": np.array(0.622, np.float32), "config": {"compile": True}, **more}

    return checkpoint(path, build)
