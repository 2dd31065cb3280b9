"""checkpoint: load gives what was saved, and a damaged folder is refused with a message of one line."""

import json
import resource
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import mlx.core as mx
import platforms
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file

from gatsby_mlx.config import GPTConfig
from gatsby_mlx.errors import CheckpointError, OutputError
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.gpt import GPT
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession
from gatsby_mlx.story.prime import ALPHABET
from gatsby_mlx.tokenizer import CharTokenizer

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = CharTokenizer(ALPHABET)
INFO = {"preset": "pocket", "step": 7, "evaluation": {"loss": 1.25}}


def tiny(**changes) -> GPT:
    mx.random.seed(1)
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 64, "vocab_size": len(TOKENIZER)}
    return GPT(GPTConfig(**{**shape, **changes}))


def same(a, b) -> bool:
    a, b = dict(tree_flatten(a)), dict(tree_flatten(b))
    return a.keys() == b.keys() and all(v.dtype == b[k].dtype and bool((v == b[k]).all()) for k, v in a.items())


@pytest.fixture
def folder(tmp_path) -> Path:
    checkpoint.save(tmp_path / "last", tiny(), TOKENIZER, INFO)
    return tmp_path / "last"


@pytest.mark.parametrize("changes", [{}, {"bias": True, "gelu": "erf", "dropout": 0.1}])
def test_save_then_load_is_the_identity(tmp_path, changes):
    model = tiny(**changes)
    checkpoint.save(tmp_path / "m", model, TOKENIZER, INFO)
    ready = checkpoint.load(tmp_path / "m")
    assert same(ready.model.parameters(), model.parameters())
    assert ready.model.config == model.config and ready.tokenizer == TOKENIZER and ready.info == INFO
    ids = mx.array([TOKENIZER.encode("a lost kitten")])
    assert bool((ready.model(ids) == model.eval()(ids)).all()) and not ready.model.training
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_weights_are_plain_safetensors(folder):
    model = tiny()
    arrays = load_file(folder / "model.safetensors")  # the reader of the safetensors library, not MLX's
    assert arrays.keys() == dict(tree_flatten(model.parameters())).keys()
    assert (arrays["wte.weight"] == model.wte.weight.tolist()).all()


def test_run_folder_is_read_as_its_best_checkpoint(tmp_path):
    for name in ("last", "best-loss"):
        checkpoint.save(tmp_path / name, tiny(), TOKENIZER, {"step": name})
    assert checkpoint.load(tmp_path).info["step"] == "best-loss"
    assert checkpoint.load(tmp_path / "last").info["step"] == "last"
    checkpoint.save(tmp_path / "best-dial", tiny(), TOKENIZER, {"step": "best-dial"})
    assert checkpoint.load(str(tmp_path)).info["step"] == "best-dial"


def refused(path: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    line = caught.value.line()
    assert "\n" not in line and len(line) < 600
    for word in words:
        assert word in line, line


def test_missing_or_empty_folder_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "no checkpoint at", "nowhere")
    refused(tmp_path, "holds no checkpoint")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_incomplete_folder_is_refused(folder, name):
    (folder / name).unlink()
    refused(folder, "incomplete", name)


def test_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    refused(folder, "no config.json")


@pytest.mark.parametrize("kept", [0, 4, 100, 2_000, -1])
def test_truncated_weights_are_refused(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, "model.safetensors is damaged")


def test_forged_header_is_refused(folder):
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    for length in (2**63, 2**40, len(raw)):
        path.write_bytes(struct.pack("<Q", length) + raw[8:])
        refused(folder, "model.safetensors is damaged")
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header["wte.weight"]["data_offsets"][1] += 1 << 40
    forged = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(forged)) + forged + raw[8 + size :])
    refused(folder, "model.safetensors is damaged")


def test_arrays_that_do_not_fit_the_architecture_are_refused(folder):
    arrays = dict(mx.load(str(folder / "model.safetensors")))
    mx.eval(arrays)

    def with_arrays(changed, *words):
        mx.save_safetensors(str(folder / "model.safetensors"), changed)
        refused(folder, "does not fit", *words)

    with_arrays({**arrays, "ln_f.weight": mx.ones((17,))}, "ln_f.weight", "(17,)", "(16,)")
    with_arrays({k: v for k, v in arrays.items() if k != "wpe.weight"}, "wpe.weight", "absent")
    with_arrays({**arrays, "extra": mx.ones(1)}, "extra")
    with_arrays({**arrays, "ln_f.weight": mx.ones((16,), mx.int16)}, "ln_f.weight", "int16")


