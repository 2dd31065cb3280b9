"""publish: what lies on the hub afterwards is what pull, mlx-lm and a reader of JSON lines need, and no more."""

import json
import shutil
from pathlib import Path

import pytest
from hub_models import ASCII, INFO, random_model
from hub_server import TOKEN

from gatsby_mlx.corpus.load import load as load_corpus
from gatsby_mlx.hub import publish
from gatsby_mlx.hub.remote import Repo
from gatsby_mlx.model import checkpoint
from gatsby_mlx.prime import build
from gatsby_mlx.tokenizer import CharTokenizer


def head(hub, repo: str, kind: str = "models") -> Path:
    """Return the folder of a repository's main branch."""
    folder = hub.root / kind / repo
    return folder / json.loads((folder / "refs.json").read_text())["main"]


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {".gitattributes"}


NATIVE = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
GPT2 = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_model_is_published_private_with_its_gpt2_form_and_comes_back(hub, folder):
    run = hub.home / "run"
    shutil.copytree(folder, run / "last")
    shutil.copytree(folder, run / "best-loss")
    for name in ("optimizer.safetensors", "state.json", "notes.txt"):
        (run / "best-loss" / name).write_text("mine")
    done = hub.run("publish", "run", "someone/green-light", "--yes", token=TOKEN)
    assert done.returncode == 0, done.stderr
    there = head(hub, "someone/green-light")
    assert done.stdout == f"someone/green-light@{there.name}\n"
    assert names(there) == NATIVE | {f"gpt2/{name}" for name in GPT2}
    assert json.loads((there.parent / "settings.json").read_text())["private"] is True
    assert (there / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    back = hub.run("pull", "someone/green-light", token=TOKEN)
    assert back.returncode == 0, back.stderr
    assert checkpoint.load(hub.home / "models" / "green-light").info == INFO


def test_second_publish_adds_a_commit_and_keeps_who_may_see(hub, folder):
    words = ("publish", folder, "someone/open")
    first, second = hub.run_all([(*words, "--public", "--yes"), (*words, "--yes")], token=TOKEN)
    assert first.returncode == second.returncode == 0, (first, second)
    assert first.stdout != second.stdout
    assert json.loads((head(hub, "someone/open").parent / "settings.json").read_text())["private"] is False


def test_corpus_is_published_as_a_dataset_split_by_topic(hub, stories):
    done = hub.run("publish", stories, "someone/stories", "--yes", token=TOKEN)
    assert done.returncode == 0, done.stderr
    there = head(hub, "someone/stories", "datasets")
    assert done.stdout == f"datasets/someone/stories@{there.name}\n"
    assert names(there) == {"README.md", "raw.txt", "manifest.json", "data/train.jsonl", "data/validation.jsonl"}
    rows = {
        name: [json.loads(line) for line in (there / "data" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "validation")
    }
    documents = load_corpus(stories).documents
    assert sorted(r["prime"] + r["story"] + "\n\n" for side in rows.values() for r in side) == sorted(
        d.text for d in documents
    )
    assert not {r["topic"] for r in rows["train"]} & {r["topic"] for r in rows["validation"]}
    assert {r["writer"] for r in rows["train"]} == {"house"}
    card = (there / "README.md").read_text()
    assert 'path: "data/train.jsonl"' in card
    assert load_corpus(stories).sha256 in card
    back = hub.run("pull", "datasets/someone/stories", token=TOKEN)
    assert back.returncode == 0, back.stderr
    assert load_corpus(hub.home / "corpora" / "stories").sha256 == load_corpus(stories).sha256


def gathered(folder: Path, into: Path) -> Path:
    into.mkdir()
    publish.gather(folder, Repo("someone/model"), into, "cc0-1.0")
    return into


def test_card_has_what_the_hub_reads_and_the_exact_control_line(folder, tmp_path):
    card = (gathered(folder, tmp_path / "a") / "README.md").read_text()
    front = card.split("---\n")[1]
    for line in ("license: cc0-1.0", "library_name: mlx", "pipeline_tag: text-generation", "language: en"):
        assert f"{line}\n" in front
    assert build("a dog and a balloon", 5) in card
    assert "c0ffee" in card
    assert "1.2500" in card
    assert "gatsby pull someone/model" in card
    assert "## Limits" in card


def test_card_of_the_folder_s_own_is_kept_and_evaluation_goes_along(folder, tmp_path):
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    (own / "README.md").write_text("# Mine\n")
    (own / "evaluation.json").write_text("{}")
    there = gathered(own, tmp_path / "there")
    assert (there / "README.md").read_text() == "# Mine\n"
    assert (there / "evaluation.json").read_text() == "{}"


def test_model_with_the_erf_form_has_no_gpt2_form_and_says_so(tmp_path):
    checkpoint.save(tmp_path / "erf", random_model(gelu="erf"), CharTokenizer(ASCII), {})
    there = gathered(tmp_path / "erf", tmp_path / "there")
    assert names(there) == NATIVE
    assert "no GPT-2 form" in (there / "README.md").read_text()


def test_corpus_too_small_to_split_has_one_side(stories, tmp_path):
    corpus = load_corpus(stories)
    few = corpus.documents[:1]
    (tmp_path / "raw.txt").write_text(few[0].text)
    assert publish.splits(load_corpus(tmp_path)) == {"train": load_corpus(tmp_path).documents}


def test_what_cannot_be_published_is_one_line(hub, folder, stories):
    (hub.home / "empty").mkdir()
    hub.refused(
        ("publish", folder, "someone/new", "Add --yes"),
        ("publish", folder, "someone/new@v1", "--yes", "not at a revision"),
        ("publish", folder, "new", "--yes", "OWNER/NAME"),
        code=2,
        token=TOKEN,
    )
    assert not [r for r in hub.asked() if r["method"] == "POST"], "nothing is created before it is asked"
    hub.refused(
        ("publish", "none", "someone/new", "--yes", "no checkpoint at none"),
        ("publish", "empty", "someone/new", "--yes", "holds no checkpoint"),
        ("publish", folder, "closed/new", "--yes", "403"),
        token=TOKEN,
    )
    hub.refused(("publish", folder, "someone/new", "--yes", "hf auth login"), ("publish", stories, "a/b", "--yes", ""))
    assert not list((hub.root / "models").glob("*/*")) if (hub.root / "models").exists() else True


@pytest.mark.parametrize("text", ["datasets/someone/x", "someone/x"])
def test_kind_is_told_by_the_folder(hub, stories, text):
    done = hub.run("publish", stories, text, "--yes", token=TOKEN)
    assert done.returncode == 0, done.stderr
    assert head(hub, "someone/x", "datasets").is_dir()
