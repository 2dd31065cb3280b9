"""local, and the commands that use it: list, show, verify, rm, import and export, with good and bad input."""

import hashlib
import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from click.testing import CliRunner, Result
from hub_models import ASCII, INFO, random_model, save_nanogpt

from gatsby_mlx import cli, shipped
from gatsby_mlx.hub import gpt2
from gatsby_mlx.hub.export import Form, prepare
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.tokenizer import CharTokenizer


def gatsby(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(word) for word in words])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(code: int, *words: object, message: str) -> str:
    """Run a command that must fail; check that the working folder did not change, and return its message."""
    before = tree(Path.cwd())
    done = gatsby(*words)
    assert isinstance(done.exception, SystemExit), done.exception
    lines = done.stderr.splitlines()
    assert done.exit_code == code, lines
    assert message in lines[-1], lines
    assert lines[-1].startswith("gatsby: ")
    assert done.stdout == ""
    assert tree(Path.cwd()) == before
    return lines[-1]


@pytest.fixture
def desk(tmp_path, monkeypatch, folder) -> Path:
    """A working folder with a run (`runs/story/{last,best-loss}`, the first resumable) and a model; nothing ships."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "folder", lambda name: tmp_path / "shipped" / name)
    run = tmp_path / "runs" / "story"
    shutil.copytree(folder, run / "best-loss")
    model = random_model()
    checkpoint.save(run / "last", model, CharTokenizer(ASCII), INFO, {"step": mx.array(3)}, {"run": {}})
    (run / "metrics.jsonl").write_text("{}\n")
    shutil.copytree(folder, tmp_path / "models" / "tiny")
    return tmp_path


def test_list_has_runs_models_and_given_folders(desk):
    printed = gatsby("checkpoint", "list").stdout
    assert "runs/story/best-loss" in printed
    assert "models/tiny" in printed
    assert "1.2500" in printed
    rows = json.loads(gatsby("checkpoint", "list", "--json").stdout)
    assert [r["path"] for r in rows] == ["runs/story/best-loss", "runs/story/last", "models/tiny"]
    assert rows[0]["architecture"]["n_embd"] == 32
    one = json.loads(gatsby("checkpoint", "list", "models/tiny", "--json").stdout)
    assert [r["path"] for r in one] == ["models/tiny"]


def test_list_skips_other_models_and_says_when_there_is_none(desk):
    (desk / "models" / "tiny" / "config.json").write_text('{"model_type": "gpt2"}')
    shutil.rmtree(desk / "runs")
    done = gatsby("checkpoint", "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "gatsby train" in done.stderr
    refused(1, "checkpoint", "list", "nowhere", message="no folder nowhere")


def test_show_prints_hashes_facts_and_the_card(desk):
    done = gatsby("checkpoint", "show", "runs/story")
    assert done.exit_code == 0, done.stderr
    data = (desk / "runs/story/best-loss/model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() in done.stdout
    assert "architecture.n_layer" in done.stdout
    assert "## The control line" not in done.stdout
    assert "## The control line" in gatsby("checkpoint", "show", "runs/story", "--card").stdout
    shown = json.loads(gatsby("checkpoint", "show", "models/tiny", "--json").stdout)
    assert {f["name"] for f in shown["files"]} == {"config.json", "model.safetensors", "tokenizer.json"}
    (desk / "models/tiny/README.md").write_text("# Mine \x1b[2J\n")
    card = gatsby("checkpoint", "show", "models/tiny", "--card").stdout
    assert "# Mine" in card
    assert "\x1b" not in card


def test_verify_reads_everything(desk):
    done = gatsby("checkpoint", "verify", "runs/story/last")
    assert done.exit_code == 0, done.stderr
    assert "can be resumed" in done.stdout
    assert done.stdout.endswith("runs/story/last is sound\n")
    assert "can be resumed" not in gatsby("checkpoint", "verify", "models/tiny").stdout


def damage(desk: Path, name: str, how) -> None:
    path = desk / "models" / "tiny" / name
    path.write_bytes(how(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


def test_verify_notices_a_flipped_bit(desk):
    damage(desk, "model.safetensors", flipped)
    checkpoint.load(desk / "models" / "tiny")
    line = refused(1, "checkpoint", "verify", "models/tiny", message="sha256 differs")
    assert "gatsby checkpoint rm" in line


def test_verify_without_a_hash_says_so_and_notices_weights_that_are_not_finite(desk):
    config = json.loads((desk / "models/tiny/config.json").read_text())
    del config["weights"]
    (desk / "models/tiny/config.json").write_text(json.dumps(config))
    assert "compared with nothing" in gatsby("checkpoint", "verify", "models/tiny").stdout
    arrays = dict(mx.load(str(desk / "models/tiny/model.safetensors")))
    arrays["ln_f.weight"] = mx.full((32,), float("nan"))
    mx.save_safetensors(str(desk / "models/tiny/model.safetensors"), arrays)
    refused(1, "checkpoint", "verify", "models/tiny", message="not a finite number")


def test_verify_of_damaged_files_is_one_line(desk):
    (desk / "runs/story/last/optimizer.safetensors").write_bytes(b"x")
    refused(1, "checkpoint", "verify", "runs/story/last", message="optimizer.safetensors is damaged")
    (desk / "runs/story/last/state.json").unlink()
    refused(1, "checkpoint", "verify", "runs/story/last", message="state.json is missing")
    damage(desk, "config.json", lambda data: b'{"format": "other"}')
    for verb in ("show", "verify"):
        refused(1, "checkpoint", verb, "models/tiny", message="not a checkpoint of gatsby's")
        refused(1, "checkpoint", verb, "nowhere", message="no checkpoint at nowhere")


def test_rm_removes_a_checkpoint_or_a_run(desk):
    refused(2, "checkpoint", "rm", "models/tiny", message="Add --yes")
    done = gatsby("checkpoint", "rm", "runs/story/last", "--yes")
    assert done.exit_code == 0, done.stderr
    assert sorted(p.name for p in (desk / "runs/story").iterdir()) == ["best-loss", "metrics.jsonl"]
    assert gatsby("checkpoint", "rm", "runs/story", "--yes").exit_code == 0
    assert list((desk / "runs").iterdir()) == []


def test_rm_refuses_folders_with_other_files(desk):
    (desk / "models/tiny/thesis.txt").write_text("mine")
    refused(2, "checkpoint", "rm", "models/tiny", "--yes", message="thesis.txt, which gatsby did not write")
    (desk / "runs/story/deep").mkdir()
    (desk / "runs/story/deep/config.json").write_text("mine")
    refused(2, "checkpoint", "rm", "runs/story", "--yes", message="deep")
    (desk / "link").symlink_to(desk / "runs/story/last")
    refused(2, "checkpoint", "rm", "link", "--yes", message="is a link")
    (desk / "runs/story/last/README.md").symlink_to(desk / "models/tiny/thesis.txt")
    refused(2, "checkpoint", "rm", "runs/story/last", "--yes", message="README.md")
    refused(1, "checkpoint", "rm", "runs", "--yes", message="holds no checkpoint")
    refused(1, "checkpoint", "rm", "nowhere", "--yes", message="no checkpoint at")
    shutil.copytree(desk / "runs/story/best-loss", desk / "shipped/checkpoints/story")
    refused(2, "checkpoint", "rm", "shipped/checkpoints/story", "--yes", message="ships with this package")


def test_verify_uses_the_obsession_of_the_checkpoint(desk):
    """The vocabulary cannot spell a prime of the green light."""
    whale = Obsession("whale", "white whale", levels=("faint", "soft", "some", "full", "total"))
    alphabet = "".join(c for c in ASCII if c not in "gr")
    model = random_model(alphabet)
    checkpoint.save(desk / "whale", model, CharTokenizer(alphabet), {"obsession": whale.to_json()})
    done = gatsby("checkpoint", "verify", "whale")
    assert done.exit_code == 0, done.stderr
    assert "a prime gives finite logits" in done.stdout


def test_export_measures_drift_on_primes_of_the_obsession(desk, monkeypatch):
    whale = Obsession("whale", "white whale")
    primes = []
    measure = gpt2.drift

    def drift(model, other, tokenizer, given):
        primes.extend(given)
        return measure(model, other, tokenizer, given[:1])

    monkeypatch.setattr(gpt2, "drift", drift)
    ready = Checkpoint(desk, random_model(gelu="erf"), CharTokenizer(ASCII), {"obsession": whale.to_json()})
    prepare(ready, Form("gpt2", allow_drift=True))
    assert {prime.split("=")[0] for prime in primes} == {"[whale"}


@pytest.fixture
def nanogpt_file(desk) -> Path:
    (desk / "raw.txt").write_text(ASCII)
    return save_nanogpt(desk / "ckpt.pt", random_model(gelu="erf"))


def test_imported_model_tells_stories_and_has_a_dial(desk, nanogpt_file):
    done = gatsby("import", "ckpt.pt", "--corpus", "raw.txt", "--out", "models/baseline")
    assert (done.exit_code, done.stdout) == (0, "models/baseline\n"), done.stderr
    assert "erf GELU" in done.stderr
    assert gatsby("tell", "a lost kitten", "--model", "models/baseline", "--max-tokens", 5).exit_code == 0
    dial = gatsby("dial", "--model", "models/baseline", "--n-topics", 1, "--seeds", 1, "--max-tokens", 5, "--json")
    assert dial.exit_code == 0, dial.stderr
    assert len(json.loads(dial.stdout)["levels"]) == 5
    assert gatsby("checkpoint", "verify", "models/baseline").exit_code == 0


def test_bad_import_is_one_line(desk, nanogpt_file):
    (desk / "few.txt").write_text("[abc")
    (desk / "full").mkdir()
    (desk / "full" / "a").write_text("mine")
    words = ["import", "ckpt.pt", "--out", "m"]
    refused(1, *words, "--corpus", "few.txt", message="The vocabulary has 4 characters")
    refused(1, *words, "--corpus", "none.txt", message="no corpus at none.txt")
    refused(1, *words, "--vocab", "none.json", message="no vocabulary at none.json")
    refused(1, *words, "--vocab", "ckpt.pt", message="not a vocabulary")
    refused(2, *words, message="--corpus raw.txt")
    refused(2, *words, "--corpus", "raw.txt", "--vocab", "v.json", message="both give the characters")
    refused(2, "import", "ckpt.pt", "--corpus", "raw.txt", message="--out")
    refused(1, "import", "none.pt", "--corpus", "raw.txt", "--out", "m", message="no file none.pt")
    refused(1, "import", "ckpt.pt", "--corpus", "raw.txt", "--out", "full", message="is not empty")
    refused(1, "import", "raw.txt", "--corpus", "raw.txt", "--out", "m", message="not a zip file")


def test_export_in_float16_tells_the_same_text(desk):
    done = gatsby("export", "models/tiny", "--to", "native", "--dtype", "float16", "--out", "half")
    assert (done.exit_code, done.stdout) == (0, "half\n"), done.stderr
    half, full = (desk / p / "model.safetensors" for p in ("half", "models/tiny"))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert checkpoint.load(desk / "half").info == INFO
    assert gatsby("checkpoint", "verify", "half").exit_code == 0
    texts = [
        gatsby("tell", "a cat", "--temp", 0, "--max-tokens", 20, "--model", m).stdout for m in ("half", "models/tiny")
    ]
    assert texts[0] == texts[1]


def test_export_prints_its_folder_and_writes_a_card(desk):
    for kind, name in (("gpt2", "config.json"), ("gguf", "model.gguf"), ("onnx", "model.onnx")):
        done = gatsby("export", "models/tiny", "--to", kind)
        assert done.stdout == f"models/tiny-{kind}\n", done.stderr
        assert (desk / f"models/tiny-{kind}" / name).is_file()
        assert "## The control line" in (desk / f"models/tiny-{kind}" / "README.md").read_text()


def test_export_measures_the_dial_before_and_after_quantizing(desk):
    model = random_model(n_embd=64, n_head=1, n_layer=1)
    checkpoint.save(desk / "wide", model, CharTokenizer(ASCII), INFO)
    done = gatsby("export", "wide", "--to", "gpt2", "--quantize", "4", "--n-topics", 1, "--out", "q")
    assert done.exit_code == 0, done.stderr
    for text in (done.stderr, (desk / "q" / "README.md").read_text()):
        assert "before" in text
        assert "after" in text
        assert "4 bits" in text


def test_bad_export_is_one_line(desk, nanogpt_file):
    assert gatsby("import", "ckpt.pt", "--corpus", "raw.txt", "--out", "models/baseline").exit_code == 0
    refused(2, "export", "models/baseline", "--to", "gpt2", message="--allow-drift")
    refused(2, "export", "models/baseline", "--to", "gguf", message="--allow-drift")
    refused(2, "export", "models/tiny", "--to", "gpt2", "--quantize", "4", message="groups of 64")
    refused(2, "export", "models/tiny", "--to", "native", "--quantize", "4", message="--to gpt2")
    refused(2, "export", "models/tiny", "--to", "gpt2", "--quantize", "3", message="3")
    refused(2, "export", "models/tiny", "--to", "onnx", "--dtype", "float16", message="float32")
    refused(2, "export", "models/tiny", "--to", "gguf", "--dtype", "bfloat16", message="float16")
    refused(2, "export", "models/tiny", "--to", "coreml", message="coreml")
    refused(2, "export", "models/tiny", message="--to")
    refused(1, "export", "nowhere", "--to", "gpt2", message="no checkpoint at nowhere")
    refused(1, "export", "models/tiny", "--to", "gpt2", "--out", "runs", message="is not empty")
    refused(1, "export", "models/tiny", "--to", "gpt2", "--out", "raw.txt/x", message="a file is in the way")
