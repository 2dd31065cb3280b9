"""Read a PyTorch checkpoint without PyTorch: an interpreter of the pickle language that builds only plain values.

    with open_checkpoint(Path("ckpt.pt")) as opened:
        opened.content["model"]["transformer.wte.weight"].shape, opened.numpy(opened.content["iter_num"])

A pickle is a program for a stack machine, and Python's machine imports and calls whatever the program says. This one
imports and calls nothing. GLOBAL pushes one of the names below, or is refused. REDUCE reads a tensor, a number of
numpy's and a parameter; for the other names, such as a device, a path, a set or a class of settings, it leaves a
`Described`: the name, and what its pickle says of it. Nothing is ever constructed. BUILD, which would set attributes,
notes them in a `Described`, does nothing on a dictionary, and is refused on anything else. Opcodes that `torch.save`
and `pickle.dump` do not emit for such values are refused. The values are dictionaries with plain keys, lists, tuples,
strings, bytes, numbers, None, descriptions and tensors. A tensor is a description too; its bytes are read on request.
"""

import pickletools
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx.errors import CheckpointError
from gatsby_mlx.hub.archive import Archive, open_archive

HINT = "Use a checkpoint of plain values and tensors, as nanoGPT's train.py saves it"
MAX_PICKLE_BYTES = 1 << 19  # without the tensors' bytes: the largest GPT-2, with its optimizer, needs 300 kB
MAX_DIMENSIONS = 8

# The storage classes by their names in a pickle, and how their bytes are read (little endian).
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",  # the upper half of a float32
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "_codecs encode",
    *(f"torch {name}" for name in STORAGES),
}
SCALAR = re.compile(r"numpy\.(?:_core|core)\.multiarray scalar")
# What training scripts keep beside the weights, in a checkpoint's settings or state. These names are only described.
DESCRIBED = re.compile(
    r"numpy dtype|numpy ndarray|numpy\.(?:_core|core)\.(?:multiarray (?:scalar|_reconstruct)|numeric _frombuffer)"
    r"|torch (?:device|Size|b?float\d+|float8_\w+|u?int\d+|bool|complex\d+)"
    r"|(?:pathlib|pathlib\._local) (?:Pure)?(?:Posix|Windows)?Path"
    r"|(?:builtins|__builtin__) (?:set|frozenset|bytearray|complex|slice|range)|collections defaultdict"
    r"|argparse Namespace|types SimpleNamespace"
    r"|copyreg _reconstructor|copy_reg _reconstructor|(?:builtins|__builtin__) object"
    r"|[\w.]+ \w*(?:Config|Args|Arguments|Settings)"
)


@dataclass(frozen=True)
class Name:
    """What GLOBAL leaves on the stack: only a name."""

    text: str


