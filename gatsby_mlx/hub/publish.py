"""Publish a model or a corpus on the hub: put its files into a folder, then upload that folder in one commit.

A model repository has the native checkpoint (config.json, model.safetensors, tokenizer.json, card), and in `gpt2/` the
same model as a GPT-2, if that is exact. A dataset repository has raw.txt, manifest.json, and `data/*.jsonl`, split by
topic. A run's state (optimizer.safetensors and state.json) is never uploaded.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gatsby_mlx.corpus.load import Corpus
from gatsby_mlx.corpus.load import load as load_corpus
from gatsby_mlx.errors import CheckpointError, TrainingError, UsageError
from gatsby_mlx.hub import card, gpt2
from gatsby_mlx.hub.remote import Repo, hub_errors, quiet
from gatsby_mlx.model import checkpoint
from gatsby_mlx.story.document import Document
from gatsby_mlx.training.sequences import split_by_topic

SPLIT = (0.1, 1925)  # the validation share and the seed, the same as in training


@dataclass(frozen=True)
class Existing:
    """A repository that the hub already has; `private` says whether only its owner can see it."""

    private: bool


@dataclass(frozen=True)
class Terms:
    """The license and the language on a card, by the hub's identifiers."""

    license: str
    language: str


def kind_of(folder: Path) -> str:
    """Return "dataset" for a corpus, "model" for a checkpoint or a run folder; raise CheckpointError for neither."""
    if folder.suffix == ".txt" or (folder / "raw.txt").is_file():
        return "dataset"
    checkpoint.resolve(folder)
    return "model"


def gather(
    folder: Path, repo: Repo, into: Path, license_id: str | None = None, language: str | None = None
) -> list[Path]:
    """Put the files of `repo` into the folder `into`; return their paths, relative to it.

    `license_id` and `language` are for the card; without them it has those of stories that gatsby wrote. Raises
    UsageError if one of them is missing for a person's own text, CheckpointError or CorpusError for a damaged folder,
    and OSError.
    """
    if repo.kind == "dataset":
        corpus = load_corpus(folder)
        own = corpus.path and card.own_card(corpus.path.parent)
        language = language or corpus.manifest.get("language")
        terms = _terms(corpus.is_own_text, own, license_id, language, repo)
        _gather_corpus(corpus, repo, into, terms)
    else:
        ready = checkpoint.load(folder)
        language = language or ready.about_corpus.get("language")
        terms = _terms(ready.is_own_text, card.own_card(ready.path), license_id, language, repo)
        _gather_model(ready, repo, into, terms)
    return sorted(path.relative_to(into) for path in into.rglob("*") if path.is_file())


def _terms(own_text: bool, readme: str | None, license_id: str | None, language: str | None, repo: Repo) -> Terms:
    """Return the license and the language of a card; raise UsageError for a person's text without either.

    A README.md that names them is enough.
    """
    if not own_text:
        return Terms(license_id or card.LICENSE, language or card.LANGUAGE)
    named = card.fields_of(readme or "")
    terms = Terms(license_id or named.get("license", ""), language or named.get("language", ""))
    missing = [name for name, value in (("license", terms.license), ("language", terms.language)) if not value]
    if missing:
        message = f"{repo} has a text that you brought, and only you know its {' and '.join(missing)}"
        examples = {"license": "--license cc-by-4.0", "language": "--language en"}
        raise UsageError(message, f"Give it: {' '.join(examples[name] for name in missing)}")
    return terms


def _gather_model(ready: checkpoint.Checkpoint, repo: Repo, into: Path, terms: Terms) -> None:
    for name in ("config.json", checkpoint.WEIGHTS, "tokenizer.json", "evaluation.json"):
        if (ready.path / name).is_file():
            shutil.copyfile(ready.path / name, into / name)
    note = "`gpt2/` has the same weights as a GPT-2, for mlx_lm.generate and transformers."
    if ready.model.config.gelu == "tanh":
        (into / "gpt2").mkdir()
        gpt2.write(into / "gpt2", ready.model, ready.tokenizer)
    else:
        note = "There is no GPT-2 form beside it: its GELU is the erf form, which a GPT-2 does not have."
    own = card.own_card(ready.path)
    if own and ready.is_own_text:
        own = card.with_fields(own, license=terms.license, language=terms.language)
    text = own or card.model_card(ready, "native", repo.name, [note], terms.license, str(repo), terms.language)
    (into / card.NAME).write_text(text, "utf-8")


def _gather_corpus(corpus: Corpus, repo: Repo, into: Path, terms: Terms) -> None:
    raw = corpus.path
    if raw is None:
        raise CheckpointError("A corpus without a file cannot be published", "Write one with: gatsby write --out DIR")
    shutil.copyfile(raw, into / "raw.txt")
    if (beside := raw.with_name("manifest.json")).is_file():
        shutil.copyfile(beside, into / "manifest.json")
    (into / "data").mkdir()
    counts = {}
    for name, documents in splits(corpus).items():
        (into / "data" / f"{name}.jsonl").write_text("".join(map(_line, documents)), "utf-8")
        counts[name] = len(documents)
    own = card.own_card(raw.parent)
    if own and corpus.is_own_text:
        own = card.with_fields(own, license=terms.license, language=terms.language)
    text = own or card.corpus_card(corpus, repo.id, counts, terms.license, terms.language)
    (into / card.NAME).write_text(text, "utf-8")


def splits(corpus: Corpus) -> dict[str, Sequence[Document]]:
    """Return the documents of each split: those that the corpus came with, else by topic as in training.

    A corpus too small for that is all "train".
    """
    if any(d.split for d in corpus.documents):
        names = ("train", "validation", "test")
        by_name = {name: [d for d in corpus.documents if (d.split or "train") == name] for name in names}
        return {name: documents for name, documents in by_name.items() if documents}
    try:
        train, validation = split_by_topic(corpus.documents, *SPLIT)
    except TrainingError:
        return {"train": corpus.documents}
    return {"train": train, "validation": validation}


def _line(document: Document) -> str:
    row = {"topic": document.topic, "level": document.level, "prime": document.header, "story": document.story}
    row |= {k: v for k, v in (("writer", document.writer), ("name", document.name)) if v}
    return json.dumps(row, ensure_ascii=False) + "\n"


def find(repo: Repo) -> Existing | None:
    """Return the repository on the hub, or None if there is none that the token may see. Raises HubError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    with hub_errors(repo), quiet(False):
        try:
            info = HfApi().repo_info(repo.id, repo_type=repo.kind)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return None
    return Existing(bool(info.private))


def upload(folder: Path, repo: Repo, private: bool, progress: bool = False) -> str:
    """Create `repo` if necessary, upload `folder` in one commit, and return the commit. Raises HubError."""
    from huggingface_hub import HfApi

    with hub_errors(repo), quiet(progress):
        api = HfApi()
        api.create_repo(repo.id, repo_type=repo.kind, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo.id, repo_type=repo.kind, folder_path=folder, commit_message="Published with gatsby-mlx"
        )
    return done.oid
