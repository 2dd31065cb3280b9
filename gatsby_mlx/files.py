"""Write files and folders so that a reader sees the old version or the new one, never a mix, even after a crash.

While a folder `final` is being replaced, these folders can be beside it. Their names begin with a dot, so that listings
skip them:

    final              what readers read: always complete
    .final.new         the new version while it is written (`staging_folder`); useless until it is published
    .final.old         the old version, complete; exists only between the two renames of the fallback
    .final.dead        the old version while it is deleted

`publish_folder(tmp, final)` takes these steps. A kill -9 leaves the following, and so does a power cut, since each step
is synced:

    1. sync every file and folder under tmp       killed here: final is the old version (or absent); tmp is left over
    2. final absent: rename tmp to final          one rename: absent before it, complete after it
       final present: exchange the two names      one step (Linux: renameat2, RENAME_EXCHANGE; macOS: renamex_np,
                                                  RENAME_SWAP): old before, new after; tmp is then the old version
       if the file system cannot exchange names:
         2a. rename final to .final.old           killed after it: final is ABSENT and .final.old is the old version;
         2b. rename tmp to final                  `recover_folder` restores it. Killed after 2b: final is the new one
    3. sync the parent folder                     killed before it: as before or after step 2, never between
    4. rename the old version to .final.dead      killed around here: final is new; the old version is left over
    5. delete .final.dead                         killed here: final is new; a part of .final.dead is left over

`recover_folder(final)` repairs 2a and deletes the leftovers under the three names. Only one process may write a `final`
at a time; any number may read it. A reader that opens several files by path can be interrupted by an exchange between
two of them: `read_folder` then reads again.
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

from gatsby_mlx.errors import GatsbyError, OutputError

T = TypeVar("T")

HINTS = {
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
NAME_BYTES = 180  # how much of a file's name its temporary name keeps: the usual limit is 255
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def sync_file(fd: int) -> None:
    """Flush an open file or folder to the disk: F_FULLFSYNC on macOS (fsync stops at the drive's cache), else fsync.

    Does nothing for a folder on a file system that cannot sync folders. Raises OSError; ENOSPC and EIO may be reported
    only here.
    """
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC", 51))
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):  # a network disk: only fsync works
                raise
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise


def sync_path(path: str | os.PathLike) -> None:
    """Sync a file or a folder by its path; of a folder its entries, not the content of its files. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def output_errors(what: str) -> Iterator[None]:
    """Turn an OSError inside the block into an OutputError: "cannot write WHAT: reason", with a hint."""
    try:
        yield
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "Check the folder and the disk")
        raise OutputError(f"cannot write {what}: {error.strerror or error}", hint) from error


def write_atomic(path: str | os.PathLike, data: bytes | str) -> None:
    """Write a file so that it has the old content or the new, never a part, even after a crash or on a full disk.

    Text is written as UTF-8, with newlines unchanged. The mode of an existing file is kept, and a link is followed. A
    failure leaves nothing behind. A kill -9 can leave `.NAME.*.tmp` beside the file, which is safe to delete.
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


def check_free(out: Path, hint: str = "Choose another folder with --out, or remove it first") -> None:
    """Raise OutputError, with `hint`, unless `out` does not exist or is an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise OutputError(f"{out} exists and is {'not empty' if out.is_dir() else 'not a folder'}", hint)


def as_text(data: bytes) -> str:
    """Return the text of a file: UTF-8, without a byte order mark, and with Windows or old Mac line ends made plain.

    `Path.read_text("utf-8-sig")` reads the same. Raises UnicodeDecodeError, a ValueError.

    >>> as_text(b"\\xef\\xbb\\xbfa lost\\r\\nkitten\\r")
    'a lost\\nkitten\\n'
    """
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def refuse_pointer(path: Path, kind: type[GatsbyError]) -> None:
    """Raise `kind` if `path` is a pointer of Git LFS: a few lines in place of a file that was never downloaded.

    Does nothing for a file that cannot be read; whoever reads it has the message for that.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError:
        return
    if start == LFS_POINTER:
        raise kind(f"{path} is a Git LFS pointer: the file itself was not downloaded", "Get it with: git lfs pull")


def sha256(path: str | os.PathLike) -> str:
    """Return the sha256 of a file in hexadecimal. Raises OSError."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(name: str) -> str:
    """Return the first NAME_BYTES bytes of a name."""
    return os.fsdecode(os.fsencode(name)[:NAME_BYTES])


