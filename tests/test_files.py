"""files: the old version or the new one, never a mix, with real processes that are killed at every step."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import platforms
import pytest

from gatsby_mlx import files
from gatsby_mlx.errors import OutputError

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("config.json", "model.bin", "deep/tokenizer.json")

# A child that publishes and kills itself before its n-th system call. `swap` says whether names can be exchanged.
CHILD = """
import os, shutil, signal, sys
from pathlib import Path
from gatsby_mlx import files

final, left, swap = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "swap"

def counted(call):
    def wrapped(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*arguments, **options)
    return wrapped

files.exchange = counted(files.exchange) if swap else (lambda a, b: False)
os.rename, os.fsync, os.unlink, os.rmdir = map(counted, (os.rename, os.fsync, os.unlink, os.rmdir))
tmp = files.staging_folder(final)
for name in {names!r}:
    (tmp / name).parent.mkdir(exist_ok=True)
    (tmp / name).write_text("new")
files.publish_folder(tmp, final)
print("published")
"""


def fill(folder: Path, text: str) -> Path:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def content(folder: Path) -> set[str]:
    """Return the distinct texts of a folder's files; more than one is a mix, and a missing file is an error."""
    return {(folder / name).read_text() for name in NAMES}


def child(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-S", "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_write_atomic_replaces_and_keeps_mode_and_link(tmp_path):
    path = tmp_path / "a.json"
    files.write_atomic(path, "one\r\né\n")
    assert path.read_bytes() == "one\r\né\n".encode()
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    files.write_atomic(tmp_path / "link", b"two")
    assert path.read_bytes() == b"two" and (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["a.json", "link"]


def test_write_atomic_accepts_a_name_of_the_maximum_length(tmp_path):
    files.write_atomic(tmp_path / ("é" * 127), "x")
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_write_atomic_leaves_old_content_and_nothing_else_on_failure(tmp_path, monkeypatch, code):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(fd):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "sync_file", fail)
    with pytest.raises(OutputError, match=r"a\.json") as caught:
        files.write_atomic(path, "new")
    assert caught.value.hint and os.strerror(code) in caught.value.line()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_write_atomic_says_what_is_in_the_way(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "absent" / "a", tmp_path / "folder" / ("x" * 300)):
        with pytest.raises(OutputError) as caught:
            files.write_atomic(path, "x")
        assert caught.value.hint
    assert os.listdir(tmp_path) == ["folder"] and not os.listdir(tmp_path / "folder")


@platforms.dev_full
def test_full_disk_is_an_output_error():
    with pytest.raises(OutputError, match="No space") as caught, files.output_errors("/dev/full"):
        Path("/dev/full").write_bytes(b"x")
    assert "Free some space" in caught.value.hint


def test_exchange_swaps_two_folders(tmp_path):
    a, b = fill(tmp_path / "a", "a"), fill(tmp_path / "b", "b")
    if files.exchange(a, b):  # every file system that Linux and macOS use by default
        assert (content(a), content(b)) == ({"b"}, {"a"})
        with pytest.raises(OSError, match="absent"):
            files.exchange(a, tmp_path / "absent")


@pytest.mark.parametrize("swap", [True, False])
def test_publish_folder_replaces_old_with_new(tmp_path, monkeypatch, swap):
    if not swap:
        monkeypatch.setattr(files, "exchange", lambda a, b: False)
    final = tmp_path / "best-loss"
    for text in ("one", "two", "three"):
        files.publish_folder(fill(files.staging_folder(final), text), final)
        assert content(final) == {text}
        assert os.listdir(tmp_path) == ["best-loss"]


def test_publish_folder_works_through_a_link(tmp_path):
    fill(tmp_path / "disk" / "run", "old")
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    files.publish_folder(fill(files.staging_folder(tmp_path / "run"), "new"), tmp_path / "run")
    assert (tmp_path / "run").is_symlink() and content(tmp_path / "run") == {"new"}


def test_publish_folder_keeps_the_old_one_on_failure(tmp_path, monkeypatch):
    final = fill(tmp_path / "run", "old")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file is in the way"):
        files.publish_folder(fill(tmp_path / "new", "new"), tmp_path / "file")
    with pytest.raises(OutputError):
        files.publish_folder(tmp_path / "absent", final)

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "sync_file", full)
    with pytest.raises(OutputError, match="No space"):
        files.publish_folder(tmp_path / "new", final)
    assert content(final) == {"old"} and content(tmp_path / "new") == {"new"}