@dataclass(frozen=True)
class Storage:
    """An entry of the archive, named by `key`; `dtype` is a value of STORAGES, `size` counts elements."""

    key: str
    dtype: str
    size: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, with `offset` and `strides` in elements. Every element is inside the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Described:
    """A value of a known kind that was not constructed: its name, and its attributes as far as they are plain."""

    name: str
    args: tuple[Any, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


class RefusedError(ValueError):
    """A pickle has something that is not allowed. The message completes "its pickle ..."."""


def _plain_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_sizes(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) <= MAX_DIMENSIONS and all(_plain_int(n) for n in value)


def storage(parts: Any) -> Storage:
    """Return the storage that BINPERSID describes: ("storage", class, key, device, elements). Raises RefusedError."""
    if not isinstance(parts, tuple) or len(parts) != 5 or parts[0] != "storage" or not isinstance(parts[1], Name):
        raise RefusedError("refers to something that is not a storage")
    kind = parts[1].text.removeprefix("torch ")
    if kind not in STORAGES or not isinstance(parts[2], str) or not _plain_int(parts[4]) or parts[4] < 0:
        raise RefusedError("has a storage without a known kind, name or size")
    return Storage(parts[2], STORAGES[kind], parts[4])


def tensor(args: tuple) -> Tensor:
    """Return the tensor of `_rebuild_tensor_v2`'s arguments: storage, offset, shape, strides, and some that are unused.

    A tensor that is larger than its storage (an expanded one) is refused, since a few bytes could describe any number
    of elements. Raises RefusedError.
    """
    if not 6 <= len(args) <= 7 or not isinstance(args[0], Storage) or not _plain_int(args[1]):
        raise RefusedError("builds a tensor from something that is not a storage")
    stored, offset, shape, strides = args[:4]
    if not _is_sizes(shape) or not _is_sizes(strides) or len(shape) != len(strides):
        raise RefusedError("has a tensor whose shape and strides do not match")
    if min([offset, *shape, *strides]) < 0:
        raise RefusedError("has a tensor with a negative offset, size or stride")
    size = 1
    for n in shape:
        size *= n
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if max(size, *shape, 0) > stored.size or (size and last >= stored.size):
        raise RefusedError("has a tensor that reaches outside its storage")
    return Tensor(stored, offset, tuple(shape), tuple(strides))


def number(args: tuple) -> float | int | bool | Described:
    """Return a numpy scalar, described by its dtype and its bytes, as a plain number; `Described` for another kind."""
    kind, data = (*args, None, None)[:2]
    if isinstance(kind, Described) and kind.name == "numpy dtype" and kind.args and isinstance(data, bytes):
        order = kind.fields.get("state", (3, "<"))[1:2]
        code = ("" if order == ("|",) else ">" if order == (">",) else "<") + str(kind.args[0])
        if re.fullmatch(r"[<>]?(?:f[248]|[iu][1248]|b1|\?)", code) and np.dtype(code).itemsize == len(data):
            return np.frombuffer(data, np.dtype(code))[0].item()
    return Described("numpy scalar")


MARK = Name("(")  # a mark on the stack, not a value; it is compared by identity
LITERALS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
CONSTANTS = (
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE SHORT_BINBYTES BINBYTES BYTEARRAY8".split()
)
IGNORED = {"PROTO", "FRAME"}


class Machine:
    """The stack machine. `run(data)` returns the value that the program leaves; raises RefusedError and ValueError."""

    def __init__(self):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                if len(self.stack) != 1:
                    raise RefusedError("leaves several values")
                return self.pop()
            if name in LITERALS:
                self.stack.append(LITERALS[name])
            elif name in CONSTANTS:
                self.stack.append(argument)
            elif name not in IGNORED:
                step = STEPS.get(name)
                if step is None:
                    raise RefusedError(f"uses {name}, which plain values do not need")
                step(self, argument)
        raise RefusedError("has no end")

    def pop(self, kind: type = object) -> Any:
        if not self.stack or self.stack[-1] is MARK or not isinstance(self.stack[-1], kind):
            raise RefusedError("takes a value from the stack that is not there")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise RefusedError("changes something that is not a list or dictionary it made")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise RefusedError("takes values from the stack that are not there")

    def put(self, key: int | None) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[len(self.memo) if key is None else key] = value

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise RefusedError("recalls a value that it never stored")
        self.stack.append(self.memo[key])

    def name(self, text: str) -> None:
        if text not in GLOBALS and not DESCRIBED.fullmatch(text):
            raise RefusedError(f"names {text[:60]!r}, which tensors do not need")
        self.stack.append(Name(text))

    def reduce(self) -> None:
        args, called = self.pop(tuple), self.pop(Name)
        if called.text == "collections OrderedDict" and not args:
            self.stack.append({})
        elif called.text == "torch._utils _rebuild_tensor_v2":
            self.stack.append(tensor(args))
        elif called.text == "torch._utils _rebuild_parameter" and args and isinstance(args[0], Tensor):
            self.stack.append(args[0])
        elif called.text == "_codecs encode" and len(args) == 2 and isinstance(args[0], str) and args[1] == "latin1":
            self.stack.append(args[0].encode("latin1"))  # how protocol 2 writes bytes
        elif SCALAR.fullmatch(called.text):
            self.stack.append(number(args))
        elif DESCRIBED.fullmatch(called.text):
            self.stack.append(Described(called.text, args))
        else:
            raise RefusedError(f"calls {called.text!r}")

    def new(self) -> None:
        """Describe an object that NEWOBJ would make: an instance of a class, without its attributes yet."""
        args, made = self.pop(tuple), self.pop(Name)
        if not DESCRIBED.fullmatch(made.text):
            raise RefusedError(f"uses NEWOBJ for {made.text!r}, which plain values do not need")
        self.stack.append(Described(made.text, args))

    def build(self) -> None:
        """Note the attributes of a description; drop the state of a dictionary, where a state dict has versions."""
        state, made = self.pop(), self.stack[-1] if self.stack else None
        if isinstance(made, Described):
            if isinstance(state, dict):
                made.fields.update(state)
            elif isinstance(state, tuple):
                made.fields["state"] = state
            return
        if not isinstance(state, dict):
            raise RefusedError("takes a value from the stack that is not there")
        self.top(dict)

    def add_items(self) -> None:
        """Drop the members of a set, which is only described."""
        self.pop_to_mark()
        self.top(Described)

    def set_items(self, items: list[Any]) -> None:
        if self.stack and isinstance(self.stack[-1], Described):  # such as a defaultdict
            return
        target = self.top(dict)
        if len(items) % 2:
            raise RefusedError("sets a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, Described | Name):  # a plain value of no use here, such as a device
                continue
            if not isinstance(key, str | int):  # hashing a tuple can take forever
                raise RefusedError("has a dictionary with a key that is neither text nor number")
            target[key] = value


STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "MARK": lambda m, _: m.stack.append(MARK),
    "POP": lambda m, _: m.pop(),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append((m.pop(),)),
    "TUPLE2": lambda m, _: m.stack.append((m.pop(), m.pop())[::-1]),
    "TUPLE3": lambda m, _: m.stack.append((m.pop(), m.pop(), m.pop())[::-1]),
    "BINPUT": Machine.put,
    "LONG_BINPUT": Machine.put,
    "MEMOIZE": Machine.put,
    "BINGET": Machine.get,
    "LONG_BINGET": Machine.get,
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": lambda m, _: m.name(" ".join((m.pop(str), m.pop(str))[::-1])),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.new(),
    "EMPTY_SET": lambda m, _: m.stack.append(Described("builtins set")),
    "ADDITEMS": lambda m, _: m.add_items(),
    "FROZENSET": lambda m, _: (m.pop_to_mark(), m.stack.append(Described("builtins frozenset"))),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(storage(m.pop())),
    "APPEND": lambda m, _: (lambda value: m.top(list).append(value))(m.pop()),
    "APPENDS": lambda m, _: (lambda values: m.top(list).extend(values))(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
}


def loads(data: bytes, where: str) -> Any:
    """Return the value of a pickle of up to MAX_PICKLE_BYTES bytes.

    Raises CheckpointError, naming `where`, for a damaged pickle and for one with anything but plain values and tensors.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{where} has a pickle of {len(data):,} bytes, more than {MAX_PICKLE_BYTES:,}", HINT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", DeprecationWarning
            )  # genops warns of a name with a bad escape, which is damage too
            return Machine().run(data)
    except RefusedError as error:
        raise CheckpointError(f"{where} is refused: its pickle {error}", HINT) from None
    # genops raises these for damaged bytes.
    except (ValueError, UnicodeError, struct.error, OverflowError, DeprecationWarning) as error:
        raise CheckpointError(f"{where} is damaged: its pickle cannot be read ({str(error)[:80]})", HINT) from None


@dataclass(frozen=True)
class TorchCheckpoint:
    """An open checkpoint. `content` is its value; `numpy` reads its tensors while the file is open."""

    content: Any
    archive: Archive

    def numpy(self, value: Any) -> Any:
        """Return a tensor as a contiguous array of its shape (bfloat16 as float32), and any other value unchanged.

        Raises CheckpointError if the storage's entry is missing, damaged or of another size.
        """
        if not isinstance(value, Tensor):
            return value
        stored = value.storage
        bfloat16 = stored.dtype == "bfloat16"
        dtype = np.dtype("<u2" if bfloat16 else stored.dtype)
        data = self.archive.read(f"data/{stored.key}")
        if len(data) != stored.size * dtype.itemsize:
            fault = f"its storage {stored.key[:20]!r} has {len(data):,} bytes, not {stored.size:,} x {dtype.itemsize}"
            raise CheckpointError(f"{self.archive.path} is damaged: {fault}", HINT)
        flat = np.frombuffer(data, dtype)
        if not flat.size or 0 in value.shape:
            return np.zeros(value.shape, np.float32 if bfloat16 else dtype)
        strides = [stride * dtype.itemsize for stride in value.strides]
        view = np.lib.stride_tricks.as_strided(flat[value.offset :], value.shape, strides, writeable=False)
        if bfloat16:
            return np.array((view.astype(np.uint32) << 16).view(np.float32), order="C")
        return np.array(view, dtype.newbyteorder("="), order="C")


@contextmanager
def open_checkpoint(path: Path) -> Iterator[TorchCheckpoint]:
    """Open a file of `torch.save` (1.6 or newer). No code from the file is run. Raises CheckpointError."""
    with open_archive(path) as archive:
        if "byteorder" in archive and archive.read("byteorder", limit=16) != b"little":
            raise CheckpointError(f"{path} was saved on a big-endian machine", "Save it again on another one")
        yield TorchCheckpoint(loads(archive.read("data.pkl", MAX_PICKLE_BYTES), str(path)), archive)
