"""Ctrl-C, SIGTERM and SIGHUP stop work alike; a Mac stays awake as long as there is work."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gatsby_mlx.device import awake as awake_module
from gatsby_mlx.device.awake import awake
from gatsby_mlx.device.interrupts import endings_interrupt, interrupts

ALL = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
ENDINGS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)


@pytest.fixture(autouse=True)
def default_handlers():
    """Each test begins with the handlers of a program, even where pytest itself was started with nohup."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for n, handler in before.items():
        signal.signal(n, handler)


@pytest.fixture
def no_terminal(monkeypatch):
    """After SIGHUP, output to a terminal goes to nowhere; pytest's own must not."""
    monkeypatch.setattr("gatsby_mlx.device.interrupts.leave_terminal", lambda number: None)


@ALL
def test_first_signal_is_noted_and_the_second_one_interrupts(number, no_terminal):
    said = []
    with interrupts(lambda: said.append("once")) as seen:
        assert seen == []
        os.kill(os.getpid(), number)
        assert (seen, said) == ([number], ["once"])
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@ENDINGS
def test_an_ending_is_a_ctrl_c_where_nothing_else_listens(number, no_terminal):
    with pytest.raises(KeyboardInterrupt), endings_interrupt():
        os.kill(os.getpid(), number)
        signal.pause()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts() as seen, endings_interrupt():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert seen == []


def test_a_thread_that_is_not_the_main_one_sets_no_handlers():
    found = []

    def work():
        with interrupts() as seen, endings_interrupt():
            found.append((seen, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [([], signal.SIG_DFL)]


HUNG_UP = """
import os, signal, sys
from gatsby_mlx.device.interrupts import interrupts
with interrupts() as seen:
    os.kill(os.getpid(), signal.SIGHUP)
    print("to the terminal", flush=True)
    print("to the terminal", file=sys.stderr, flush=True)
    open("seen", "w").write(str(seen))
"""


def test_after_a_hangup_nothing_is_written_to_the_terminal_and_files_go_on(tmp_path):
    """A real terminal, whose other end is closed before the process writes again: that would be an EIO."""
    ours, theirs = os.openpty()
    log = (tmp_path / "err").open("w")
    child = subprocess.Popen(
        [sys.executable, "-c", HUNG_UP],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=log,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    os.close(theirs)
    os.close(ours)
    assert child.wait(60) == 0
    log.close()
    assert (tmp_path / "seen").read_text() == f"[{signal.SIGHUP:d}]"
    assert (tmp_path / "err").read_text() == "to the terminal\n", "a file is no terminal"


@pytest.fixture
def caffeinate(tmp_path, monkeypatch) -> Path:
    """Make the module believe that this is a Mac, whose `caffeinate` notes how it was called and waits."""
    program = tmp_path / "caffeinate"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec sleep 60\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(awake_module.sys, "platform", "darwin")
    monkeypatch.setattr(awake_module.shutil, "which", lambda name: str(program))
    return tmp_path / "calls"


def calls(path: Path, n: int) -> list[str]:
    """Return the calls once there are `n`: the helper starts in its own time."""
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (not path.exists() or path.read_text().count("\n") < n):
        time.sleep(0.01)
    return path.read_text().splitlines()


def test_blocks_share_one_helper_that_ends_with_the_last(caffeinate):
    with awake():
        (helper,) = awake_module._helper
        assert calls(caffeinate, 1) == [f"-i -w {os.getpid()}"]
        with awake():
            assert awake_module._helper == [helper]
        assert helper.poll() is None
    assert helper.poll() is not None and not awake_module._helper and not awake_module._open


@pytest.mark.slow
def test_a_kiosk_keeps_the_screen_on(caffeinate):
    with awake(), awake(display=True):
        assert calls(caffeinate, 2)[-1] == f"-i -d -w {os.getpid()}"
    assert not awake_module._helper


def test_sleep_is_no_reason_to_fail(caffeinate, monkeypatch):
    monkeypatch.setattr(awake_module.shutil, "which", lambda name: "/nonexistent/caffeinate")
    with pytest.raises(ValueError, match="the work's own"), awake():
        assert not awake_module._helper
        raise ValueError("the work's own")
    monkeypatch.setattr(awake_module.sys, "platform", "linux")
    with awake():
        assert not awake_module._helper
