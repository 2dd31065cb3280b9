"""pull: a repository arrives checked and complete, at a pinned commit; each failure is one line."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest
from hub_models import ASCII, random_model, save_nanogpt
from hub_server import TOKEN
from huggingface_hub import errors

from gatsby_mlx.errors import CheckpointError, HubError, OutputError, UsageError
from gatsby_mlx.hub.remote import Repo, hub_errors, parse
from gatsby_mlx.model import checkpoint

REPO = "someone/green-light"


def model_files(folder: Path, **more: bytes) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()} | more


def test_model_is_pulled_at_its_commit_with_nothing_else(hub, folder):
    extra = {"pytorch_model.bin": b"x" * 1000, "README.md": b"# A card\n", "optimizer.safetensors": b"x"}
    sha = hub.commit(REPO, model_files(folder, **extra))
    done = hub.run("pull", REPO)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "models/green-light\n"
    assert f"{REPO}@{sha}" in done.stderr
    pulled = hub.home / "models" / "green-light"
    want = {"config.json", "model.safetensors", "tokenizer.json", "README.md", "source.json"}
    assert {p.name for p in pulled.iterdir()} == want
    assert [p.name for p in pulled.parent.iterdir()] == ["green-light"]
    assert json.loads((pulled / "source.json").read_text()) == {"repository": REPO, "commit": sha}
    ours, theirs = checkpoint.load(folder).model.named(), checkpoint.load(pulled).model.named()
    assert all(bool((ours[k] == theirs[k]).all()) for k in ours)
    assert not [r for r in hub.asked() if r["path"].endswith((".bin", "optimizer.safetensors"))]
    story = hub.run("tell", "a lost kitten", "--seed", 1, "--max-tokens", 5, "--model", pulled)
    assert story.returncode == 0, story.stderr


def test_revision_is_pinned_and_a_second_pull_replaces_the_first(hub, folder):
    first = hub.commit(REPO, model_files(folder))
    other = hub.home.parent / "other"
    shutil.copytree(folder, other)
    content = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**content, "step": 8}))
    second = hub.commit(REPO, model_files(other))
    pulled = hub.home / "models" / "green-light"
    for revision, step, sha in (("", 8, second), (f"@{first}", 7, first)):
        assert hub.run("pull", REPO + revision).returncode == 0
        assert checkpoint.load(pulled).info["step"] == step
        assert json.loads((pulled / "source.json").read_text())["commit"] == sha


def test_offline_pull_uses_the_cache(hub, folder):
    hub.commit(REPO, model_files(folder))
    (line,) = hub.refused(("pull", REPO, "HF_HUB_OFFLINE is set"), HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE unset" in line
    assert hub.asked() == []
    assert hub.run("pull", REPO).returncode == 0
    asked = len(hub.asked())
    again = hub.run("pull", REPO, "--out", "again", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert len(hub.asked()) == asked
    assert (hub.home / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def cached(hub, *names: str) -> list[Path | None]:
    """Return what `remote.cached` gives for each name in a process that uses this hub."""
    program = "import sys; from gatsby_mlx.hub.remote import cached, parse\n"
    program += "for name in sys.argv[1:]: print(cached(parse(name)))"
    done = hub.process(["-c", program, *names], None, {})
    assert done.returncode == 0, done.stderr
    return [None if line == "None" else Path(line) for line in done.stdout.splitlines()]


def test_cached_gives_the_folder_of_a_complete_snapshot_without_network(hub, folder):
    sha = hub.commit(REPO, model_files(folder, **{"pytorch_model.bin": b"not needed"}))
    assert cached(hub, REPO) == [None]
    assert hub.asked() == []
    assert hub.run("pull", REPO, "--out", "elsewhere").returncode == 0
    asked = len(hub.asked())
    others = f"{REPO}@v9", f"{REPO}@{'0' * 40}", f"datasets/{REPO}", "someone/none"
    path, pinned, *none = cached(hub, REPO, f"{REPO}@{sha}", *others)
    assert path is not None
    assert pinned == path
    assert none == [None] * len(others)
    assert path.name == sha
    assert (path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    story = hub.run("tell", "a lost kitten", "--seed", 1, "--max-tokens", 5, "--model", REPO)
    assert story.returncode == 0, story.stderr
    (path / "model.safetensors").unlink()
    assert cached(hub, REPO) == [None]
    assert len(hub.asked()) == asked


def test_cached_corpus_is_a_dataset(hub, stories):
    files = {name: (stories / name).read_bytes() for name in ("raw.txt", "manifest.json")}
    hub.commit("someone/stories", files | {"data/train.jsonl": b"{}\n"}, kind="datasets")
    assert hub.run("pull", "datasets/someone/stories").returncode == 0
    path, model = cached(hub, "datasets/someone/stories", "someone/stories")
    assert path is not None
    assert (path / "raw.txt").read_bytes() == files["raw.txt"]
    assert model is None


def test_broken_download_resumes_where_it_broke(hub, folder):
    """huggingface_hub writes in chunks of 10 MiB: a file resumes after the last complete one."""
    chunk = 10 << 20
    card = bytes(range(256)) * (chunk // 256 + 1000)
    data = model_files(folder, **{"README.md": card})
    hub.commit(REPO, data)
    hub.faults(break_once_at={"README.md": chunk + 50_000, "model.safetensors": 40_000})
    done = hub.run("pull", REPO)
    assert done.returncode == 0, done.stderr
    for name, ranges in (("README.md", [None, f"bytes={chunk}-"]), ("model.safetensors", [None, None])):
        asked = [r["range"] for r in hub.asked() if r["path"].endswith(name) and r["method"] == "GET"]
        assert asked == ranges
        assert (hub.home / "models/green-light" / name).read_bytes() == data[name]


def test_corpus_is_pulled_and_read(hub, stories):
    sha = hub.commit("someone/stories", model_files(stories, **{"data/train.jsonl": b"{}\n"}), kind="datasets")
    done = hub.run("pull", f"datasets/someone/stories@{sha}")
    assert (done.returncode, done.stdout) == (0, "corpora/stories\n"), done.stderr
    assert (hub.home / "corpora/stories/raw.txt").read_bytes() == (stories / "raw.txt").read_bytes()
    assert hub.run("corpus", "show", "corpora/stories").returncode == 0


def nanogpt_file(tmp_path: Path) -> bytes:
    return save_nanogpt(tmp_path / "nanogpt.pt", random_model(gelu="erf")).read_bytes()


@pytest.mark.parametrize("beside", ["vocab.json", "raw.txt", None])
def test_pytorch_checkpoint_is_imported(hub, tmp_path, beside):
    listed = {"vocab.json": json.dumps({c: i for i, c in enumerate(ASCII)}), "raw.txt": ASCII[::-1]}
    files = {"ckpt.pt": nanogpt_file(tmp_path), "config.json": b'{"model_type": "nanogpt"}'}
    hub.commit("sup-computer/gatsby-nanogpt-2", files | ({beside: listed[beside].encode()} if beside else {}))
    (tmp_path / "corpus.txt").write_text(ASCII)
    more = [] if beside else ["--corpus", tmp_path / "corpus.txt"]
    if not beside:
        hub.refused(("pull", "sup-computer/gatsby-nanogpt-2", "--corpus raw.txt"))
    done = hub.run("pull", "sup-computer/gatsby-nanogpt-2", *more)
    assert done.returncode == 0, done.stderr
    read = checkpoint.load(hub.home / "models" / "gatsby-nanogpt-2")
    assert read.tokenizer.alphabet == ASCII
    assert read.model.config.gelu == "erf"
    assert read.info["source"]["kind"] == "nanoGPT"
    np.testing.assert_array_equal(read.model.wte.weight, random_model(gelu="erf").wte.weight)


def test_repository_that_cannot_be_pulled_is_one_line(hub, folder):
    hub.commit("someone/closed", model_files(folder), private=True)
    hub.commit("someone/gated", model_files(folder), gated="auto")
    hub.commit(REPO, model_files(folder))
    lines = hub.refused(
        ("pull", "someone/none", "no someone/none on the hub, or it is private"),
        ("pull", "someone/closed", "it is private"),
        ("pull", "someone/gated", "gated"),
        ("pull", f"{REPO}@v9", "no revision 'v9'"),
        ("pull", f"{REPO}@{'0' * 40}", "no revision"),
        ("pull", f"datasets/{REPO}", "no datasets/someone/green-light"),
    )
    assert "hf auth login" in lines[0]
    hub.refused(("pull", "someone/closed", "it is private"), token="hf_wrong")
    assert hub.run("pull", "someone/closed", token=TOKEN).returncode == 0


def test_hub_that_fails_or_cannot_be_reached_is_one_line(hub, folder):
    for status, message in ((403, "403"), (404, "answered 404")):
        hub.faults(status=status)
        hub.refused(("pull", REPO, message))
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    commands = (("pull", REPO, "cannot be reached"), ("publish", folder, REPO, "--yes", "cannot be reached"))
    lines = hub.refused(*commands, **nowhere)
    assert "HF_HUB_OFFLINE=1" in lines[0]


@pytest.mark.parametrize(("status", "message"), [(401, "hf auth login"), (429, "slow down"), (503, "answered 503")])
def test_error_status_of_the_hub_has_its_line(status, message):
    """huggingface_hub retries these for some 15 s; the test raises them without the wait."""
    response = httpx2.Response(status, request=httpx2.Request("GET", "http://x"))
    with pytest.raises(HubError) as caught, hub_errors(Repo("a/b")):
        try:
            raise errors.HfHubHTTPError("many\nlines", response=response)
        except errors.HfHubHTTPError as error:  # as snapshot_download wraps it
            raise errors.LocalEntryNotFoundError("not in the cache either") from error
    assert message in caught.value.line()


def test_errors_of_disk_token_and_download_have_their_lines():
    for raised, kind, message in (
        (OSError(28, "No space left on device", "/cache/x"), OutputError, "Free some space"),
        (OSError(28, "No space left on device"), OutputError, "the hub's cache"),
        (OSError("Consistency check failed: file should be\nof size 5"), HubError, "broke off"),
        (errors.LocalTokenNotFoundError("no token"), HubError, "hf auth login"),
        (httpx2.ReadTimeout("timed out"), HubError, "timed out"),
        (CheckpointError("ours", "stays"), CheckpointError, "ours. stays"),
    ):
        with pytest.raises(kind) as caught, hub_errors(Repo("a/b")):
            raise raised
        assert message in caught.value.line()
        assert "\n" not in caught.value.line()


def test_repository_that_is_foreign_or_damaged_is_refused(hub, folder, stories):
    whole = model_files(folder)
    hub.commit("a/foreign", {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"x" * 100})
    hub.commit("a/empty", {"README.md": b"nothing"})
    hub.commit("a/torn", {**whole, "model.safetensors": whole["model.safetensors"][:-9]})
    hub.commit("a/newer", {**whole, "config.json": b'{"format": "gatsby-mlx/checkpoint/99"}'})
    hub.commit("a/part", {k: v for k, v in whole.items() if k != "tokenizer.json"})
    hub.commit("a/code", {"ckpt.pt": b"\x80\x02cos\nsystem\n.", "raw.txt": b"abc"})
    hub.commit("a/stories", {"data.parquet": b"x"}, kind="datasets")
    hub.commit("a/bent", {"raw.txt": (stories / "raw.txt").read_bytes()[5:]}, kind="datasets")
    lines = hub.refused(
        ("pull", "a/foreign", "neither a config.json of gatsby's nor a ckpt.pt"),
        ("pull", "a/empty", "neither a config.json of gatsby's nor a ckpt.pt"),
        ("pull", "a/torn", "damaged"),
        ("pull", "a/newer", "checkpoint/99"),
        ("pull", "a/part", "tokenizer.json is missing"),
        ("pull", "a/code", "not a zip file"),
        ("pull", "datasets/a/stories", "no raw.txt"),
        ("pull", "datasets/a/bent", "control line"),
    )
    assert not [line for line in lines if ".new" in line or str(hub.home) in line], (
        "paths of temporary files say nothing"
    )
    assert not [r for r in hub.asked() if "foreign" in r["path"] and r["path"].endswith(".safetensors")]


def test_folder_with_other_files_is_not_changed(hub, folder):
    hub.commit(REPO, model_files(folder))
    (hub.home / "mine").mkdir()
    (hub.home / "mine" / "a").write_text("mine")
    hub.refused(
        ("pull", REPO, "--out", "mine", "is not empty"),
        ("pull", REPO, "--out", "mine/a", "is not a folder"),
    )
    assert hub.asked() == [], "the folder is checked before anything is downloaded"


def test_full_disk_is_one_line_and_leaves_nothing(hub, folder):
    """In a process where no file may exceed 20 kB, which the weights do."""
    hub.commit(REPO, model_files(folder))
    program = f"""
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
sys.argv = ["gatsby", "pull", "{REPO}"]
from gatsby_mlx.cli import run
run()
"""
    root = Path(__file__).resolve().parents[2]
    env = {k: os.environ[k] for k in ("PATH", "LANG") if k in os.environ} | {"HOME": str(hub.home)}
    env |= {"HF_HOME": str(hub.home / "hf"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(root)}
    words = [sys.executable, "-B", "-c", program]
    done = subprocess.run(words, cwd=hub.home, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert "File too large" in line or "No space" in line, done.stderr
    assert line.startswith("gatsby: ")
    assert not list(hub.home.glob("models/*"))
    assert not list((hub.home / "hf").rglob("*.incomplete"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_token_is_in_no_output_and_no_file(hub, folder):
    hub.commit("someone/closed", model_files(folder), private=True)
    secret = "hf_doNotShowThisToAnyone"
    hub.refused(("pull", "someone/closed", ""), ("publish", folder, "someone/new", "--yes", ""), token=secret)
    for words in (("pull", "someone/closed"), ("publish", folder, "someone/new", "--yes")):
        done = hub.run("--debug", *words, token=secret)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert secret not in done.stdout + done.stderr
    assert any(r["token"] for r in hub.asked()), "it was sent to the hub"
    assert not [p for p in hub.home.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


@pytest.mark.parametrize("text", ["a/b", "a-b/c_d.e", "0a/b1"])
def test_name_of_a_repository_is_parsed(text):
    assert parse(text) == Repo(text)
    assert parse(f"datasets/{text}@v1.0/x") == Repo(text, "dataset", "v1.0/x")
    assert str(parse(f"datasets/{text}")) == f"datasets/{text}"


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/b/c", "/b", "a/", "../b", "a/..", "a/b@", "a/b@ c", "a/b@-x", "a b/c", "http://x/y", "a/b--c", "-a/b"]
    + ["a/" + "b" * 97, "a/b\n", "datasets/a", "a/b@../../c d"],
)
def test_text_that_is_not_a_name_is_a_usage_error(text):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert "OWNER/NAME" in caught.value.line()


def test_dataset_of_stories_is_imported_with_its_splits_from_its_newest_folder(hub):
    def rows(n: int, name: str) -> bytes:
        light = "She saw the green light. " * n
        row = {"topic": f"a {name}", "level": n, "text": f"Mia had a {name} at home. {light}She slept.", "greens": n}
        return (json.dumps(row) + "\n").encode()

    files = {"v1/train.jsonl": rows(1, "cat"), "v3/train.jsonl": rows(1, "dog"), "v3/validation.jsonl": rows(2, "kite")}
    hub.commit("someone/tales", {**files, "v3/test.jsonl": rows(3, "boat"), "photo.png": b"\x89PNG"}, kind="datasets")
    name = "datasets/someone/tales"
    done, old = hub.run_all(
        [
            ("corpus", "import", name, "--out", "new", "--json"),
            ("corpus", "import", f"{name}/v1", "--out", "old", "--json"),
        ]
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["kept"], content["stories_are"]) == (3, "one story a line, from the folder v3")
    entries = json.loads((hub.home / "new" / "manifest.json").read_text())["stories"]
    assert {e["topic"]: e["split"] for e in entries} == {"a dog": "train", "a kite": "validation", "a boat": "test"}
    assert json.loads(old.stdout)["kept"] == 1
    assert not [r for r in hub.asked() if r["path"].endswith(".png")]
