"""Every command, while the machine around it fails: no traceback, one last line that says why, nothing half-written.

The failures are real ones where a process can have them (a limit on the size of files breaks a write in its middle, a
pipe without a reader, a device that is full); the others are raised by the interpreter's audit hook in the place of the
system call. Afterwards every file is whole, nothing temporary is left, and the same command succeeds.
"""

import contextlib
import errno
import io
import json
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_tools import gatsby, real, save_model

from gatsby_mlx import cli, files
from gatsby_mlx.corpus import load
from gatsby_mlx.evaluation import stories
from gatsby_mlx.model import checkpoint

TELL = ["--n-topics", "1", "--seeds", "1", "--max-tokens", "8"]
COMMANDS: dict[str, list[str]] = {
    "tell": ["tell", "a cat", "--seed", "1", "--max-tokens", "8", "--json"],
    "write": ["write", "--n", "5", "--out", "c"],
    "train": ["train", "--preset", "pocket", "--corpus", "CORPUS", "--out", "run", "--max-chars", "2000"],
    "dial": ["dial", *TELL, "--stories", "told.jsonl", "--plot", "dial.svg"],
    "honor": ["honor", *TELL, "--stories", "told.jsonl"],
    "prose": ["prose", *TELL, "--stories", "told.jsonl"],
    "report": ["report", *TELL, "--out", "rep"],
    "samples": ["samples", *TELL, "--out", "samples.md"],
    "corpus show": ["corpus", "show", "CORPUS", "--plot", "c.png"],
    "corpus verify": ["corpus", "verify", "CORPUS"],
    "export native": ["export", "MODEL", "--to", "native", "--out", "half", "--dtype", "float16"],
    "export gpt2": ["export", "MODEL", "--to", "gpt2", "--out", "gpt2"],
    "checkpoint list": ["checkpoint", "list", "MODEL"],
    "checkpoint show": ["checkpoint", "show", "MODEL", "--card"],
    "checkpoint verify": ["checkpoint", "verify", "MODEL"],
    "checkpoint rm": ["checkpoint", "rm", "copy", "--yes"],
    "import": ["import", "ckpt.pt", "--vocab", "vocab.json", "--out", "imported"],
    "pull": ["pull", "someone/green", "--out", "pulled"],
    "publish": ["publish", "MODEL", "someone/green", "--yes"],
    "bench show": ["bench", "show", "bench.json"],
    "doctor": ["doctor", "--json"],
}
WITH_MODEL = {"tell", "dial", "honor", "prose", "report", "samples"}
WRITING = ["write", "train", "dial", "report", "samples", "corpus show", "export native", "export gpt2", "import"]
ENDS_IN_ERROR = {"pull", "publish", "import", "bench show"}  # offline, or not what it should be


def words_of(name: str, model: Path, corpus: Path) -> list[str]:
    given = [{"MODEL": str(model), "CORPUS": str(corpus)}.get(word, word) for word in COMMANDS[name]]
    return [*given, "--model", str(model)] if name in WITH_MODEL else given


# Failures


class Injected:
    """Raises an OSError in the place of the n-th of the system calls that an audit event is about."""

    active: "Injected | None" = None

    def __init__(self, event: str, code: int, number: int = 1):
        self.event, self.code, self.left = event, code, number

    def __call__(self, event: str, args: tuple) -> None:
        if event != self.event:
            return
        path = args[0]
        if event == "open":
            writing = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writing or not isinstance(path, str) or path.startswith("/dev/"):
                return
        if "__pycache__" in str(path):
            return
        self.left -= 1
        if self.left <= 0:  # and from then on: a full disk stays full
            raise OSError(self.code, os.strerror(self.code), path)


@contextlib.contextmanager
def injected(event: str, code: int, number: int = 1) -> Iterator[None]:
    Injected.active = Injected(event, code, number)
    try:
        yield
    finally:
        Injected.active = None


def _hook(event: str, args: tuple) -> None:
    if Injected.active is not None:
        Injected.active(event, args)


@contextlib.contextmanager
def size_limit(n_bytes: int) -> Iterator[None]:
    """Let every write beyond `n_bytes` of a file fail, as on a disk that fills up (EFBIG; Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def unsynced() -> Iterator[None]:
    """Let the disk report at the last moment, when a file is synced, that it could not keep it."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sync_file", fail)
        yield


ALL_CODES = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EMFILE)
CALLS = [
    *(("open", code, 1) for code in ALL_CODES),
    *(("open", errno.ENOSPC, number) for number in (2, 3, 5)),
    *(("os.rename", code, 1) for code in (errno.ENOSPC, errno.EIO, errno.EXDEV)),
    ("os.mkdir", errno.ENOSPC, 1),
]
FAILURES: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    **{f"{call[0]} {errno.errorcode[call[1]]} {call[2]}": lambda call=call: injected(*call) for call in CALLS},
    **{f"files of {n} bytes": lambda n=n: size_limit(n) for n in (0, 300, 5_000, 20_000)},
    "sync EIO": unsynced,
}


# What must hold


@pytest.fixture(scope="module", autouse=True)
def hook():
    sys.addaudithook(_hook)  # for the rest of the process; it does nothing while no failure is active


