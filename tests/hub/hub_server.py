"""A local stand-in for the hub: the part of its HTTP API that huggingface_hub 2 uses for gatsby's commands.

    python tests/hub/hub_server.py ROOT    prints its address and serves until it is killed

Repositories are under ROOT as `models/OWNER/NAME/` or `datasets/OWNER/NAME/`, with one folder of files per commit,
`refs.json` (branch to commit) and `settings.json`. `ROOT/faults.json` makes it misbehave, `ROOT/log.jsonl` logs its
requests. Endpoints: GET /api/{models,datasets}/ID[/revision/R], GET .../tree/SHA, HEAD and GET
/[datasets/]ID/resolve/SHA/FILE with Range, POST /api/repos/create, /api/validate-yaml, .../preupload/R, .../commit/R.
"""

import base64
import hashlib
import json
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

TOKEN = "hf_thisIsTheSecretOfTheTests"  # opens private repositories here, and is valid nowhere else
LOCK = threading.Lock()


def commit(root: Path, kind: str, repo: str, files: dict[str, bytes], base: str | None = None, **settings) -> str:
    """Add a commit to a repository's main branch, which is created if necessary; return its 40 digits."""
    folder = root / kind / repo
    refs = json.loads((folder / "refs.json").read_text()) if (folder / "refs.json").exists() else {}
    digest = hashlib.sha1(json.dumps([base, sorted(files), repo, len(list(root.glob(f"{kind}/{repo}/*")))]).encode())
    for name, data in files.items():
        digest.update(name.encode() + data)
    sha = digest.hexdigest()
    if base or refs.get("main"):
        shutil.copytree(folder / (base or refs["main"]), folder / sha)
    for name, data in files.items():
        (folder / sha / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / sha / name).write_bytes(data)
    (folder / sha).mkdir(parents=True, exist_ok=True)
    (folder / "refs.json").write_text(json.dumps({**refs, "main": sha}))
    if settings or not (folder / "settings.json").exists():
        (folder / "settings.json").write_text(json.dumps({"private": False, "gated": False, **settings}))
    return sha


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    broken: set[Path]

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_one()

    do_HEAD = do_POST = do_GET  # noqa: N815  http.server's names

    def handle_one(self):
        path = unquote(self.path.split("?")[0])
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        entry = {"method": self.command, "path": path, "range": self.headers.get("Range"), "token": bool(token)}
        with LOCK, (self.root / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults = self.root / "faults.json"
        self.faults = json.loads(faults.read_text()) if faults.exists() else {}
        self.known = token == TOKEN
        if self.faults.get("status"):
            return self.answer({"error": "fault"}, self.faults["status"])
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        verbs = "revision|tree|preupload|commit"
        if found := re.fullmatch(rf"/api/(models|datasets)/([^/]+/[^/]+)(?:/({verbs})/(.+))?", path):
            return self.api(*found.groups(), body)
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, repo, revision, name = found.groups()
            return self.resolve("datasets" if kind else "models", repo, revision, name)
        return self.answer({"error": "no such page"}, 404)

    def answer(self, content, status: int = 200, **headers: str):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str):
        return self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def open(self, kind: str, repo: str) -> tuple[Path, dict] | None:
        """Return a repository's folder and settings, or refuse and return None."""
        folder = self.root / kind / repo
        settings = json.loads((folder / "settings.json").read_text()) if folder.is_dir() else {"private": True}
        if settings["private"] and not (self.known and folder.is_dir()):
            self.refuse(404 if self.known else 401, "RepoNotFound")
            return None
        if settings["gated"] and not self.known:
            self.refuse(401 if not self.headers.get("Authorization") else 403, "GatedRepo")
            return None
        return folder, settings

    def api(self, kind: str, repo: str, verb: str | None, revision: str | None, body: bytes):
        if (found := self.open(kind, repo)) is None:
            return None
        folder, settings = found
        refs = json.loads((folder / "refs.json").read_text()) if (folder / "refs.json").exists() else {}
        if verb == "preupload":
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in asked]
            return self.answer({"files": modes})
        if verb == "commit":
            return self.commit(kind, repo, body)
        sha = refs.get(revision or "main", revision)
        if not sha or not (folder / sha).is_dir():
            return self.refuse(404, "RevisionNotFound")
        if verb == "tree":
            return self.answer([self.entry(folder / sha, p) for p in sorted((folder / sha).rglob("*")) if p.is_file()])
        about = {"id": repo, "sha": sha, "private": settings["private"], "gated": settings["gated"]}
        return self.answer({**about, "siblings": [], "tags": [], "downloads": 0, "likes": 0})

    def entry(self, folder: Path, path: Path) -> dict:
        name = path.relative_to(folder).as_posix()
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": self.etag(path)}

    def etag(self, path: Path) -> str:
        return hashlib.sha1(path.read_bytes()).hexdigest()

    def resolve(self, kind: str, repo: str, revision: str, name: str):
        if (found := self.open(kind, repo)) is None:
            return None
        refs = json.loads((found[0] / "refs.json").read_text())
        sha = refs.get(revision, revision)
        path = found[0] / sha / name
        if not (found[0] / sha).is_dir():
            return self.refuse(404, "RevisionNotFound")
        if not path.is_file():
            return self.refuse(404, "EntryNotFound")
        data = path.read_bytes()
        headers = {"ETag": f'"{self.etag(path)}"', "X_Repo_Commit": sha, "Accept_Ranges": "bytes"}
        begin, status = 0, 200
        if (wanted := self.headers.get("Range")) and self.command == "GET":
            begin, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            headers["Content_Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        breaks = self.faults.get("break_once_at", {}).get(name)
        if self.command == "GET" and breaks and path not in self.broken:
            self.broken.add(path)
            return self.break_off(data[begin:breaks], len(data) - begin, status, headers)
        return self.answer(data[begin:], status, Content_Type="application/octet-stream", **headers)

    def break_off(self, part: bytes, promised: int, status: int, headers: dict[str, str]):
        """Promise a whole file, send a part of it, and hang up."""
        self.send_response(status)
        for name, value in {"Content-Length": str(promised), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(part)
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def create(self, asked: dict):
        if not self.known:
            return self.refuse(401, "Unauthorized")
        kind = "datasets" if asked.get("type") == "dataset" else "models"
        owner = asked.get("organization") or "someone"
        repo = asked["name"] if "/" in asked["name"] else f"{owner}/{asked['name']}"
        if owner == "closed":
            return self.refuse(403, "Forbidden")
        folder = self.root / kind / repo
        about = {"url": f"http://{self.headers['Host']}/{repo}", "name": repo, "id": repo}
        if folder.is_dir():
            return self.answer({**about, "error": "exists"}, 409)
        private = asked.get("private", asked.get("visibility") == "private")
        commit(self.root, kind, repo, {".gitattributes": b""}, private=bool(private))
        return self.answer(about)

    def commit(self, kind: str, repo: str, body: bytes):
        if not self.known:
            return self.refuse(401, "Unauthorized")
        files = {}
        for line in body.decode().splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        sha = commit(self.root, kind, repo, files)
        return self.answer({"commitUrl": f"http://{self.headers['Host']}/{repo}/commit/{sha}", "commitOid": sha})


def serve(root: Path) -> ThreadingHTTPServer:
    """Start serving in a thread; `server_port` is the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Rooted", (Handler,), {"root": root, "broken": set()}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    running = serve(Path(sys.argv[1]))
    sys.stdout.write(f"http://127.0.0.1:{running.server_port}\n")
    sys.stdout.flush()
    threading.Event().wait()
