"""torch_pickle and archive: tensors and plain values are read; hostile files run nothing and allocate little."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hub_models import random_model, save_nanogpt
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch_writer import ORDERED_DICT, STOP, Raw, Writer, archive, checkpoint, rebuild, scalar

from gatsby_mlx.errors import CheckpointError
from gatsby_mlx.hub import torch_pickle
from gatsby_mlx.hub.torch_pickle import Tensor, open_checkpoint

PROTO = b"\x80\x02"
LITTLE = 16 << 20  # bytes that a refusal may allocate: an opcode of one byte makes at most a dictionary of 64

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(plain, st.integers(2, 5))
def test_plain_values_are_read(value, protocol):
    assert torch_pickle.loads(PROTO + Writer().value(value) + STOP, "it") == value
    assert torch_pickle.loads(pickle.dumps(value, protocol), "it") == value


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", "<i8"])
@pytest.mark.parametrize(
    "view", [lambda a: a, lambda a: a.T, lambda a: a[1:2, 2].reshape(()), lambda a: a.reshape(2, 3, 2)]
)
def test_tensor_is_read_with_its_strides(tmp_path, dtype, view):
    array = view(np.arange(12).reshape(4, 3).astype(dtype))
    path = checkpoint(tmp_path / "c.pt", lambda _: {"t": array, "s": np.array(2.5)})
    with open_checkpoint(path) as found:
        back = found.numpy(found.content["t"])
        assert found.numpy(found.content["s"]) == 2.5
        assert found.numpy("as it is") == "as it is"
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert back.flags.c_contiguous


def test_views_with_offset_and_bfloat16_are_read(tmp_path):
    numbers = np.arange(20, dtype=np.float32)
    halves = (numbers.view(np.uint32) >> 16).astype(np.uint16)

    def build(writer):
        writer.storages += [numbers.tobytes(), halves.tobytes()]
        view = {"size": 20, "offset": 3, "shape": (2, 4), "strides": (8, 2)}
        return {
            "view": Raw(rebuild(kind="torch\nFloatStorage", key="0", **view)),
            "half": Raw(rebuild(kind="torch\nBFloat16Storage", key="1", **view)),
        }

    with open_checkpoint(checkpoint(tmp_path / "c.pt", build)) as found:
        want = np.array([[3, 5, 7, 9], [11, 13, 15, 17]], np.float32)
        for name in ("view", "half"):
            np.testing.assert_array_equal(found.numpy(found.content[name]), want)


def refused(path: Path, message: str = "") -> str:
    """Read a file that must be refused, tensors too; return the message, after a check that little was allocated."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught, open_checkpoint(path) as found:
            for value in found.content.values() if isinstance(found.content, dict) else [found.content]:
                found.numpy(value)
        assert tracemalloc.get_traced_memory()[1] < LITTLE + 2 * path.stat().st_size
    finally:
        tracemalloc.stop()
    line = caught.value.line()
    assert message in line, line
    assert "\n" not in line
    assert len(line) < 500
    return line


class Call:
    """An object that pickle turns into a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class WithState:
    """An object that pickle turns into a BUILD: Python's machine would call `__setstate__`."""

    def __init__(self, folder: str):
        self.folder = folder

    def __setstate__(self, state):
        os.mkdir(state["folder"])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["call", "state"])
def test_pickle_that_runs_code_in_python_runs_none_here(tmp_path, protocol, kind):
    made = tmp_path / "made"
    hostile = Call(os.mkdir, str(made)) if kind == "call" else WithState(str(made))
    pickled = pickle.dumps({"model": hostile, "model_args": {}}, protocol)
    (tmp_path / "c.pt").write_bytes(archive(pickled))
    refused(tmp_path / "c.pt")
    assert not made.exists()
    pickle.loads(pickled)
    assert made.exists(), "the pickle is a hostile one"


def _bomb(levels: int) -> bytes:
    """Return a pickle of lists in lists, ten of each in the next: 10**levels in a few bytes."""
    return b"]q\0" + b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(levels))


