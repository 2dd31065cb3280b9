"""shelf and the commands around it: list, show, verify, rm, import and export, and what their bad input gets."""

import hashlib
import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from click.testing import CliRunner, Result
from hub_models import ASCII, INFO, random_model, save_nanogpt

from gatsby_mlx import cli, shipped
from gatsby_mlx.model import checkpoint
from gatsby_mlx.tokenizer import CharTokenizer


def gatsby(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [str(word) for word in words])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(code: int, *words: object, told: str) -> str:
    """Run a command that must fail; return its line, having checked that the working folder is as it was."""
    before = tree(Path.cwd())
    done = gatsby(*words)
    assert isinstance(done.exception, SystemExit), done.exception
    lines = done.stderr.splitlines()
    assert done.exit_code == code, lines
    assert told in lines[-1], lines
    assert lines[-1].startswith("gatsby: ")
    assert done.stdout == ""
    assert tree(Path.cwd()) == before
    return lines[-1]


@pytest.fixture
def place(tmp_path, monkeypatch, folder) -> Path:
    """A working folder with a run (`runs/story/{last,best-loss}`, the first resumable) and a model; nothing shipped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "folder", lambda name: tmp_path / "shipped" / name)
    run = tmp_path / "runs" / "story"
    shutil.copytree(folder, run / "best-loss")
    model = random_model()
    checkpoint.save(run / "last", model, CharTokenizer(ASCII), INFO, {"step": mx.array(3)}, {"run": {}})
    (run / "metrics.jsonl").write_text("{}\n")
    shutil.copytree(folder, tmp_path / "models" / "tiny")
    return tmp_path


def test_list_finds_runs_models_and_those_named(place):
    told = gatsby("checkpoint", "list").stdout
    assert "runs/story/best-loss" in told
    assert "models/tiny" in told
    assert "1.2500" in told
    rows = json.loads(gatsby("checkpoint", "list", "--json").stdout)
    assert [r["path"] for r in rows] == ["runs/story/best-loss", "runs/story/last", "models/tiny"]
    assert rows[0]["architecture"]["n_embd"] == 32
    one = json.loads(gatsby("checkpoint", "list", "models/tiny", "--json").stdout)
    assert [r["path"] for r in one] == ["models/tiny"]


def test_list_passes_over_what_is_not_ours_and_says_when_there_is_none(place):
    (place / "models" / "tiny" / "config.json").write_text('{"model_type": "gpt2"}')
    shutil.rmtree(place / "runs")
    done = gatsby("checkpoint", "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "gatsby train" in done.stderr
    refused(1, "checkpoint", "list", "nowhere", told="no folder nowhere")


def test_show_tells_hashes_facts_and_the_card(place):
    done = gatsby("checkpoint", "show", "runs/story")
    assert done.exit_code == 0, done.stderr
    data = (place / "runs/story/best-loss/model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() in done.stdout
    assert "architecture.n_layer" in done.stdout
    assert "## The control line" not in done.stdout
    assert "## The control line" in gatsby("checkpoint", "show", "runs/story", "--card").stdout
    told = json.loads(gatsby("checkpoint", "show", "models/tiny", "--json").stdout)
    assert {f["name"] for f in told["files"]} == {"config.json", "model.safetensors", "tokenizer.json"}
    (place / "models/tiny/README.md").write_text("# Mine \x1b[2J\n")
    card = gatsby("checkpoint", "show", "models/tiny", "--card").stdout
    assert "# Mine" in card
    assert "\x1b" not in card


def test_verify_reads_everything(place):
    done = gatsby("checkpoint", "verify", "runs/story/last")
    assert done.exit_code == 0, done.stderr
    assert "can be resumed" in done.stdout
    assert done.stdout.endswith("runs/story/last is sound\n")
    assert "can be resumed" not in gatsby("checkpoint", "verify", "models/tiny").stdout


def damage(place: Path, name: str, how) -> None:
    path = place / "models" / "tiny" / name
    path.write_bytes(how(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


def test_verify_finds_a_bit_that_loading_cannot(place):
    damage(place, "model.safetensors", flipped)
    checkpoint.load(place / "models" / "tiny")
    line = refused(1, "checkpoint", "verify", "models/tiny", told="sha256 differs")
    assert "gatsby checkpoint rm" in line


def test_verify_without_a_hash_says_so_and_finds_what_is_not_finite(place):
    config = json.loads((place / "models/tiny/config.json").read_text())
    del config["weights"]
    (place / "models/tiny/config.json").write_text(json.dumps(config))
    assert "compared with nothing" in gatsby("checkpoint", "verify", "models/tiny").stdout
    arrays = dict(mx.load(str(place / "models/tiny/model.safetensors")))
    arrays["ln_f.weight"] = mx.full((32,), float("nan"))
    mx.save_safetensors(str(place / "models/tiny/model.safetensors"), arrays)
    refused(1, "checkpoint", "verify", "models/tiny", told="not a finite number")


def test_verify_of_what_is_torn_is_one_line(place):
    (place / "runs/story/last/optimizer.safetensors").write_bytes(b"x")
    refused(1, "checkpoint", "verify", "runs/story/last", told="optimizer.safetensors is damaged")
    (place / "runs/story/last/state.json").unlink()
    refused(1, "checkpoint", "verify", "runs/story/last", told="state.json is missing")
    damage(place, "config.json", lambda data: b'{"format": "other"}')
    for verb in ("show", "verify"):
        refused(1, "checkpoint", verb, "models/tiny", told="not one of ours")
        refused(1, "checkpoint", verb, "nowhere", told="no checkpoint at nowhere")


def test_rm_takes_away_a_checkpoint_or_a_whole_run(place):
    refused(2, "checkpoint", "rm", "models/tiny", told="Add --yes")
    done = gatsby("checkpoint", "rm", "runs/story/last", "--yes")
    assert done.exit_code == 0, done.stderr
    assert sorted(p.name for p in (place / "runs/story").iterdir()) == ["best-loss", "metrics.jsonl"]
    assert gatsby("checkpoint", "rm", "runs/story", "--yes").exit_code == 0
    assert list((place / "runs").iterdir()) == []


def test_rm_leaves_alone_what_is_not_ours(place):
    (place / "models/tiny/thesis.txt").write_text("mine")
    refused(2, "checkpoint", "rm", "models/tiny", "--yes", told="thesis.txt, which is not ours")
    (place / "runs/story/deep").mkdir()
    (place / "runs/story/deep/config.json").write_text("mine")
    refused(2, "checkpoint", "rm", "runs/story", "--yes", told="deep")
    (place / "link").symlink_to(place / "runs/story/last")
    refused(2, "checkpoint", "rm", "link", "--yes", told="is a link")
    (place / "runs/story/last/README.md").symlink_to(place / "models/tiny/thesis.txt")
    refused(2, "checkpoint", "rm", "runs/story/last", "--yes", told="README.md")
    refused(1, "checkpoint", "rm", "runs", "--yes", told="holds no checkpoint")
    refused(1, "checkpoint", "rm", "nowhere", "--yes", told="no checkpoint at")
    shutil.copytree(place / "runs/story/best-loss", place / "shipped/checkpoints/story")
    refused(2, "checkpoint", "rm", "shipped/checkpoints/story", "--yes", told="ships with this package")


@pytest.fixture
def seed(place) -> Path:
    (place / "raw.txt").write_text(ASCII)
    return save_nanogpt(place / "ckpt.pt", random_model(gelu="erf"))


def test_import_makes_a_model_that_tells_and_whose_dial_is_read(place, seed):
    done = gatsby("import", "ckpt.pt", "--corpus", "raw.txt", "--out", "models/seed")
    assert (done.exit_code, done.stdout) == (0, "models/seed\n"), done.stderr
    assert "erf GELU" in done.stderr
    assert gatsby("tell", "a lost kitten", "--model", "models/seed", "--max-tokens", 5).exit_code == 0
    dial = gatsby("dial", "--model", "models/seed", "--n-topics", 1, "--seeds", 1, "--max-tokens", 5, "--json")
    assert dial.exit_code == 0, dial.stderr
    assert len(json.loads(dial.stdout)["levels"]) == 5
    assert gatsby("checkpoint", "verify", "models/seed").exit_code == 0


def test_import_that_cannot_be_is_one_line(place, seed):
    (place / "few.txt").write_text("[abc")
    (place / "full").mkdir()
    (place / "full" / "a").write_text("mine")
    words = ["import", "ckpt.pt", "--out", "m"]
    refused(1, *words, "--corpus", "few.txt", told="The vocabulary has 4 characters")
    refused(1, *words, "--corpus", "none.txt", told="no corpus at none.txt")
    refused(1, *words, "--vocab", "none.json", told="no vocabulary at none.json")
    refused(1, *words, "--vocab", "ckpt.pt", told="no vocabulary")
    refused(2, *words, told="--corpus raw.txt")
    refused(2, *words, "--corpus", "raw.txt", "--vocab", "v.json", told="Give one of the two")
    refused(2, "import", "ckpt.pt", "--corpus", "raw.txt", told="--out")
    refused(1, "import", "none.pt", "--corpus", "raw.txt", "--out", "m", told="no file none.pt")
    refused(1, "import", "ckpt.pt", "--corpus", "raw.txt", "--out", "full", told="something in it")
    refused(1, "import", "raw.txt", "--corpus", "raw.txt", "--out", "m", told="not a zip file")


def test_export_native_in_halves_tells_the_same_text(place):
    done = gatsby("export", "models/tiny", "--to", "native", "--dtype", "float16", "--out", "half")
    assert (done.exit_code, done.stdout) == (0, "half\n"), done.stderr
    half, full = (place / p / "model.safetensors" for p in ("half", "models/tiny"))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert checkpoint.load(place / "half").info == INFO
    assert gatsby("checkpoint", "verify", "half").exit_code == 0
    told = [
        gatsby("tell", "a cat", "--temp", 0, "--max-tokens", 20, "--model", m).stdout for m in ("half", "models/tiny")
    ]
    assert told[0] == told[1]


def test_export_names_its_folder_and_writes_a_card(place):
    for kind, name in (("gpt2", "config.json"), ("gguf", "model.gguf"), ("onnx", "model.onnx")):
        done = gatsby("export", "models/tiny", "--to", kind)
        assert done.stdout == f"models/tiny-{kind}\n", done.stderr
        assert (place / f"models/tiny-{kind}" / name).is_file()
        assert "## The control line" in (place / f"models/tiny-{kind}" / "README.md").read_text()


def test_export_reads_the_dial_before_and_after_quantising(place):
    model = random_model(n_embd=64, n_head=1, n_layer=1)
    checkpoint.save(place / "wide", model, CharTokenizer(ASCII), INFO)
    done = gatsby("export", "wide", "--to", "gpt2", "--quantize", "4", "--n-topics", 1, "--out", "q")
    assert done.exit_code == 0, done.stderr
    for told in (done.stderr, (place / "q" / "README.md").read_text()):
        assert "before" in told
        assert "after" in told
        assert "4 bits" in told


def test_export_that_cannot_be_is_one_line(place, seed):
    assert gatsby("import", "ckpt.pt", "--corpus", "raw.txt", "--out", "models/seed").exit_code == 0
    refused(2, "export", "models/seed", "--to", "gpt2", told="--allow-drift")
    refused(2, "export", "models/seed", "--to", "gguf", told="--allow-drift")
    refused(2, "export", "models/tiny", "--to", "gpt2", "--quantize", "4", told="groups of 64")
    refused(2, "export", "models/tiny", "--to", "native", "--quantize", "4", told="--to gpt2")
    refused(2, "export", "models/tiny", "--to", "gpt2", "--quantize", "3", told="3")
    refused(2, "export", "models/tiny", "--to", "onnx", "--dtype", "float16", told="float32")
    refused(2, "export", "models/tiny", "--to", "gguf", "--dtype", "bfloat16", told="float16")
    refused(2, "export", "models/tiny", "--to", "coreml", told="coreml")
    refused(2, "export", "models/tiny", told="--to")
    refused(1, "export", "nowhere", "--to", "gpt2", told="no checkpoint at nowhere")
    refused(1, "export", "models/tiny", "--to", "gpt2", "--out", "runs", told="something in it")
    refused(1, "export", "models/tiny", "--to", "gpt2", "--out", "raw.txt/x", told="a file is in the way")