@pytest.fixture
def ready(workdir, model, monkeypatch) -> Path:
    """The working folder, with what some commands read; nothing is reached over a network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MPLCONFIGDIR", str(workdir.parent / "matplotlib"))
    save_model(workdir / "copy")
    (workdir / "ckpt.pt").write_bytes(b"PK")
    (workdir / "vocab.json").write_text('["a", "b"]')
    (workdir / "bench.json").write_text("{}")
    return workdir


def check(name: str, code: object, stderr: str, error: BaseException | None) -> None:
    """Check the end of a command: an exit code, and where it is not 0 one last line that says why."""
    assert error is None or isinstance(error, SystemExit), f"{name}: {error!r}"
    assert "Traceback" not in stderr, stderr
    assert code in (0, 1, 2), stderr
    if code:
        lines = stderr.splitlines()
        assert lines[-1].startswith("gatsby: "), stderr
        assert len(lines[-1]) < 600
        assert sum(line.startswith("gatsby: ") for line in lines) == 1, stderr


def check_whole(folder: Path) -> None:
    """Check that nothing temporary is left and that every file under `folder` is whole."""
    for path in sorted(folder.rglob("*")):
        # Beside a complete folder an old one may be left to delete: the next command does that.
        assert not re.search(r"\.tmp$|\.new$", path.name), path
        if path.name == "config.json" and path.parent.name != "gpt2":
            checkpoint.load(path.parent)
        elif path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.name == "raw.txt":
            load.load(path)
        elif path.name in ("told.jsonl", "stories.jsonl"):
            stories.read(path)
        elif path.suffix == ".svg":
            assert path.read_text("utf-8").rstrip().endswith("</svg>")
        elif path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        elif path.suffix in (".md", ".html"):
            assert path.read_text("utf-8").endswith("\n")


def again(name: str, words: list[str], folder: Path) -> None:
    """Run the command once more, without a failure: it must finish what was begun."""
    if name == "train" and (folder / "run" / "last").exists():
        words = [*words, "--resume"]
    if name == "checkpoint rm" and not (folder / "copy").exists():
        return
    done = gatsby(*words)
    assert done.exit_code == (1 if name in ENDS_IN_ERROR else 0) or (name == "bench show" and done.exit_code == 2), (
        done.stderr
    )


def walk(name: str, failure: str, folder: Path, model: Path, corpus: Path) -> None:
    words = words_of(name, model, corpus)
    with FAILURES[failure]():
        done = gatsby(*words)
    check(name, done.exit_code, done.stderr, done.exception)
    check_whole(folder)
    if done.exit_code:
        again(name, words, folder)
        check_whole(folder)


@pytest.mark.parametrize("name", WRITING)
def test_a_write_that_breaks_in_its_middle_leaves_nothing_half_written(ready, model, corpus, name):
    walk(name, "files of 300 bytes", ready, model, corpus)


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", [*WRITING, "tell", "checkpoint rm", "pull", "publish"])
def test_no_failure_of_the_disk_ends_in_a_traceback(ready, model, corpus, name, failure):
    walk(name, failure, ready, model, corpus)


@contextlib.contextmanager
def stdout_at(fd: int) -> Iterator[io.StringIO]:
    """Let sys.stdout write to a file descriptor, as a real one does, and yield what is written to stderr."""
    before, errors = (sys.stdout, sys.stderr), io.StringIO()
    sys.stdout, sys.stderr = io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), write_through=True), errors
    try:
        yield errors
    finally:
        sys.stdout, sys.stderr = before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed pipe", "full device"])
@pytest.mark.parametrize("name", COMMANDS)
def test_output_that_cannot_be_written_is_one_line(ready, model, corpus, name, how):
    if how == "full device" and not Path("/dev/full").exists():
        pytest.skip("macOS: there is no /dev/full")
    if how == "closed pipe":
        reader, fd = os.pipe()
        os.close(reader)
    else:
        fd = os.open("/dev/full", os.O_WRONLY)
    error = None
    with stdout_at(fd) as errors:
        try:
            cli.main(words_of(name, model, corpus))
        except BaseException as raised:
            error = raised
    os.close(fd)
    if how == "full device":
        check(name, getattr(error, "code", 1), errors.getvalue(), error)
    else:  # the reader has had enough, as `head` has: that is no error to speak of
        assert isinstance(error, SystemExit), error
        assert error.code in (0, 1, 2)
        assert "Traceback" not in errors.getvalue()
    check_whole(ready)


ODD = {
    "no home": dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME"), "/dev/null/none"),
    "locale that is not there": {"LC_ALL": "xx_YY.nothing", "LANG": "xx_YY.nothing"},
    "locale of ASCII": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "locale of Latin 1": {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"},
    "terminal that is not there": {"TERM": "none", "COLUMNS": "0"},
    "notebook's backend": {"MPLBACKEND": "no-such-backend"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "odd"), [(name, odd) for name in COMMANDS for odd in ODD if odd == "no home" or name in ("tell", "report")]
)
def test_an_odd_environment_changes_nothing(ready, model, corpus, name, odd):
    """In a process of its own. `pocket` is too large for that, so training only begins."""
    words = words_of(name, model, corpus)
    words = ["train", "--corpus", "nowhere"] if name == "train" else words
    done = real(ready, *words, env={**ODD[odd], "HF_HUB_OFFLINE": "1"})
    check(name, done.returncode, done.stderr, None)
    assert done.returncode == (1 if name in {*ENDS_IN_ERROR, "train"} else 0) or name == "bench show", done.stderr


def test_progress_on_a_closed_pipe_ends_no_command(workdir, corpus):
    """`gatsby write ... 2>&1 | head` is no reason to stop."""
    reader, writer = os.pipe()
    os.close(reader)
    done = real(workdir, "write", "--n", 5, "--out", "c", stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == 0
    assert len(load.load(workdir / "c").documents) == 5
