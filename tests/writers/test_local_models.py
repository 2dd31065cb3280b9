"""Finding and downloading models: a local stub of the hub, and LM Studio's folders."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import local_models
from gatsby_mlx.writers.specs import FOUR, ModelSpec

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
from gatsby_mlx.writers import local_models
from gatsby_mlx.writers.specs import ModelSpec
try:
    local = local_models.fetch(ModelSpec("m", sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
    print(local.origin, local.commit, sorted(p.name for p in local.folder.iterdir()))
except GatsbyError as error:
    print("error:", error.line())
"""


@pytest.fixture
def hub():
    """A stub of the hub that has FILES as a/model. It breaks off the next `breaks` downloads of the weights."""

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
            stub.requests.append((self.command, self.path))
            path = self.path.split("?")[0]
            if "a/gated" in path:
                self.answer(403, b"{}", X_Error_Code="GatedRepo")
            elif "a/model" not in path:
                self.answer(404, b"{}", X_Error_Code="RepoNotFound")
            elif "/tree/" in path:
                files = [{"type": "file", "path": n, "size": len(b), "oid": git_sha(b)} for n, b in FILES.items()]
                self.answer(200, json.dumps(files).encode(), Content_Type="application/json")
            elif "/api/models/" in path:
                info = {
                    "id": "a/model",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": n, "size": len(b)} for n, b in FILES.items()],
                }
                self.answer(200, json.dumps(info).encode(), Content_Type="application/json")
            else:
                self.file(path.rsplit("/", 1)[1])

        def file(self, name):
            body = FILES[name]
            headers = {"ETag": f'"{git_sha(body)}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
            start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
            if self.command == "GET" and name.endswith("safetensors") and stub.breaks and len(body) > start + 9:
                stub.breaks -= 1
                self.send_response(200)
                for key, value in {**headers, "Content_Length": len(body)}.items():
                    self.send_header(key.replace("_", "-"), str(value))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.connection.close()
            elif start:
                stub.resumed.append(start)
                part = f"bytes {start}-{len(body) - 1}/{len(body)}"
                self.answer(206, body[start:], **headers, Content_Range=part)
            else:
                self.answer(200, body, **headers)

    stub = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.daemon_threads, stub.requests, stub.resumed, stub.breaks = True, [], [], 0
    stub.handle_error = lambda *_: None
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    yield stub
    stub.shutdown()
    stub.server_close()


def git_sha(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def fetch(hub, home: Path, *words: str, **env: str) -> str:
    """Fetch in a new process, because the hub's client reads the environment when it is imported."""
    variables = {"HF_HOME": str(home), "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_DISABLE_XET": "1"}
    variables |= {"HOME": str(home), "PATH": os.environ["PATH"], "HF_HUB_DISABLE_TELEMETRY": "1", **env}
    command = [sys.executable, "-c", FETCH, *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_downloaded_once_at_its_commit_without_code(hub, tmp_path):
    first = fetch(hub, tmp_path, "a/model", COMMIT)
    assert first == f"hub {COMMIT} ['config.json', 'model.safetensors', 'tokenizer.json']"
    hub.requests.clear()
    assert fetch(hub, tmp_path, "a/model", COMMIT, HF_HUB_OFFLINE="1") == first
    assert fetch(hub, tmp_path, "a/model", COMMIT) == first
    assert hub.requests == []


def test_a_branch_is_pinned_to_its_commit(hub, tmp_path):
    assert fetch(hub, tmp_path, "a/model").startswith(f"hub {COMMIT}")
    assert all("/main/" not in path for _, path in hub.requests if "/resolve/" in path)


@pytest.mark.slow
def test_a_broken_download_continues_with_the_missing_files(hub, tmp_path):
    """Complete files are kept. huggingface_hub 2.4 starts the broken file again, unless it retries at once."""
    hub.breaks = 1
    first = fetch(hub, tmp_path, "a/model", COMMIT)
    assert first.startswith("hub") or ("cannot be" in first and "complete files are kept" in first), first
    hub.requests.clear()
    assert fetch(hub, tmp_path, "a/model", COMMIT).startswith("hub")
    assert not [path for method, path in hub.requests if method == "GET" and path.endswith("resolve/config.json")]
    (weights,) = tmp_path.rglob("snapshots/*/model.safetensors")
    assert weights.read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (["a/nothing"], {}, "There is no a/nothing on the hub"),
        (["a/nothing", COMMIT], {}, "There is no a/nothing on the hub"),
        (["a/gated", COMMIT], {}, "a/gated is gated.*hf auth login"),
        (["a/model", COMMIT], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        (["a/model"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, "The hub cannot be reached"),
    ],
)
def test_a_model_that_cannot_be_downloaded_is_a_one_line_error(hub, tmp_path, words, env, message):
    line = fetch(hub, tmp_path, *words, **env)
    assert re.search(message, line), line
    assert line.startswith("error:")
    assert "\n" not in line


@pytest.fixture
def lm_studio(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(local_models, "_cached", lambda spec: None)
    return tmp_path / ".lmstudio" / "models"


def put(folder: Path, **config) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"quantization": {"bits": 4}, **config}))
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def test_downloads_of_lm_studio_are_used(lm_studio):
    assert local_models.locate(FOUR["olmo"]) is None
    other = put(lm_studio / "lmstudio-community" / "Olmo-3-7B-Instruct-MLX-4bit")
    assert local_models.locate(FOUR["olmo"]) == local_models.LocalModel(other, "LM Studio")
    same = put(lm_studio / "mlx-community" / "Olmo-3-7B-Instruct-4bit")
    assert local_models.locate(FOUR["olmo"]) == local_models.LocalModel(same, "LM Studio")
    put(lm_studio / "x" / "granite-4.1-8b-MLX-8bit", quantization={"bits": 8})
    (lm_studio / "x" / "Ministral-3-8B-Instruct-2512-GGUF").mkdir()
    assert local_models.locate(FOUR["granite"]) is None
    assert local_models.locate(FOUR["ministral"]) is None
    shutil.rmtree(lm_studio)
    put(lm_studio.parents[1] / ".cache" / "lm-studio" / "models" / "a" / "granite-4.1-8b-4bit")
    assert local_models.locate(FOUR["granite"])


def test_a_folder_without_a_model_is_rejected(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WriterError, match="is not a model for mlx-lm"):
        local_models.locate(ModelSpec("m", str(tmp_path)))
