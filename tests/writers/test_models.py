"""models: a local stand-in for the hub, LM Studio's folders, and what is said before anything is downloaded."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import machine, models
from gatsby_mlx.writers.specs import FOUR, SHARES, ModelSpec

COMMIT = "c" * 40
FILES = {
    "config.json": json.dumps({"model_type": "llama", "quantization": {"bits": 4}}).encode(),
    "model.safetensors": bytes(range(256)) * 4000,
    "tokenizer.json": b"{}",
    "evil.py": b"raise SystemExit",
}
FETCH = """
import sys
from gatsby_mlx.errors import GatsbyError
from gatsby_mlx.writers import models
from gatsby_mlx.writers.specs import ModelSpec
try:
    found = models.fetch(ModelSpec("m", sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
    print(found.how, found.commit, sorted(p.name for p in found.folder.iterdir()))
except GatsbyError as error:
    print("refused:", error.line())
"""


@pytest.fixture
def hub():
    """A server that has FILES as a/model; `breaks` more answers to GET of the weights are cut in the middle."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, code, body=b"", **headers):
            self.send_response(code)
            for key, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(key.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            made.asked.append((self.command, self.path))
            path = self.path.split("?")[0]
            if "a/gated" in path:
                self.answer(403, b"{}", X_Error_Code="GatedRepo")
            elif "a/model" not in path:
                self.answer(404, b"{}", X_Error_Code="RepoNotFound")
            elif "/tree/" in path:
                rows = [{"type": "file", "path": n, "size": len(b), "oid": git_sha(b)} for n, b in FILES.items()]
                self.answer(200, json.dumps(rows).encode(), Content_Type="application/json")
            elif "/api/models/" in path:
                told = {
                    "id": "a/model",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": n, "size": len(b)} for n, b in FILES.items()],
                }
                self.answer(200, json.dumps(told).encode(), Content_Type="application/json")
            else:
                self.file(path.rsplit("/", 1)[1])

        def file(self, name):
            body = FILES[name]
            headers = {"ETag": f'"{git_sha(body)}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
            begin = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
            if self.command == "GET" and name.endswith("safetensors") and made.breaks and len(body) > begin + 9:
                made.breaks -= 1
                self.send_response(200)
                for key, value in {**headers, "Content_Length": len(body)}.items():
                    self.send_header(key.replace("_", "-"), str(value))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.connection.close()
            elif begin:
                made.resumed.append(begin)
                part = f"bytes {begin}-{len(body) - 1}/{len(body)}"
                self.answer(206, body[begin:], **headers, Content_Range=part)
            else:
                self.answer(200, body, **headers)

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads, made.asked, made.resumed, made.breaks = True, [], [], 0
    made.handle_error = lambda *_: None
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def git_sha(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def fetch(hub, home: Path, *words: str, **env: str) -> str:
    """Fetch in a process of its own, since the client reads its environment when it is imported."""
    own = {"HF_HOME": str(home), "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_DISABLE_XET": "1"}
    own |= {"HOME": str(home), "PATH": os.environ["PATH"], "HF_HUB_DISABLE_TELEMETRY": "1", **env}
    done = subprocess.run([sys.executable, "-c", FETCH, *words], env=own, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_downloaded_at_its_commit_without_code_and_then_needs_no_network(hub, tmp_path):
    told = fetch(hub, tmp_path, "a/model", COMMIT)
    assert told == f"hub {COMMIT} ['config.json', 'model.safetensors', 'tokenizer.json']"
    hub.asked.clear()
    assert fetch(hub, tmp_path, "a/model", COMMIT, HF_HUB_OFFLINE="1") == told
    assert fetch(hub, tmp_path, "a/model", COMMIT) == told
    assert hub.asked == []


def test_a_branch_is_pinned_to_its_commit(hub, tmp_path):
    assert fetch(hub, tmp_path, "a/model").startswith(f"hub {COMMIT}")
    assert all("/main/" not in path for _, path in hub.asked if "/resolve/" in path)


def test_a_broken_download_goes_on_with_what_is_missing(hub, tmp_path):
    """Whole files stay; huggingface_hub 2.4 begins the file that broke again, unless it retries at once."""
    hub.breaks = 1
    first = fetch(hub, tmp_path, "a/model", COMMIT)
    assert first.startswith("hub") or ("cannot be" in first and "what has come stays" in first), first
    hub.asked.clear()
    assert fetch(hub, tmp_path, "a/model", COMMIT).startswith("hub")
    assert not [path for method, path in hub.asked if method == "GET" and path.endswith("resolve/config.json")]
    (weights,) = tmp_path.rglob("snapshots/*/model.safetensors")
    assert weights.read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize(
    ("words", "env", "told"),
    [
        (["a/nothing"], {}, "There is no repository a/nothing"),
        (["a/nothing", COMMIT], {}, "There is no repository a/nothing"),
        (["a/gated", COMMIT], {}, "a/gated is gated.*hf auth login"),
        (["a/model", COMMIT], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        (["a/model"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub cannot be reached"),
    ],
)
def test_what_cannot_be_had_is_one_line_with_the_way_out(hub, tmp_path, words, env, told):
    import re

    line = fetch(hub, tmp_path, *words, **env)
    assert re.search(told, line), line
    assert line.startswith("refused:")
    assert "\n" not in line


@pytest.fixture
def studio(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(models, "_cached", lambda spec: None)
    return tmp_path / ".lmstudio" / "models"


def put(folder: Path, **config) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"quantization": {"bits": 4}, **config}))
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def test_what_lm_studio_has_downloaded_is_used(studio):
    assert models.locate(FOUR["olmo"]) is None
    other = put(studio / "lmstudio-community" / "Olmo-3-7B-Instruct-MLX-4bit")
    assert models.locate(FOUR["olmo"]) == models.Found(other, "LM Studio")
    same = put(studio / "mlx-community" / "Olmo-3-7B-Instruct-4bit")
    assert models.locate(FOUR["olmo"]) == models.Found(same, "LM Studio")
    put(studio / "x" / "granite-4.1-8b-MLX-8bit", quantization={"bits": 8})
    (studio / "x" / "Ministral-3-8B-Instruct-2512-GGUF").mkdir()
    assert models.locate(FOUR["granite"]) is None
    assert models.locate(FOUR["ministral"]) is None
    shutil.rmtree(studio)
    put(studio.parents[1] / ".cache" / "lm-studio" / "models" / "a" / "granite-4.1-8b-4bit")
    assert models.locate(FOUR["granite"])


def test_a_blend_that_does_not_fit_the_memory_is_refused_with_one_that_does(studio, monkeypatch):
    monkeypatch.setattr(machine, "usable_bytes", lambda: (12 * 10**9, False))
    with pytest.raises(WriterError, match=r"gemma needs 16\.8 GB") as caught:
        machine.check(FOUR, SHARES)
    assert "--blend olmo=0.37,ministral=0.37,granite=0.25" in caught.value.cure
    monkeypatch.setattr(machine, "usable_bytes", lambda: (12 * 10**9, True))
    monkeypatch.setattr(machine, "memory_bytes", lambda: {"total": 24 * 10**9, "available": 0})
    with pytest.raises(WriterError) as caught:
        machine.check(FOUR, SHARES)
    assert "sudo sysctl iogpu.wired_limit_mb=" in caught.value.cure
    monkeypatch.setattr(machine, "usable_bytes", lambda: (10**9, False))
    with pytest.raises(WriterError) as caught:
        machine.check({"olmo": FOUR["olmo"]}, {"olmo": 1.0})
    assert "--blend house" in caught.value.cure


def test_a_disk_without_room_is_said_before_downloading(studio, monkeypatch):
    monkeypatch.setattr(machine, "usable_bytes", lambda: (10**12, False))
    monkeypatch.setattr(models.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(WriterError, match=r"olmo needs 4\.1 GB of disk"):
        machine.check(FOUR, SHARES)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WriterError, match="is not a model for mlx-lm"):
        models.locate(ModelSpec("m", str(tmp_path)))
