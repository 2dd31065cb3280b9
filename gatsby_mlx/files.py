"""Files and folders that are either old or new, never torn: sync, rename, and heal what a crash left.

Layout beside a published folder `final` (all names begin with a dot, so that listings skip them):

    final              what readers read: always whole
    .final.new         being written (`staging_folder`), worth nothing until published
    .final.old         the displaced one, whole: only between the two renames of the fallback
    .final.dead        the displaced one, being deleted

`publish_folder(tmp, final)` and what a kill -9 (or, since each step is synced, a power cut) leaves at each point:

    1. sync every file and folder under tmp       killed here: final is the old one (or absent); tmp lies about
    2. final absent: rename tmp to final          one rename: absent before it, whole after it
       final present: swap the two names          one step (Linux: renameat2, RENAME_EXCHANGE; macOS: renamex_np,
                                                  RENAME_SWAP): old before, new after; then tmp holds the old one
       where the file system cannot swap:
         2a. rename final to .final.old           killed after it: final is ABSENT, .final.old is the old one, whole;
         2b. rename tmp to final                  `recover_folder` puts it back. Killed after 2b: final is the new one
    3. sync the folder that holds the names       killed before it: as before or after step 2, never between
    4. rename the old one to .final.dead          killed around here: final is the new one; the old one lies about
    5. delete .final.dead                         killed here: final is the new one; .final.dead lies about in part

`recover_folder(final)` heals 2a and deletes what lies about under the three names. One process writes a `final` at a
time; any number read it. A reader that opens several files by path can meet a swap between two of them: `read_folder`
reads again when that happened.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import platform
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gatsby_mlx.errors import OutputError

T = TypeVar("T")

CURES = {
    errno.ENOSPC: "Free some space on that disk, or choose another folder",
    errno.EDQUOT: "Free some of your quota, or choose another folder",
    errno.EACCES: "Choose a folder that you may write to",
    errno.EPERM: "Choose a folder that you may write to",
    errno.EROFS: "Choose a folder on a disk that can be written",
    errno.EXDEV: "Keep the new folder beside the one it replaces",
    errno.ENOENT: "Create the folder first",
    errno.ENOTDIR: "Choose another name: a file is in the way",
    errno.EISDIR: "Choose another name: a folder is in the way",
    errno.EIO: "Check the disk",
}
EXCHANGE_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
READ_TRIES = 20
NAME_BYTES = 180  # of a file's name kept in its temporary name: the usual limit is 255


def sync_file(fd: int) -> None:
    """Bring an open file or folder to the disk: F_FULLFSYNC on macOS (fsync stops at the drive's cache), else fsync.

    Raises OSError (ENOSPC and EIO can appear only here). A file system that cannot sync folders is let pass.
    """
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC", 51))
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):  # a network disk: fsync is what there is
                raise
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise


def sync_path(path: str | os.PathLike) -> None:
    """Sync a file or a folder by its path; a folder's own entries, not what lies in it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def output_errors(what: str) -> Iterator[None]:
    """Turn an OSError inside the block into an OutputError: "cannot write WHAT: reason", with a cure."""
    try:
        yield
    except OSError as error:
        cure = CURES.get(error.errno or 0, "Check the folder and the disk")
        raise OutputError(f"cannot write {what}: {error.strerror or error}", cure) from error


def write_atomic(path: str | os.PathLike, data: bytes | str) -> None:
    """Write a file so that a reader, a crash or a full disk finds the old content or the new, never a part.

    Text is written as UTF-8, newlines as they are. The mode of an existing file is kept, and a link is written through.
    Nothing is left behind on failure; a kill -9 can leave `.NAME.*.tmp` beside the file, which is safe to delete.
    Raises OutputError.
    """
    final = Path(os.path.realpath(path))
    raw = data.encode() if isinstance(data, str) else data
    with output_errors(str(path)):
        name = final.with_name(f".{_short(final.name)}.{secrets.token_hex(6)}.tmp")
        try:
            with name.open("xb") as file:
                file.write(raw)
                file.flush()
                with contextlib.suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), stat.S_IMODE(os.stat(final).st_mode))
                sync_file(file.fileno())
            os.replace(name, final)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        sync_path(final.parent)


def sha256(path: str | os.PathLike) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal. Raises OSError."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:NAME_BYTES])


def _beside(final: Path, suffix: str) -> Path:
    return final.with_name(f".{final.name}.{suffix}")


def staging_folder(final: str | os.PathLike) -> Path:
    """Create and return `.final.new`, empty, for `publish_folder`; what lay there is deleted. Raises OutputError."""
    final = Path(os.path.realpath(final))
    with output_errors(str(final)):
        recover_folder(final)
        staged = _beside(final, "new")
        staged.mkdir(parents=True)
        return staged