def _beside(final: Path, suffix: str) -> Path:
    """Return the path of `.final.SUFFIX` in the same folder."""
    return final.with_name(f".{final.name}.{suffix}")


def staging_folder(final: str | os.PathLike) -> Path:
    """Create an empty `.final.new` for `publish_folder`, delete an earlier one, return the path. Raises OutputError."""
    final = Path(os.path.realpath(final))
    with output_errors(str(final)):
        recover_folder(final)
        staged = _beside(final, "new")
        staged.mkdir(parents=True)
        return staged


def publish_folder(tmp: str | os.PathLike, final: str | os.PathLike) -> None:
    """Replace the folder `final` with the folder `tmp` in one step; see the top of this module for the crashes.

    Both have to be on one file system. On failure `final` is unchanged, and the caller has to delete `tmp`.
    Raises OutputError for a full disk (the old folder survives), a file in the way, and two file systems.
    """
    tmp, final = Path(tmp), Path(os.path.realpath(final))
    with output_errors(str(final)):
        if not tmp.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{tmp} is not a folder")
        if final.exists() and not final.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way")
        sync_tree(tmp)
        displaced = _swap_in(tmp, final)
        sync_path(final.parent)
    # The new folder is published now. A failure from here on only leaves something to delete.
    with contextlib.suppress(OSError):
        _delete(displaced, final)


def sync_tree(folder: Path) -> None:
    """Sync every file under a folder, and every folder, the innermost first. Raises OSError."""
    for root, _, names in os.walk(folder, topdown=False, onerror=_raise):
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path) and not os.path.islink(path):
                sync_path(path)
        sync_path(root)


def _raise(error: OSError) -> None:
    raise error


def _swap_in(tmp: Path, final: Path) -> Path | None:
    """Give `tmp` the name `final`; return the new path of the old folder, or None if there was none."""
    if not final.exists():
        os.rename(tmp, final)
        return None
    if exchange(tmp, final):
        return tmp
    old = _beside(final, "old")
    if old.exists():  # left by a crash after `final` was replaced
        _delete(old, final)
    os.rename(final, old)
    try:
        os.rename(tmp, final)
    except BaseException:
        os.rename(old, final)
        raise
    return old


def _delete(folder: Path | None, final: Path) -> None:
    """Delete an old folder under the name `.final.dead`, so that no half-deleted folder has another name."""
    dead = _beside(final, "dead")
    if dead.exists():
        shutil.rmtree(dead)
    if folder is not None and folder.exists():
        os.rename(folder, dead)
        shutil.rmtree(dead)


def recover_folder(final: str | os.PathLike) -> bool:
    """Repair what a crash left beside `final`; return whether there was anything. Call it before writing, not during.

    If `final` is missing, `.final.old` becomes `final` again. Everything else beside it is deleted.
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
    """Return `read(final)`, repeated if the folder was replaced meanwhile, so that the result never mixes two versions.

    `read` must have read all that it needs when it returns (evaluate what MLX loads lazily). An exception in `read` is
    passed on unless the folder was replaced meanwhile. Raises FileNotFoundError if there is no folder for 0.2 s, and
    OutputError if the folder is replaced again and again.
    """
    final = Path(final)
    for attempt in range(READ_TRIES):
        last = attempt == READ_TRIES - 1
        before = _identity(final)
        if before is None and not last:  # between the two renames of the fallback
            time.sleep(0.01)
            continue
        try:
            result = read(final)
        except Exception:
            if last or _identity(final) == before:
                raise
            continue
        if _identity(final) == before:
            return result
    raise OutputError(f"{final} is replaced faster than it can be read", "Stop the run that writes it")


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when a folder is replaced, or None if there is no folder."""
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def exchange(a: Path, b: Path) -> bool:
    """Exchange the names of two files or folders in one step; return whether the system and the file system can.

    False means that nothing has changed. Linux: renameat2(2) with RENAME_EXCHANGE. macOS: renamex_np(2) with
    RENAME_SWAP, as in its manual page (not run). Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(a), os.fsencode(b)
    cwd, flag = ctypes.c_int(-100), ctypes.c_uint(2)  # AT_FDCWD; the flag is 2 on both systems
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(first, second, flag)
    elif sys.platform == "linux" and hasattr(libc, "renameat2"):  # glibc 2.28
        failed = libc.renameat2(cwd, first, cwd, second, flag)
    elif sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"):
        number = {"x86_64": 316, "aarch64": 276}[platform.machine()]
        failed = libc.syscall(ctypes.c_long(number), cwd, first, cwd, second, flag)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in EXCHANGE_UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(b))
