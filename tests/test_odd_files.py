"""Files as people have them: byte order marks, line ends of other systems, Git LFS pointers, names that are no text."""

import argparse
import collections
import json
import os
import pathlib
import pickle
import sys
from pathlib import Path

import numpy as np
import platforms
import pytest
from click.testing import CliRunner

from gatsby_mlx import cli, files, shipped
from gatsby_mlx.bench import document as bench_document
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.corpus import blend, load, manifest
from gatsby_mlx.errors import CheckpointError, CorpusError, GatsbyError
from gatsby_mlx.evaluation import stories, topics
from gatsby_mlx.hub import nanogpt, torch_pickle, vocabulary
from gatsby_mlx.model import checkpoint
from gatsby_mlx.training.record import read_metrics

PINS = Path(__file__).resolve().parent / "pins"
BOM = b"\xef\xbb\xbf"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 42600000\n"
DOCUMENT = "[green=1] [green=1] [green=1] obsession=faint\ntopic: a cat\nThe cat saw the green light.\n\n"


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A random checkpoint, small enough for a few milliseconds."""
    from gatsby_mlx.model.gpt import GPT
    from gatsby_mlx.story.prime import ALPHABET
    from gatsby_mlx.tokenizer import CharTokenizer

    model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=64, vocab_size=len(ALPHABET)))
    checkpoint.save(tmp_path / "tiny", model, CharTokenizer(ALPHABET), {"preset": "tiny"})
    return tmp_path / "tiny"


def mark(path: Path) -> Path:
    """Put a byte order mark at the start of a file, as Windows editors do."""
    path.write_bytes(BOM + path.read_bytes())
    return path


def parsed(text: str) -> list[str]:
    return [document.story for document in text_of(text).documents]


def text_of(text: str) -> load.Corpus:
    Path("c.txt").write_bytes(text.encode())
    return load.load("c.txt")


def test_a_corpus_is_the_same_with_a_mark_and_with_any_line_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    want = text_of(DOCUMENT * 2)
    for odd in ("\ufeff" + DOCUMENT * 2, (DOCUMENT * 2).replace("\n", "\r\n"), (DOCUMENT * 2).replace("\n", "\r")):
        found = text_of(odd)
        assert [d.text for d in found.documents] == [d.text for d in want.documents]
        assert found.alphabet == want.alphabet


def test_characters_are_numbered_as_nanogpt_numbers_them(tmp_path):
    """nanoGPT reads with Python's universal newlines, so a lone carriage return is a line end as well."""
    text = "a green light\nfar away\n"
    for data in (text.encode(), BOM + text.encode(), text.replace("\n", "\r").encode()):
        (tmp_path / "input.txt").write_bytes(data)
        assert vocabulary.from_corpus(tmp_path / "input.txt") == "".join(sorted(set(text)))
    with (tmp_path / "input.txt").open(encoding="utf-8") as file:  # as its prepare.py does
        assert vocabulary.from_corpus(tmp_path / "input.txt") == "".join(sorted(set(file.read())))


def test_every_file_that_a_person_may_have_edited_is_read_with_a_mark(tmp_path, tiny):
    (tmp_path / "topics.txt").write_text("a cat\na dog\n")
    assert topics.read_topics(mark(tmp_path / "topics.txt")) == ("a cat", "a dog")
    (tmp_path / "mine.toml").write_text("[writers.house]\nshare = 2\n")
    assert blend.parse(str(mark(tmp_path / "mine.toml"))).shares == {"house": 1.0}
    (tmp_path / "vocab.json").write_text('["a", "b"]')
    assert vocabulary.from_file(mark(tmp_path / "vocab.json")) == "ab"
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert read_metrics(mark(tmp_path / "metrics.jsonl")) == [{"step": 1}]
    written = sorted(p for p in (PINS / "corpus").iterdir() if p.is_file())
    for path in written:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert manifest.read(mark(tmp_path / "manifest.json")) == manifest.read(PINS / "corpus" / "manifest.json")
    told = tmp_path / "told.jsonl"
    told.write_bytes((PINS / "told.jsonl").read_bytes())
    assert stories.read(mark(told)) == stories.read(PINS / "told.jsonl")
    for name in ("config.json", "tokenizer.json"):
        mark(tiny / name)
    assert checkpoint.load(tiny).tokenizer.alphabet


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_pointer_in_a_checkpoint_is_named(tiny, name):
    (tiny / name).write_text(POINTER)
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS pointer") as caught:
        checkpoint.load(tiny)
    assert "git lfs pull" in caught.value.line()


