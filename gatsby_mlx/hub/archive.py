"""Read the zip container of a PyTorch checkpoint as `torch.save` writes it: uncompressed entries, by offset.

Nothing is decompressed, so nothing can expand: an entry is a part of the file, as long as its header says. The layout
is that of PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.14 to 4.3.16 (ends).
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gatsby_mlx import files
from gatsby_mlx.errors import CheckpointError

HINT = "Download it again, or save it again with torch.save"
MAX_ENTRIES = 50_000  # a checkpoint has one for each tensor and a few more
MAX_DIRECTORY_BYTES = 8 << 20
MAX_TAIL = 22 + 0xFFFF  # the end record, and the comment that may follow it


@dataclass(frozen=True)
class Entry:
    """The offset of an entry's local header, the size of its content in bytes, and the CRC-32 of the content."""

    header: int
    size: int
    crc: int


class Archive:
    """The entries of an open zip file, by name without the folder that all of them share.

    Raises CheckpointError for a file that is not a zip file or is truncated, and for a compressed, encrypted, duplicate
    or misplaced entry.
    """

    def __init__(self, file: BinaryIO, path: Path):
        self.file, self.path = file, path
        self.length = file.seek(0, 2)
        self.entries = dict(self._entries())
        if sum(e.size for e in self.entries.values()) > self.length:
            raise self._bad("its entries overlap")

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return the content of an entry, checked by its CRC; raise CheckpointError if it has more than `limit`."""
        if name not in self.entries:
            raise self._bad(f"it has no entry {name!r:.60}")
        entry = self.entries[name]
        if limit is not None and entry.size > limit:
            raise self._bad(f"its entry {name!r:.60} has {entry.size:,} bytes, more than the limit of {limit:,}")
        local = self._at(entry.header, 30)
        if local[:4] != b"PK\3\4":
            raise self._bad(f"its entry {name!r:.60} is not where it should be")
        content = self._at(entry.header + 30 + sum(struct.unpack("<HH", local[26:30])), entry.size)
        if zlib.crc32(content) != entry.crc:
            raise self._bad(f"its entry {name!r:.60} is damaged (its CRC-32 differs)")
        return content

    def _bad(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is not a PyTorch checkpoint that can be read: {reason}", HINT)

    def _at(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > self.length:
            raise self._bad("it points outside itself")
        self.file.seek(offset)
        return self.file.read(size)

    def _directory(self) -> tuple[int, bytes]:
        """Return the number of entries, and the bytes of the central directory."""
        tail = self._at(max(0, self.length - MAX_TAIL), min(self.length, MAX_TAIL))
        at = tail.rfind(b"PK\5\6")
        if at < 0 or len(tail) - at < 22:
            if not self.length:
                raise self._bad("it is empty")
            raise self._bad("it is not a zip file (PyTorch before 1.6 saved another format)")
        count, size, offset = struct.unpack("<HII", tail[at + 10 : at + 20])
        end = self.length - len(tail) + at
        if count == 0xFFFF or 0xFFFFFFFF in (size, offset):
            locator = self._at(end - 20, 20)
            record = self._at(struct.unpack("<Q", locator[8:16])[0], 56) if locator[:4] == b"PK\6\7" else b""
            if record[:4] != b"PK\6\6":
                raise self._bad("its zip64 record is missing")
            count, size, offset = struct.unpack("<QQQ", record[32:56])
        if count > MAX_ENTRIES or size > MAX_DIRECTORY_BYTES:
            raise self._bad(f"it lists {count:,} entries in {size:,} bytes")
        return count, self._at(offset, size)

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        count, directory = self._directory()
        at, seen, top = 0, set(), None
        for _ in range(count):
            fixed = directory[at : at + 46]
            if len(fixed) < 46 or fixed[:4] != b"PK\1\2":
                raise self._bad("its list of entries is truncated")
            flags, method = struct.unpack("<HH", fixed[8:12])
            crc, packed, size, n_name, n_extra, n_comment = struct.unpack("<IIIHHH", fixed[16:34])
            header = struct.unpack("<I", fixed[42:46])[0]
            name = directory[at + 46 : at + 46 + n_name].decode("utf-8", "replace")
            extra = directory[at + 46 + n_name : at + 46 + n_name + n_extra]
            size, packed, header = self._wide(extra, size, packed, header)
            at += 46 + n_name + n_extra + n_comment
            if method or packed != size:
                raise self._bad(f"its entry {name!r:.60} is compressed, which torch.save never does")
            if flags & 1:
                raise self._bad(f"its entry {name!r:.60} is encrypted")
            folder, _, rest = name.partition("/")
            top = top or folder
            if folder != top or not rest or rest in seen:
                raise self._bad(f"its entry {name!r:.60} occurs twice, or is in another folder than the others")
            seen.add(rest)
            yield rest, Entry(header, size, crc)

    def _wide(self, extra: bytes, *fields: int) -> tuple[int, ...]:
        """Return the fields (size, packed size, offset), those that are full replaced from the zip64 extra field."""
        wanted = [i for i, value in enumerate(fields) if value == 0xFFFFFFFF]
        if not wanted:
            return fields
        at, values = 0, list(fields)
        while at + 4 <= len(extra):
            kind, n = struct.unpack("<HH", extra[at : at + 4])
            if kind == 1 and n >= 8 * len(wanted) and at + 4 + 8 * len(wanted) <= len(extra):
                wide = struct.unpack(f"<{len(wanted)}Q", extra[at + 4 : at + 4 + 8 * len(wanted)])
                for i, value in zip(wanted, wide, strict=True):
                    values[i] = value
                return tuple(values)
            at += 4 + n
        raise self._bad("an entry's zip64 field is missing")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the zip file at `path`. Raises CheckpointError, also for a file that cannot be opened."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}", "Download one with: gatsby pull REPO") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", HINT) from None
    with file:
        files.refuse_pointer(path, CheckpointError)
        yield Archive(file, path)