@platforms.low_precision
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_weights_are_loaded_as_float32(tmp_path, dtype):
    model = tiny(bias=True)
    for name, kept in (("full", mx.float32), ("half", dtype)):
        (tmp_path / name).mkdir()
        checkpoint.write(tmp_path / name, model, TOKENIZER, INFO, kept)
    full, half = (((tmp_path / name / "model.safetensors").stat().st_size) for name in ("full", "half"))
    assert abs(full - half - 2 * model.n_params()) < 100  # the headers differ by a few digits
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["weights"]["dtype"] == str(dtype).removeprefix("mlx.core.")
    assert config["weights"]["sha256"] == sha256((tmp_path / "half" / "model.safetensors").read_bytes()).hexdigest()
    read = checkpoint.load(tmp_path / "half").model
    rounded = {k: v.astype(dtype).astype(mx.float32) for k, v in model.named().items()}
    assert same(read.parameters(), rounded)
    with pytest.raises(CheckpointError):  # a run cannot resume from half precision
        checkpoint.load_arrays(tmp_path / "half" / "model.safetensors", model.named())


def test_weight_beyond_float16_is_refused_before_anything_is_written(tmp_path):
    model = tiny()
    model.ln_f.weight = mx.full((16,), 1e5)
    with pytest.raises(CheckpointError, match=r"ln_f\.weight does not fit into mlx\.core\.float16"):
        checkpoint.write(tmp_path, model, TOKENIZER, INFO, mx.float16)
    assert list(tmp_path.iterdir()) == []


def rewrite(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_config_in_another_format_is_refused(folder):
    rewrite(folder, format="gatsby-mlx/checkpoint/2")
    refused(folder, "gatsby-mlx/checkpoint/2", "this version reads")
    for content in ("{", "[]", "null", "\udcff", ""):
        (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
        refused(folder, "config.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"n_layer": "6"},
        {"n_layer": -1},
        {"n_embd": 16.0},
        {"n_head": 3},
        {"block_size": 10**12},
        {"gelu": "relu"},
        {"heads": 2},
    ],
)
def test_invalid_architecture_is_refused(folder, changes):
    known = json.loads((folder / "config.json").read_text())["architecture"]
    rewrite(folder, architecture={**known, **changes})
    refused(folder, "architecture")


def test_obsession_is_read_from_the_config_and_defaults_to_the_green_light(folder):
    assert checkpoint.load(folder).obsession == GREEN_LIGHT
    whale = Obsession("whale", "white whale", places=("past the reef",), title="The white whale")
    rewrite(folder, obsession=whale.to_json())
    assert checkpoint.load(folder).obsession == whale


@pytest.mark.parametrize("obsession", [7, {"tag": "Two Words"}, {"color": "white"}, {"bands": [[1, 2]]}])
def test_invalid_obsession_is_refused(folder, obsession):
    rewrite(folder, obsession=obsession)
    refused(folder, "config.json has no valid obsession")


def test_vocabulary_that_does_not_fit_is_refused(folder):
    (folder / "tokenizer.json").write_text(CharTokenizer(ALPHABET[36:]).to_json())
    refused(folder, "60 characters", "96")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"ab": 0}}}')
    refused(folder, "tokenizer.json")


@pytest.mark.parametrize("room", [100, 4_000, 12_000])
def test_full_disk_keeps_the_old_checkpoint(folder, room):
    """In another process no file may be larger than `room` bytes, so that writes fail in the middle of an array."""
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    program = f"""
import resource, sys
from pathlib import Path
from gatsby_mlx.errors import OutputError
from gatsby_mlx.model import checkpoint
ready = checkpoint.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))
try:
    checkpoint.save(Path(sys.argv[1]), ready.model, ready.tokenizer, {{"step": 8}}, state={{"padding": "x" * 20_000}})
except OutputError as error:
    print(error.line())
"""
    ran = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("cannot write") and ran.stdout.count("\n") == 1
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["last"]  # nothing half-written is left
    assert checkpoint.load(folder).info == INFO
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_output_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError):
        checkpoint.save(tmp_path / "file", tiny(), TOKENIZER, INFO)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(OutputError):
        checkpoint.save(tmp_path / "file" / "inside", tiny(), TOKENIZER, INFO)