def publish_folder(tmp: str | os.PathLike, final: str | os.PathLike) -> None:
    """Put the folder `tmp` in the place of `final` as a whole; see the top of this module for what a crash leaves.

    Both lie on one file system. On failure `final` is what it was, and `tmp` is the caller's to delete.
    Raises OutputError: a full disk (the old folder survives), a file in the way, two file systems.
    """
    tmp, final = Path(tmp), Path(os.path.realpath(final))
    with output_errors(str(final)):
        if not tmp.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{tmp} is no folder")
        if final.exists() and not final.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way")
        sync_tree(tmp)
        displaced = _take_place(tmp, final)
        sync_path(final.parent)
    # The new folder is published: what fails from here on only leaves something to delete.
    with contextlib.suppress(OSError):
        _delete(displaced, final)


def sync_tree(folder: Path) -> None:
    """Sync every file under a folder, then every folder from the innermost outwards. Raises OSError."""
    for root, _, names in os.walk(folder, topdown=False, onerror=_raise):
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path) and not os.path.islink(path):
                sync_path(path)
        sync_path(root)


def _raise(error: OSError) -> None:
    raise error


def _take_place(tmp: Path, final: Path) -> Path | None:
    """Give `tmp` the name `final`; return where the displaced folder lies now, or None when there was none."""
    if not final.exists():
        os.rename(tmp, final)
        return None
    if exchange(tmp, final):
        return tmp
    old = _beside(final, "old")
    if old.exists():  # left by a crash, and final exists: it has been displaced for good
        _delete(old, final)
    os.rename(final, old)
    try:
        os.rename(tmp, final)
    except BaseException:
        os.rename(old, final)
        raise
    return old


def _delete(folder: Path | None, final: Path) -> None:
    """Delete a displaced folder under the name `.final.dead`, so that no half-deleted folder has another name."""
    dead = _beside(final, "dead")
    if dead.exists():
        shutil.rmtree(dead)
    if folder is not None and folder.exists():
        os.rename(folder, dead)
        shutil.rmtree(dead)


def recover_folder(final: str | os.PathLike) -> bool:
    """Heal what a crash left around `final`; return whether there was anything. Call it before writing, not while.

    `.final.old` goes back into the place of a missing `final`; else it, `.final.new` and `.final.dead` are deleted.
    Raises OutputError.
    """
    final = Path(os.path.realpath(final))
    old, new, dead = (_beside(final, suffix) for suffix in ("old", "new", "dead"))
    with output_errors(str(final)):
        if not any(path.exists() for path in (old, new, dead)):
            return False
        if old.exists() and not final.exists():
            os.rename(old, final)
            sync_path(final.parent)
        for path in (dead, new, old):
            _delete(path, final)
    return True


def read_folder(final: str | os.PathLike, read: Callable[[Path], T]) -> T:
    """Return `read(final)`, done again when the folder was swapped meanwhile, so that it never mixes two versions.

    `read` must have read all it needs when it returns (evaluate what MLX loads lazily). Its own exception passes
    through when no swap explains it. Raises FileNotFoundError when there is no folder for 0.2 s.
    """
    final = Path(final)
    for attempt in range(READ_TRIES):
        last = attempt == READ_TRIES - 1
        before = _identity(final)
        if before is None and not last:  # between the two renames of the fallback
            time.sleep(0.01)
            continue
        try:
            found = read(final)
        except Exception:
            if last or _identity(final) == before:
                raise
            continue
        if _identity(final) == before:
            return found
    raise OutputError(f"{final} is replaced faster than it can be read", "Stop the run that writes it")


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(folder)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def exchange(a: Path, b: Path) -> bool:
    """Swap two names in one step; False, with nothing changed, where system or file system cannot. Raises OSError.

    Linux: renameat2(2), flag RENAME_EXCHANGE. macOS: renamex_np(2), flag RENAME_SWAP (from its manual page; not run).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(a), os.fsencode(b)
    here, swap = ctypes.c_int(-100), ctypes.c_uint(2)  # AT_FDCWD; the flag is 2 on both systems
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(first, second, swap)
    elif sys.platform == "linux" and hasattr(libc, "renameat2"):  # glibc 2.28
        failed = libc.renameat2(here, first, here, second, swap)
    elif sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"):
        number = {"x86_64": 316, "aarch64": 276}[platform.machine()]
        failed = libc.syscall(ctypes.c_long(number), here, first, here, second, swap)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in EXCHANGE_UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(b))