def test_publish_folder_restores_the_old_one_when_the_second_rename_fails(tmp_path, monkeypatch):
    final, new = fill(tmp_path / "run", "old"), fill(tmp_path / "new", "new")
    rename = os.rename

    def fail(source, target):
        if Path(source) == new:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(files, "exchange", lambda a, b: False)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OutputError):
        files.publish_folder(new, final)
    assert content(final) == {"old"} and sorted(os.listdir(tmp_path)) == ["new", "run"]


@pytest.mark.parametrize("method", ["swap", "two renames", "first"])
def test_kill_at_every_step_leaves_old_or_new(tmp_path, method):
    seen, absent = set(), 0
    for step in range(60):
        final = tmp_path / str(step) / "last"
        if method != "first":
            fill(final, "old")
        process = child(CHILD.format(names=NAMES), final, step, "swap" if method == "swap" else "no")
        out, _ = process.communicate(timeout=30)
        if method == "swap" or final.exists():  # with a swap the folder is never absent, not even before recovery
            assert method == "first" or content(final) <= {"old", "new"}
        else:
            absent += 1
        files.recover_folder(final)
        if final.exists():
            (text,) = content(final)
            seen.add(text)
            assert os.listdir(final.parent) == ["last"]
        else:
            assert method == "first" and not os.listdir(final.parent)
        assert files.recover_folder(final) is False
        if process.returncode == 0:
            assert out == "published\n" and content(final) == {"new"}
            break
        assert process.returncode == -signal.SIGKILL
    else:
        pytest.fail("the child was killed at 60 steps and never finished")
    assert step > 6 and seen == ({"new"} if method == "first" else {"old", "new"})
    assert absent == 1 if method == "two renames" else True


WRITER = """
import sys
from pathlib import Path
from gatsby_mlx import files
final, n = Path(sys.argv[1]), 0
if sys.argv[2] != "swap":
    files.exchange = lambda a, b: False
print("ready", flush=True)
while True:
    n += 1
    tmp = files.staging_folder(final)
    for name in {names!r}:
        (tmp / name).parent.mkdir(exist_ok=True)
        (tmp / name).write_text(str(n) * 1000)
    files.publish_folder(tmp, final)
"""


@pytest.mark.parametrize("method", ["swap", "two renames"])
def test_reader_never_sees_a_mix_while_a_writer_runs_and_is_killed(tmp_path, method):
    final, versions = fill(tmp_path / "last", "0"), set()
    for _ in range(3):
        process = child(WRITER.format(names=NAMES), final, method)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        killer = threading.Timer(0.3, process.kill)
        killer.start()
        while process.poll() is None:
            try:
                texts = files.read_folder(final, content)
            except FileNotFoundError:  # killed between the two renames: what recover_folder heals below
                assert method == "two renames" and process.wait(1)
                break
            assert len(texts) == 1
            versions |= texts
        process.stdout.close()
        files.recover_folder(final)
        assert len(content(final)) == 1 and os.listdir(tmp_path) == ["last"]
    assert len(versions) > 3


def test_read_folder_reads_again_after_a_swap_and_passes_on_errors(tmp_path):
    final, new = fill(tmp_path / "last", "old"), fill(tmp_path / "new", "new")
    tries = []

    def read(folder: Path) -> set[str]:
        first = (folder / NAMES[0]).read_text()
        if not tries:
            files.publish_folder(new, final)
        tries.append(first)
        return {first, (folder / NAMES[1]).read_text()}

    assert files.read_folder(final, read) == {"new"} and tries == ["old", "new"]
    with pytest.raises(ZeroDivisionError):
        files.read_folder(final, lambda folder: 1 / 0)
    start = time.monotonic()
    with pytest.raises(FileNotFoundError):
        files.read_folder(tmp_path / "absent", content)
    assert time.monotonic() - start < 10