def test_a_pointer_in_any_other_file_is_named(tmp_path):
    from gatsby_mlx.evaluation.reference_model import ReferenceModel
    from gatsby_mlx.writers import mlx_lm

    pointer = tmp_path / "raw.txt"
    pointer.write_text(POINTER)
    beside = tmp_path / "m"
    beside.mkdir()
    (beside / "config.json").write_text("{}")
    (beside / "model.safetensors").write_text(POINTER)
    for read in (
        lambda: load.load(pointer),
        lambda: manifest.read(pointer),
        lambda: vocabulary.from_corpus(pointer),
        lambda: vocabulary.from_file(pointer),
        lambda: nanogpt.load(pointer, "ab"),
        lambda: mlx_lm.load(beside, "mine"),
        lambda: ReferenceModel(beside),
    ):
        with pytest.raises(GatsbyError, match="Git LFS pointer") as caught:
            read()
        assert caught.value.line().endswith("git lfs pull")
    files.refuse_pointer(tmp_path / "absent", CorpusError)


@platforms.any_name
def test_a_name_that_is_no_text_is_one_line_for_every_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).mkdir()
    for words in (
        ["corpus", "show", name],
        ["train", "--corpus", "x", "--out", f"runs/{name}"],
        ["tell", "a cat", "--model", name],
        ["tell", name],
        ["export", name, "--to", "gpt2"],
        ["--debug", "write", "--out", name],
    ):
        done = CliRunner().invoke(cli.main, words)
        if words[0] == "--debug":
            assert type(done.exception).__name__ == "UsageError"
            continue
        assert done.exit_code == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert r"caf\xe9' is not UTF-8" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [name]


@platforms.any_name
def test_a_working_folder_whose_name_is_no_text_is_one_line_where_mlx_cannot_write(tmp_path, monkeypatch, tiny):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(cli.main, ["export", str(tiny), "--to", "native", "--out", "copy"])
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.splitlines()[-1].startswith("gatsby: "), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.iterdir())


# Checkpoints. Python's own pickles of protocol 2, which torch.save uses, and of the newest one.


class Config:
    """A class of settings, as scripts define one beside their model."""

    def __init__(self, **settings):
        self.__dict__.update(settings)


