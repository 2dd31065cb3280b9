"""`gatsby serve` as a separate process, and its error messages."""

import errno
import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from cli_tools import command, environment, gatsby, one_line, save_model


@contextmanager
def serving(home: Path, *args: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run `gatsby serve` in `home` on a free port; give the process and its address."""
    words = command("serve", "--port", 0, *args)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(words, cwd=home, env=environment(home), **pipes)
    try:
        assert running.stdout
        address = running.stdout.readline().strip()
        assert address, running.communicate()[1]
        yield running, address
    finally:
        running.kill()
        running.communicate()


def get(address: str) -> dict:
    with urlopen(f"{address}/api/state", timeout=60) as answer:
        return json.load(answer)


def tell(address: str, **more) -> dict:
    body = {"topic": "a cat", "green": 2, "seed": 4, "stream": False, **more}
    asked = Request(f"{address}/api/tell", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def refused(code: int, *words: object) -> str:
    done = gatsby("serve", *words)
    assert done.exit_code == code, done.stderr
    assert done.stdout == ""
    return one_line(done.stderr)


def test_serve_prints_its_address_tells_what_tell_tells_and_stops_at_ctrl_c(model, tmp_path):
    with serving(tmp_path, "--model", model) as (running, address):
        assert address.startswith("http://127.0.0.1:")
        answer = tell(address)
        assert answer["stories"][0]["level"] == 2
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    assert one_line(err.lstrip()) == "gatsby: interrupted"
    said = json.loads(gatsby("tell", "a cat", "--green", 2, "--seed", 4, "--model", model, "--json").stdout)
    assert said["stories"][0]["story"] == answer["stories"][0]["story"].rstrip("\n")
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_replaced_while_serving_is_reported_and_the_old_one_stays_in_use(model, tmp_path):
    folder = Path(shutil.copytree(model, tmp_path / "m"))
    with serving(tmp_path, "--model", "m") as (_, address):
        before = tell(address)["stories"]
        assert not get(address)["model"]["replaced"]
        save_model(folder, seed=9)
        assert get(address)["model"]["replaced"]
        assert tell(address)["stories"] == before
        shutil.rmtree(folder)
        assert get(address)["model"]["replaced"]
        assert tell(address)["stories"] == before


def test_exhibition_on_another_host_with_two_models_and_all_that_an_operator_asks_for(model, tmp_path):
    save_model(tmp_path / "other", seed=9)
    (tmp_path / "words.txt").write_text("baddie\n")
    options = ["--kiosk", "--idle", 5, "--night", "--qr", "--refuse", "words.txt", "--counts", "counts.json"]
    options += ["--access-log", "log.txt", "--allow-host", "stand.example", "--host", "0.0.0.0"]
    with serving(tmp_path, "--model", model, "--model", "other", *options) as (running, address):
        state = get(address)
        assert (state["kiosk"], state["idle_s"]) == (True, 5)
        assert [one["name"] for one in state["models"]][1] == "other"
        assert tell(address, model="other")["stories"] != tell(address)["stories"]
        with pytest.raises(HTTPError, match="422"):
            tell(address, topic="two baddies")
        request = Request(address, headers={"Host": "stand.example"})
        with urlopen(request, timeout=60) as answer:
            assert b'content="dark"' in answer.read()
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGTERM
    lines = err.splitlines()
    assert lines[0].startswith("warning: anyone who can reach 0.0.0.0")
    others = [line for line in lines[1:] if line.startswith("from another machine: http://")]
    assert state["code"] is bool(others)  # a machine without a network has no address to show
    assert others == lines[1:] or "no code is shown" in lines[1]
    (day,) = json.loads((tmp_path / "counts.json").read_text()).values()
    assert day == {"stories": 2}
    log = (tmp_path / "log.txt").read_text()
    assert " POST /api/tell 200 " in log and "cat" not in log and "127.0.0.1" not in log


def test_port_in_use_is_refused_before_a_model_is_looked_for(workdir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(1, "--port", port) == f"gatsby: Port {port} is in use. Choose another with --port {port + 1}"


def test_port_that_is_not_allowed_is_refused(workdir, monkeypatch):
    class Guarded(socket.socket):  # some systems and users may take any port
        def bind(self, address):
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Guarded)
    assert "is not allowed" in refused(1, "--port", 80)


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "a b", "", "x" * 300])
def test_host_of_another_machine_is_refused(workdir, host):
    assert "is not an address of this machine. Leave --host out" in refused(1, "--host", host, "--port", 0)


def test_code_to_scan_needs_a_host_and_files_are_read_first(workdir):
    assert "Add: --host 0.0.0.0" in refused(2, "--qr", "--port", 0)
    assert "cannot be read" in refused(2, "--refuse", "nowhere", "--port", 0)
    Path("counts.json").write_text("{")
    assert "holds no counts" in refused(1, "--counts", "counts.json", "--port", 0)


def test_no_model_and_no_corpus_are_refused(workdir, model):
    assert "gatsby demo" in refused(1, "--port", 0)
    assert "no checkpoint at nowhere" in refused(1, "--port", 0, "--model", "nowhere")
    assert "no corpus at nowhere" in refused(1, "--port", 0, "--model", model, "--corpus", "nowhere")


@pytest.mark.parametrize(
    "words", [["--port", 70000], ["--port", "x"], ["--batch", 4], ["--idle", 0], ["--idle", "soon"]]
)
def test_value_out_of_range_is_a_usage_error(workdir, words):
    assert words[0] in refused(2, *words)
