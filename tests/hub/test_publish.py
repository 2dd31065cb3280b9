"""publish: the hub then has what pull, mlx-lm and a reader of JSON lines need, and nothing else."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hub_models import ASCII, INFO, random_model
from hub_server import TOKEN

from gatsby_mlx.corpus import manifest
from gatsby_mlx.corpus.load import load as load_corpus
from gatsby_mlx.errors import UsageError
from gatsby_mlx.hub import publish
from gatsby_mlx.hub.card import model_card
from gatsby_mlx.hub.remote import Repo
from gatsby_mlx.model import checkpoint
from gatsby_mlx.story.document import Document, render
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.story.prime import Prime, build
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


def test_second_publish_adds_a_commit_and_keeps_the_access(hub, folder):
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
    assert sorted(r["prime"] + r["story"] + "\n\n" for split in rows.values() for r in split) == sorted(
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


def test_card_has_front_matter_and_the_exact_control_line(folder, tmp_path):
    card = (gathered(folder, tmp_path / "a") / "README.md").read_text()
    front = card.split("---\n")[1]
    for line in ("license: cc0-1.0", "library_name: mlx", "pipeline_tag: text-generation", "language: en"):
        assert f"{line}\n" in front
    assert build("a dog and a balloon", 5) in card
    assert "c0ffee" in card
    assert "1.2500" in card
    assert "gatsby pull someone/model" in card
    assert "## Limits" in card


WHALE = Obsession("whale", "white whale", levels=("a", "b", "c", "d", "e"), title="The white whale")


def test_model_card_names_the_obsession_of_the_checkpoint(tmp_path):
    path = tmp_path / "whale"
    checkpoint.save(path, random_model(), CharTokenizer(ASCII), {**INFO, "obsession": WHALE.to_json()})
    dial = {"levels": [{"mentions": float(k)} for k in range(1, 6)]}
    (path / "evaluation.json").write_text(json.dumps({"dial": dial}))
    card = (gathered(path, tmp_path / "there") / "README.md").read_text()
    assert "cannot stop reaching for the white whale" in card
    assert build("a dog and a balloon", 5, obsession=WHALE) in card
    assert "(a, b, c, d, e)" in card
    assert "mentions of the white whale in a story, level 1 to 5: 1.00, 2.00, 3.00, 4.00, 5.00" in card
    assert "green" not in card
    assert "Jay Gatsby" not in card


def test_card_of_the_default_names_the_green_light_and_installs_from_a_checkout(folder, tmp_path):
    for repo in ("someone/model", None):
        card = model_card(checkpoint.load(folder), "native", "model", repo=repo)
        assert "cannot stop reaching for Jay Gatsby's green light" in card
        assert "faint, soft, strong, heavy, total" in card
        assert "Install gatsby-mlx from a checkout (`pip install .`), then:" in card
        assert "pip install gatsby-mlx" not in card
    published = model_card(checkpoint.load(folder), "native", "model", repo="someone/model")
    assert 'gatsby pull someone/model\ngatsby tell "a dog and a balloon" --level 5 --model models/model\n' in published


def test_corpus_card_names_the_obsession_of_the_corpus(tmp_path):
    document = Document(Prime("a ship", 2, None, WHALE), "A white whale and a white whale.", "ishmael", None)
    entry = {"offset": 0, "length": len(document.text), "level": 2, "topic": "a ship", "writer": "ishmael"}
    entry["sha256"] = hashlib.sha256(document.story.encode()).hexdigest()
    content = {"schema": manifest.SCHEMA, "obsession": WHALE.to_json(), "stories": [entry]}
    (tmp_path / "manifest.json").write_text(manifest.dump(content))
    (tmp_path / "raw.txt").write_text(render([document]))
    into = tmp_path / "there"
    into.mkdir()
    publish.gather(tmp_path, Repo("someone/whales", "dataset"), into, "mit")
    card = (into / "README.md").read_text()
    assert "an obsession with the white whale" in card
    assert build("a dog and a balloon", 5, obsession=WHALE) in card
    assert "Install gatsby-mlx from a checkout (`pip install .`), then:" in card
    assert "green" not in card
    (line,) = (into / "data" / "train.jsonl").read_text().splitlines()
    assert json.loads(line)["prime"] == document.header
    assert load_corpus(into).documents == (document,)


def test_existing_card_is_kept_and_evaluation_is_included(folder, tmp_path):
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    (own / "README.md").write_text("# Mine\n")
    (own / "evaluation.json").write_text("{}")
    there = gathered(own, tmp_path / "there")
    assert (there / "README.md").read_text() == "# Mine\n"
    assert (there / "evaluation.json").read_text() == "{}"


def test_model_with_erf_gelu_has_no_gpt2_form_and_says_so(tmp_path):
    checkpoint.save(tmp_path / "erf", random_model(gelu="erf"), CharTokenizer(ASCII), {})
    there = gathered(tmp_path / "erf", tmp_path / "there")
    assert names(there) == NATIVE
    assert "no GPT-2 form" in (there / "README.md").read_text()


def test_corpus_too_small_to_split_is_all_train(stories, tmp_path):
    corpus = load_corpus(stories)
    few = corpus.documents[:1]
    (tmp_path / "raw.txt").write_text(few[0].text)
    assert publish.splits(load_corpus(tmp_path)) == {"train": load_corpus(tmp_path).documents}


def test_bad_publish_is_one_line(hub, folder, stories):
    (hub.home / "empty").mkdir()
    hub.refused(
        ("publish", folder, "someone/new", "Add --yes"),
        ("publish", folder, "someone/new@v1", "--yes", "revision cannot be published to"),
        ("publish", folder, "new", "--yes", "OWNER/NAME"),
        code=2,
        token=TOKEN,
    )
    assert not [r for r in hub.asked() if r["method"] == "POST"], "nothing is created without --yes"
    hub.refused(
        ("publish", "none", "someone/new", "--yes", "no checkpoint at none"),
        ("publish", "empty", "someone/new", "--yes", "holds no checkpoint"),
        ("publish", folder, "closed/new", "--yes", "403"),
        token=TOKEN,
    )
    hub.refused(("publish", folder, "someone/new", "--yes", "hf auth login"), ("publish", stories, "a/b", "--yes", ""))
    assert not list((hub.root / "models").glob("*/*")) if (hub.root / "models").exists() else True


@pytest.mark.parametrize("text", ["datasets/someone/x", "someone/x"])
def test_folder_decides_the_kind(hub, stories, text):
    done = hub.run("publish", stories, text, "--yes", token=TOKEN)
    assert done.returncode == 0, done.stderr
    assert head(hub, "someone/x", "datasets").is_dir()


def own_corpus(folder: Path, **manifest_keys) -> Path:
    """Write a corpus that a person brought: two stories, the second one held out by its source."""
    documents = [
        Document(Prime("a ship", k, None, WHALE), f"A white whale, {k}.", split=s)
        for k, s in ((1, "train"), (2, "test"))
    ]
    entries, offset = [], 0
    for d in documents:
        entry = {"offset": offset, "length": len(d.text), "level": d.level, "topic": d.topic, "split": d.split}
        entries.append(entry | {"sha256": hashlib.sha256(d.story.encode()).hexdigest()})
        offset += len(d.text)
    content = {
        "schema": manifest.SCHEMA,
        "imported": {},
        "obsession": WHALE.to_json(),
        **manifest_keys,
        "stories": entries,
    }
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(manifest.dump(content))
    (folder / "raw.txt").write_text(render(documents))
    return folder


def card_of(folder: Path, into: Path, *terms: str | None) -> str:
    """Return the card that publishing would upload."""
    into.mkdir()
    publish.gather(folder, Repo("someone/it", publish.kind_of(folder)), into, *terms)
    return (into / "README.md").read_text()


def test_license_and_language_of_a_brought_corpus_are_asked_for(tmp_path):
    folder = own_corpus(tmp_path / "own")
    with pytest.raises(UsageError, match="only you know its license and language") as caught:
        card_of(folder, tmp_path / "none")
    assert "--license cc-by-4.0 --language en" in caught.value.hint
    card = card_of(folder, tmp_path / "both", "cc-by-4.0", "de")
    assert "license: cc-by-4.0" in card
    assert '- "de"' in card
    own_corpus(folder, language="de")
    assert '- "de"' in card_of(folder, tmp_path / "known", "cc-by-4.0")
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# Mine\n")
    card = card_of(folder, tmp_path / "readme")
    assert card.startswith("---\nlanguage: de\nlicense: cc0-1.0\n---\n# Mine")


def test_splits_of_a_corpus_that_came_split_are_published_as_they_are(tmp_path):
    card_of(own_corpus(tmp_path / "own"), tmp_path / "there", "mit", "en")
    rows = {p.stem: len(p.read_text().splitlines()) for p in (tmp_path / "there" / "data").iterdir()}
    assert rows == {"train": 1, "test": 1}


@pytest.mark.parametrize("corpus", [{"imported": True}, {"imported": True, "prose": True}])
def test_license_and_language_of_a_model_of_a_brought_text_are_asked_for(tmp_path, corpus):
    model = random_model(ASCII)
    info = {"corpus": {"sha256": "0" * 64, "documents": 2, **corpus}, "obsession": None}
    checkpoint.save(tmp_path / "own", model, CharTokenizer(ASCII), info)
    checkpoint.save(tmp_path / "tuned", model, CharTokenizer(ASCII), {"start": {"weights": "0", **info}})
    for name in ("own", "tuned"):
        with pytest.raises(UsageError, match="only you know"):
            card_of(tmp_path / name, tmp_path / f"{name}-none")
        assert "license: gpl-3.0" in card_of(tmp_path / name, tmp_path / f"{name}-given", "gpl-3.0", "en")
    unpublished = model_card(checkpoint.load(tmp_path / "own"), "native", "own")
    assert "license:" not in unpublished
    assert "language:" not in unpublished
    assert ("gatsby tell --prompt" in unpublished) == ("prose" in corpus)
