"""Bring a model or a corpus from the hub: through its cache, then checked, then put in place as a whole.

Only the files named here are fetched, whatever else a repository holds. Within one pull, a connection that breaks is
taken up after the last 10 MiB that were whole; between two, whole files are kept in the cache, and the rest begins
again: huggingface_hub keeps no part of a file since it names its temporary files by process.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from gatsby_mlx import files
from gatsby_mlx.corpus import load as corpus
from gatsby_mlx.errors import CheckpointError, GatsbyError, HubError, OutputError
from gatsby_mlx.hub import nanogpt, vocabulary
from gatsby_mlx.hub.place import check_free
from gatsby_mlx.hub.remote import Repo, hub_errors, quiet
from gatsby_mlx.model import checkpoint

MODEL = ("config.json", "model.safetensors", "tokenizer.json")
CORPUS = ("raw.txt", "manifest.json")
TOLD = ("README.md", "evaluation.json")
SEED = "ckpt.pt"
VOCABULARIES = ("vocab.json", "meta.pkl", "raw.txt")
SOURCE = "source.json"  # where a pulled folder comes from


def pull(repo: Repo, out: Path, text: Path | None = None, progress: bool = False) -> str:
    """Bring `repo` into the folder `out` and return the commit that it was at.

    A model of ours is checked by loading it, a corpus by reading it; a nanoGPT checkpoint (`ckpt.pt`) is imported, its
    characters from a vocab.json, meta.pkl or raw.txt beside it, or from `text`. `out` is free or holds an earlier pull
    of the same repository, which is replaced. Raises HubError, OutputError, CheckpointError and CorpusError.
    """
    if source(out).get("repository") != str(repo):
        check_free(out)
    fetch = _fetcher(repo, progress)
    if repo.kind == "dataset":
        folder = fetch(*CORPUS, *TOLD)
        _need(folder / "raw.txt", repo, "no raw.txt")
        _place(out, repo, folder, lambda staged: _copy(folder, staged, CORPUS + TOLD), corpus.load)
        return folder.name
    folder = fetch("config.json")
    if _is_ours(folder / "config.json"):
        folder = fetch(*MODEL, *TOLD)
        _place(out, repo, folder, lambda staged: _copy(folder, staged, MODEL + TOLD), checkpoint.load)
        return folder.name
    folder = fetch(SEED, *VOCABULARIES)
    _need(folder / SEED, repo, "neither our config.json nor a ckpt.pt")
    _place(out, repo, folder, lambda staged: _import(folder, staged, text), checkpoint.load)
    return folder.name


def source(folder: Path) -> dict[str, str]:
    """Return where a folder was pulled from (`repository`, `commit`), or nothing if it was not."""
    try:
        content = json.loads((folder / SOURCE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fetcher(repo: Repo, progress: bool) -> Callable[..., Path]:
    """Return a function that fetches files by name and returns the folder of the cache that holds them.

    The first call finds out which commit the revision means; every later one asks for that commit.
    """
    from huggingface_hub import snapshot_download

    commit = repo.revision

    def fetch(*names: str) -> Path:
        nonlocal commit
        with hub_errors(repo), quiet(progress):
            found = Path(snapshot_download(repo.id, repo_type=repo.kind, revision=commit, allow_patterns=list(names)))
        commit = found.name
        return found

    return fetch


def _need(path: Path, repo: Repo, what: str) -> None:
    if not path.is_file():
        cure = "Pull a repository that gatsby publish made, or a nanoGPT checkpoint"
        raise HubError(f"{repo} is not one that this can use: it has {what}", cure)


def _is_ours(config: Path) -> bool:
    try:
        return str(json.loads(config.read_text("utf-8"))["format"]).startswith("gatsby-mlx/")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _copy(folder: Path, staged: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, staged / name)


def _import(folder: Path, staged: Path, text: Path | None) -> None:
    """Write a nanoGPT checkpoint in our form."""
    if text is not None:
        alphabet = vocabulary.from_corpus(text)
    else:
        beside = [folder / name for name in VOCABULARIES if (folder / name).is_file()]
        if not beside:
            raise HubError(f"The repository has {SEED} and no list of its characters", vocabulary.CURE)
        alphabet = vocabulary.from_corpus(beside[0]) if beside[0].suffix == ".txt" else vocabulary.from_file(beside[0])
    try:
        found = nanogpt.load(folder / SEED, alphabet)
    except CheckpointError as error:  # where the cache keeps it helps nobody
        raise CheckpointError(str(error).replace(f"{folder}/", ""), error.cure) from None
    checkpoint.write(staged, found.model, found.tokenizer, found.info)


def _place(out: Path, repo: Repo, cached: Path, fill: Callable[[Path], None], check: Callable[[Path], object]) -> None:
    """Fill a folder beside `out`, check it, and put it in `out`'s place; nothing is left of one that fails."""
    staged = files.staging_folder(out)
    try:
        with files.output_errors(str(out)):
            fill(staged)
            told = {"repository": str(repo), "commit": cached.name}
            (staged / SOURCE).write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        try:
            check(staged)
        except OutputError:
            raise
        except GatsbyError as error:
            told = str(error).replace(str(staged), str(repo))
            raise type(error)(told, f"Its owner has to publish {repo} anew") from None
        files.publish_folder(staged, out)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