HOSTILE = {
    "os.system": (b"cos\nsystem\n(S'id'\ntR.", "which tensors do not need"),
    "eval, protocol 0": (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__ eval"),
    "eval, protocol 4": (pickle.dumps(Call(eval, "1"), 4), "builtins eval"),
    "STACK_GLOBAL of two parts": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "'posix system'"),
    "dotted name": (b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.", "OrderedDict.__init__"),
    "INST": (b"(S'id'\nios\nsystem\n.", "uses"),
    "OBJ": (b"(cos\nsystem\nS'id'\no.", "which tensors do not need"),
    "NEWOBJ": (PROTO + b"ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
    "EXT1": (PROTO + b"\x82\x01.", "EXT1"),
    "PERSID": (b"Pfile\n.", "PERSID"),
    "BUILD on a name": (PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n}b.", "changes something"),
    "BUILD on a tensor": (
        PROTO + rebuild("torch\nFloatStorage", "0", 4, 0, (4,), (1,)) + b"}b.",
        "changes something",
    ),
    "BUILD with a slot state": (PROTO + b"}N}\x86b.", "from the stack"),
    "OrderedDict of arguments": (PROTO + b"ccollections\nOrderedDict\n](e\x85R.", "calls"),
    "a call of a value": (PROTO + b"}}\x85R.", "from the stack"),
    "a call of a storage class": (PROTO + b"ctorch\nFloatStorage\nM\xff\xff\x85R.", "calls"),
    "a storage of another name": (PROTO + b"ctorch\nLazyStorage\n.", "LazyStorage"),
    "a reference to a file": (PROTO + scalar("/etc/passwd") + b"Q.", "not a storage"),
    "no end": (PROTO + b"}", "cannot be read"),
    "nothing": (b"", "cannot be read"),
    "several values": (PROTO + b"}}.", "several values"),
    "no value": (PROTO + b".", "several values"),
    "the mark as a value": (PROTO + b"(.", "from the stack"),
    "more pops than values": (PROTO + b"00.", "from the stack"),
    "a memo that is empty": (PROTO + b"h\x05.", "never stored"),
    "a key that is a tuple": (PROTO + b"}N\x85Ns.", "neither text nor number"),
    "a key that hashes for ever": (PROTO + b")" + b"q\0h\0\x86" * 200 + b"q\1}h\1Ns.", "neither text nor number"),
    "a key without a value": (PROTO + b"}(Nu.", "without a value"),
    "items of a tuple": (PROTO + b")Na.", "changes something"),
    "a large memo": (PROTO + b"}r\xff\xff\xff\x7f" + b"}.", "several values"),
    "a string longer than the file": (PROTO + b"X\xff\xff\xff\x7fa.", "cannot be read"),
    "bytes longer than memory": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.", "cannot be read"),
    "a number of many digits": (b"L" + b"9" * 100_000 + b"L\n.", "cannot be read"),
    "ten to the ninth lists": (PROTO + _bomb(9) + b".", "several values"),
    "too long": (PROTO + b"]" * (1 << 19) + b".", "bytes"),
    "many dictionaries": (PROTO + b"}" * (1 << 17) + b".", "several values"),
    "nested deep": (PROTO + b"N" + b"\x85" * 50_000, "cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickle_runs_nothing(tmp_path, name):
    pickled, message = HOSTILE[name]
    (tmp_path / "c.pt").write_bytes(archive(pickled))
    refused(tmp_path / "c.pt", message)


SOUND = {"kind": "torch\nFloatStorage", "key": "0", "size": 16, "offset": 0, "shape": (4, 4), "strides": (4, 1)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 1}, "outside its storage"),
        ({"offset": -1}, "negative"),
        ({"offset": 2**62}, "outside its storage"),
        ({"offset": None}, "something that is not a storage"),
        ({"offset": True}, "something that is not a storage"),
        ({"strides": (5, 1)}, "outside its storage"),
        ({"strides": (4, -1)}, "negative"),
        ({"strides": (2**70, 1)}, "outside its storage"),
        ({"strides": (4,)}, "do not match"),
        ({"strides": (4, 1.0)}, "do not match"),
        ({"strides": "41"}, "do not match"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, "outside its storage"),
        ({"shape": (16, 16), "strides": (1, 0)}, "outside its storage"),
        ({"shape": (0, 2**62)}, "outside its storage"),
        ({"shape": (-4, 4)}, "negative"),
        ({"shape": (1,) * 9, "strides": (1,) * 9}, "do not match"),
        ({"size": 2**60}, "bytes"),
        ({"size": 15}, "outside its storage"),
        ({"size": 17}, "bytes"),
        ({"size": -1}, "without a known kind, name or size"),
        ({"size": 16.0}, "without a known kind, name or size"),
        ({"key": "1"}, "no entry"),
        ({"key": "../version"}, "no entry"),
        ({"key": 0}, "without a known kind, name or size"),
        ({"kind": "collections\nOrderedDict"}, "without a known kind, name or size"),
        ({"kind": "torch\nDoubleStorage"}, "bytes"),
    ],
    ids=str,
)
def test_hostile_tensor_is_refused(tmp_path, changes, message):
    def build(writer):
        writer.storages.append(np.arange(16, dtype=np.float32).tobytes())
        return {"t": Raw(rebuild(**{**SOUND, **changes}))}

    refused(checkpoint(tmp_path / "c.pt", build), message)


def test_tensor_of_wrong_arguments_is_refused(tmp_path):
    for arguments in (b")", b"(NNNNNNt", b"(" + scalar("a") * 6 + b"t", b"}"):
        pickled = PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R."
        (tmp_path / "c.pt").write_bytes(archive(pickled))
        refused(tmp_path / "c.pt")


GOOD = PROTO + Writer().value({"a": 1}) + STOP


def rezip(**changes) -> bytes:
    """Return a zip of one entry whose fields in the central directory are changed: by name, an integer."""
    intact = bytearray(archive(GOOD))
    at = intact.index(b"PK\1\2")
    offsets = {"flags": ("<H", 8), "method": ("<H", 10), "crc": ("<I", 16), "packed": ("<I", 20), "size": ("<I", 24)}
    offsets |= {"names": ("<H", 28), "extra": ("<H", 30), "header": ("<I", 42)}
    for name, value in changes.items():
        form, place = offsets[name]
        struct.pack_into(form, intact, at + place, value)
    return bytes(intact)


def end_record(**changes: int) -> bytes:
    intact = bytearray(archive(GOOD))
    at = intact.rindex(b"PK\5\6")
    for name, value in changes.items():
        form, place = {"count": ("<H", 10), "size": ("<I", 12), "offset": ("<I", 16)}[name]
        struct.pack_into(form, intact, at + place, value)
    return bytes(intact)


def overlapping() -> bytes:
    """Return a zip whose 200 entries are the same megabyte, like those of a zip bomb."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("c/data.pkl", GOOD)
        file.writestr("c/data/000", bytes(1 << 20))
        first = file.infolist()[-1]
        for i in range(1, 200):
            more = zipfile.ZipInfo(f"c/data/{i:03d}")
            more.header_offset, more.file_size, more.compress_size = first.header_offset, 1 << 20, 1 << 20
            more.CRC = first.CRC
            file.filelist.append(more)
            file._didModify = True
    return out.getvalue()


def duplicate() -> bytes:
    return archive(GOOD, **{"data.pkm": GOOD}).replace(b"data.pkm", b"data.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\x80\x02}.", "not a zip file"),
        (b"PK\5\6" + bytes(17), "not a zip file"),
        (archive(GOOD)[:-30], "not a zip file"),
        (archive(GOOD)[100:], "outside itself"),
        (archive(GOOD, compression=zipfile.ZIP_DEFLATED), "compressed"),
        (archive(GOOD, [bytes(1 << 24)], zipfile.ZIP_DEFLATED), "compressed"),
        (archive(GOOD, [bytes(1 << 20)], zipfile.ZIP_BZIP2), "compressed"),
        (overlapping(), "overlap"),
        (duplicate(), "occurs twice"),
        (archive(GOOD).replace(b"ckpt/data.pkl", b"other/data.pk"), "another folder"),
        (archive(GOOD, **{"../x": b""}), "no entry"),
        (archive(GOOD, byteorder=b"big"), "big-endian"),
        (archive(GOOD, byteorder=bytes(1 << 20)), "limit"),
        (rezip(flags=1), "encrypted"),
        (rezip(method=8), "compressed"),
        (rezip(crc=1), "CRC-32"),
        (rezip(packed=2**31, size=2**31), "overlap"),
        (rezip(size=2**31), "compressed"),
        (rezip(header=5), "not where it should be"),
        (rezip(header=2**31), "outside itself"),
        (rezip(header=2**32 - 1), "zip64 field is missing"),
        (rezip(names=0xFFFF), "truncated"),
        (rezip(extra=0xFFFF), "truncated"),
        (end_record(count=60_000), "60,000 entries"),
        (end_record(count=9), "truncated"),
        (end_record(count=0), "no entry"),
        (end_record(count=0xFFFF), "zip64 record is missing"),
        (end_record(size=2**31), "2,147,483,648 bytes"),
        (end_record(offset=2**31), "outside itself"),
        (end_record(offset=0), "truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_archive_is_refused(tmp_path, content, message):
    if message == "no entry" and b"../x" in content:
        content = content.replace(b"data.pkl", b"data.pkx")
    (tmp_path / "c.pt").write_bytes(content)
    refused(tmp_path / "c.pt", message)


def test_zip64_is_read(tmp_path):
    """With sizes in the zip64 field, as torch.save writes archives of more than 4 GB."""
    intact = bytearray(archive(GOOD))
    at = intact.index(b"PK\1\2")
    size, name = struct.unpack_from("<I", intact, at + 24)[0], 46 + len("ckpt/data.pkl")
    struct.pack_into("<II", intact, at + 20, 2**32 - 1, 2**32 - 1)
    struct.pack_into("<H", intact, at + 30, 20 + 8)
    extra = struct.pack("<HHI", 0xCAFE, 4, 0) + struct.pack("<HHQQ", 1, 16, size, size)
    intact[at + name : at + name] = extra
    end = intact.rindex(b"PK\5\6")
    count, length, offset = struct.unpack_from("<HII", intact, end + 10)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length + len(extra), offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    struct.pack_into("<HHII", intact, end + 8, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1)
    intact[end:end] = record + locator
    (tmp_path / "c.pt").write_bytes(intact)
    with open_checkpoint(tmp_path / "c.pt") as found:
        assert found.content == {"a": 1}


def test_archive_that_zipfile_accepts_is_read(tmp_path):
    """Entries written to a stream have their sizes after them (flag 8), as torch.save writes them."""

    class Stream(io.RawIOBase):
        def __init__(self):
            self.out = bytearray()

        def writable(self):
            return True

        def write(self, data):
            self.out += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("c/data.pkl", GOOD)
    assert zipfile.ZipFile(io.BytesIO(stream.out)).infolist()[0].flag_bits & 8
    (tmp_path / "c.pt").write_bytes(stream.out)
    with open_checkpoint(tmp_path / "c.pt") as found:
        assert found.content == {"a": 1}


def read_all(path: Path) -> None:
    """Read everything in a file; any exception but CheckpointError passes through."""
    try:
        with open_checkpoint(path) as found:
            held = [found.content]
            for value in held[:1_000]:
                if isinstance(value, dict):
                    held += value.values()
                elif isinstance(value, Tensor):
                    assert found.numpy(value).size <= value.storage.size
    except CheckpointError as error:
        assert len(error.line()) < 600


fuzzed = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
OPCODES = st.sampled_from([bytes([b]) for b in b"()]}tusaebRQq.0N\x85\x86\x87\x88\x93\x94h"]) | st.sampled_from(
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"cos\nsystem\n",
        ORDERED_DICT,
        rebuild(**SOUND),
        *map(scalar, ("storage", "0", "cpu", 0, 4, 16, 2**40, -1, 0.5)),
    ]
)


@fuzzed
@given(st.lists(OPCODES, max_size=40))
@example([rebuild(**SOUND)])
def test_any_sequence_of_opcodes_is_read_or_refused(tmp_path, opcodes):
    (tmp_path / "c.pt").write_bytes(archive(PROTO + b"".join(opcodes) + STOP, [bytes(64)]))
    read_all(tmp_path / "c.pt")


@fuzzed
@given(st.binary(max_size=200))
def test_any_bytes_as_a_pickle_are_read_or_refused(tmp_path, data):
    (tmp_path / "c.pt").write_bytes(archive(data))
    read_all(tmp_path / "c.pt")


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("intact") / "ckpt.pt"
    return save_nanogpt(path, random_model(gelu="erf", n_layer=1, n_embd=8, block_size=8)).read_bytes()


# The offset (modulo the length), and the damage: a byte, a word, bytes that are inserted, or how many are deleted.
PLACES = st.integers(0, 2**20)
DAMAGE = st.one_of(
    st.tuples(st.just("byte"), st.integers(0, 255)),
    st.tuples(st.just("word"), st.sampled_from([b"\xff" * 4, bytes(4), b"\0\0\0\x80"])),
    st.tuples(st.just("insert"), st.binary(max_size=8)),
    st.tuples(st.just("cut"), st.integers(1, 64)),
)


@fuzzed
@given(st.lists(st.tuples(PLACES, DAMAGE), min_size=1, max_size=4))
def test_any_damage_to_a_checkpoint_is_read_or_refused(tmp_path, intact, damages):
    changed = bytearray(intact)
    for place, (kind, value) in damages:
        at = place % len(changed)
        if kind == "byte":
            changed[at] = value
        elif kind == "word":
            changed[at : at + 4] = value
        elif kind == "insert":
            changed[at:at] = value
        else:
            del changed[at : at + value]
    (tmp_path / "c.pt").write_bytes(changed)
    read_all(tmp_path / "c.pt")


def test_name_with_a_bad_escape_is_damage_and_no_warning():
    with pytest.raises(CheckpointError, match="is damaged"):
        torch_pickle.loads(b"\x80\x02c\\ollections\nOrderedDict\n.", "c.pt")


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of `intact`, which hypothesis sometimes prints
@fuzzed
@given(st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=3))
def test_any_damage_to_a_pickle_is_read_or_refused(tmp_path, intact, damages):
    """The same, with the CRC corrected, so that the damage reaches the interpreter."""
    at = intact.index(b"\x80\x02")
    entry = zipfile.ZipFile(io.BytesIO(intact)).getinfo("ckpt/data.pkl")
    changed = bytearray(intact)
    for place, value in damages:
        changed[at + place % entry.file_size] = value
    crc = struct.pack("<I", zlib.crc32(changed[at : at + entry.file_size]))
    changed = changed.replace(struct.pack("<I", entry.CRC), crc)
    (tmp_path / "c.pt").write_bytes(changed)
    read_all(tmp_path / "c.pt")