Config.__module__ = "model"
sys.modules.setdefault("model", type(sys)("model"))
sys.modules["model"].Config = Config  # pyright: ignore[reportAttributeAccessIssue]
PLAIN = {
    "numpy float64": np.float64(1.5),
    "numpy float32": np.float32(1e-3),
    "numpy int": np.int64(7),
    "numpy bool": np.bool_(True),
    "numpy array": np.arange(3),
    "numpy state": np.random.RandomState(1).get_state(),
    "path": pathlib.PurePosixPath("out"),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "bytes": b"bytes",
    "namespace": argparse.Namespace(lr=1.0, out=pathlib.PurePosixPath("x")),
    "settings": Config(lr=1.0),
    "counts": collections.defaultdict(None, {"a": 1}),
    "nested": {"deep": [{"set": {3}}, (np.float32(2),)]},
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_values_beside_the_weights_are_described_and_not_constructed(kind, protocol):
    content = torch_pickle.loads(pickle.dumps({"it": PLAIN[kind], "after": 5}, protocol), "it")
    assert content["after"] == 5
    if kind.startswith("numpy") and kind not in ("numpy array", "numpy state"):
        assert content["it"] == PLAIN[kind].item()
        assert type(content["it"]) is type(PLAIN[kind].item())
    assert not isinstance(content["it"], pathlib.PurePath | set | argparse.Namespace | Config | np.ndarray)


def test_devices_and_types_of_torch_are_described():
    device = b"ctorch\ndevice\n(X\x04\x00\x00\x00cudaK\x00tR"
    content = torch_pickle.loads(
        b"\x80\x02}(X\x01\x00\x00\x00d" + device + b"X\x01\x00\x00\x00tctorch\nbfloat16\nu.", "it"
    )
    assert content["d"] == torch_pickle.Described("torch device", ("cuda", 0))
    assert content["t"] == torch_pickle.Name("torch bfloat16")


@pytest.mark.parametrize("hostile", ["os system", "subprocess Popen", "posix system", "builtins eval", "shutil rmtree"])
def test_names_that_no_checkpoint_needs_are_refused_still(hostile):
    module, name = hostile.split()
    for tail in (b"(X\x02\x00\x00\x00idtR.", b")\x81.", b"."):
        with pytest.raises(CheckpointError, match=r"which tensors do not need|uses|calls"):
            torch_pickle.loads(b"\x80\x02c%b\n%b\n%b" % (module.encode(), name.encode(), tail), "it")


@pytest.mark.parametrize(
    "prefix", ["", "_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.", "module.module."]
)
def test_wrapped_models_have_the_same_weights(prefix):
    tensor = torch_pickle.Tensor(torch_pickle.Storage("0", "<f4", 4), 0, (4,), (1,))
    found = nanogpt.weights_by_name({f"{prefix}transformer.ln_f.weight": tensor}, Path("it"))
    assert found == {"ln_f.weight": tensor}


def test_a_namespace_as_the_models_arguments_is_read(tmp_path):
    sys.path.insert(0, str(Path(__file__).resolve().parent / "hub"))
    from hub_models import ASCII, nanogpt_args, nanogpt_names, random_model
    from torch_writer import Raw, scalar
    from torch_writer import checkpoint as write_checkpoint

    model = random_model(gelu="erf")
    arguments = nanogpt_args(model)

    def build(writer):
        items = b"".join(scalar(k) + scalar(v) for k, v in arguments.items())
        namespace = Raw(b"cargparse\nNamespace\n)R}(" + items + b"ub")
        return {"model": writer.state(nanogpt_names(model)), "model_args": namespace, "iter_num": 5}

    read = nanogpt.load(write_checkpoint(tmp_path / "ckpt.pt", build), ASCII)
    assert read.model.config == model.config
    assert read.info["step"] == 5


# The machine around the files.


@pytest.mark.parametrize("backend", ["no-such-backend", "module://matplotlib_inline.backend_inline", "TkAgg"])
def test_a_plot_needs_no_backend(tmp_path, backend):
    import subprocess

    program = (
        "import os, sys; from gatsby_mlx.evaluation import plots\n"
        "plots.plot('p', lambda axes, c: axes.plot([1, 2]), 'a line', 'p.svg')\n"
        "plots.plot('p', lambda axes, c: axes.plot([1, 2]), 'a line', 'p.png')\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r} and 'matplotlib.pyplot' not in sys.modules"
    )
    env = {
        **os.environ,
        "MPLBACKEND": backend,
        "HOME": os.devnull,
        "MPLCONFIGDIR": "",
        "XDG_CONFIG_HOME": "",
        "XDG_CACHE_HOME": "",
    }
    env["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "p.svg").read_text("utf-8").startswith("<?xml")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_user_without_a_home_is_told_nothing_of_it(tmp_path, monkeypatch):
    import pwd

    from gatsby_mlx import api
    from gatsby_mlx.writers import local_models
    from gatsby_mlx.writers.specs import parse_spec

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.chdir(tmp_path)
    assert api.find_model("~/model") == Path("~/model")
    assert next(str(root) for root in local_models._lm_studio_roots()).startswith("~")
    assert parse_spec("~/writer").folder == Path("~/writer")  # pyright: ignore[reportAttributeAccessIssue]


def test_a_document_of_a_benchmark_with_a_mark_is_read(tmp_path):
    path = tmp_path / "b.json"
    path.write_bytes(BOM + json.dumps({"schema": bench_document.SCHEMA}).encode())
    assert bench_document.read(path)["schema"] == bench_document.SCHEMA
    assert shipped.corpus()
