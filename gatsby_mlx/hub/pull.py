"""Pull a model or a corpus from the hub: download it to the hub's cache, check it, then put it into a folder.

Only the files named here are downloaded, whatever else a repository has. Within one pull, a broken connection resumes
after the last complete 10 MiB. Between two pulls, complete files stay in the cache and others start again, since
huggingface_hub names its temporary files by process.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from gatsby_mlx import files
from gatsby_mlx.corpus import load as corpus
from gatsby_mlx.errors import CheckpointError, GatsbyError, HubError, OutputError
from gatsby_mlx.files import check_free
from gatsby_mlx.hub import nanogpt, remote, vocabulary
from gatsby_mlx.hub.remote import REQUIRED, Repo, check_pinned, hub_errors, quiet
from gatsby_mlx.model import checkpoint

EXTRA = ("README.md", "evaluation.json")
MODEL = REQUIRED["model"] + EXTRA
CORPUS = REQUIRED["dataset"] + ("manifest.json", *EXTRA)
NANOGPT = "ckpt.pt"
VOCABULARIES = ("vocab.json", "meta.pkl", "raw.txt")
SOURCE = "source.json"  # the repository and commit of a pulled folder


def pull(repo: Repo, out: Path, text: Path | None = None, progress: bool = False, replace: bool = False) -> str:
    """Put `repo` into the folder `out`; return its commit.

    A native model is checked by loading it, a corpus by reading it. A nanoGPT checkpoint (`ckpt.pt`) is imported; its
    characters come from a vocab.json, meta.pkl or raw.txt beside it, or from the corpus `text`. `out` is free or has an
    earlier pull of the same repository, which is replaced; with `replace`, so is anything else. Raises HubError,
    OutputError, CheckpointError and CorpusError.
    """
    if not replace and source(out).get("repository") != str(repo):
        check_free(out)
    fetch = _fetcher(repo, progress)
    if repo.kind == "dataset":
        folder = fetch(*CORPUS)
        _need(folder / "raw.txt", repo, "no raw.txt")
        _install(out, repo, folder, lambda staged: _copy(folder, staged, CORPUS), corpus.load)
        return folder.name
    folder = fetch("config.json")
    if _is_native(folder / "config.json"):
        folder = fetch(*MODEL)
        _install(out, repo, folder, lambda staged: _copy(folder, staged, MODEL), checkpoint.load)
        return folder.name
    folder = fetch(NANOGPT, *VOCABULARIES)
    _need(folder / NANOGPT, repo, "neither a config.json of gatsby's nor a ckpt.pt")
    _install(out, repo, folder, lambda staged: _import(folder, staged, text), checkpoint.load)
    return folder.name


def fetch_stories(name: str, progress: bool = False) -> Path:
    """Download the JSONL and CSV files of a dataset repository; return the folder of the cache that has them.

    `name` is datasets/OWNER/NAME, with a folder after it (datasets/OWNER/NAME/v2) to take only that one's files, and
    with @REVISION at the end. Raises HubError and UsageError.
    """
    path, at, revision = name.partition("@")
    words = path.split("/")
    repo = remote.parse("/".join(words[:3]) + at + revision)
    within = "/".join(words[3:]).strip("/")
    patterns = [f"{within + '/' if within else ''}*.{kind}" for kind in ("jsonl", "csv")]
    folder = _fetcher(repo, progress)(*patterns) / within
    if not any(p.is_file() for kind in ("jsonl", "csv") for p in folder.rglob(f"*.{kind}")):
        raise HubError(f"{name} has no .jsonl or .csv file", "Look at its files on the hub, and name a folder after it")
    return folder


def source(folder: Path) -> dict[str, str]:
    """Return the `repository` and `commit` that a folder was pulled from, or {} if it was not pulled."""
    try:
        content = json.loads((folder / SOURCE).read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fetcher(repo: Repo, progress: bool) -> Callable[..., Path]:
    """Return a function that downloads files by name and returns the cache folder that has them.

    The first call resolves the revision to a commit; later calls ask for that commit.
    """
    from huggingface_hub import snapshot_download

    commit = repo.revision

    def fetch(*names: str) -> Path:
        nonlocal commit
        with hub_errors(repo), quiet(progress):
            if commit == repo.revision:
                check_pinned(repo)
            folder = Path(snapshot_download(repo.id, repo_type=repo.kind, revision=commit, allow_patterns=list(names)))
        commit = folder.name
        return folder

    return fetch


def _need(path: Path, repo: Repo, what: str) -> None:
    if not path.is_file():
        hint = "Pull a repository that gatsby publish made, or a nanoGPT checkpoint"
        raise HubError(f"{repo} cannot be used: it has {what}", hint)


def _is_native(config: Path) -> bool:
    try:
        return str(json.loads(config.read_text("utf-8-sig"))["format"]).startswith("gatsby-mlx/")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _copy(folder: Path, staged: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, staged / name)


def _import(folder: Path, staged: Path, text: Path | None) -> None:
    """Write a nanoGPT checkpoint as a native one."""
    if text is not None:
        alphabet = vocabulary.from_corpus(text)
    else:
        beside = [folder / name for name in VOCABULARIES if (folder / name).is_file()]
        if not beside:
            raise HubError(f"The repository has {NANOGPT}, and no list of its characters", vocabulary.HINT)
        alphabet = vocabulary.from_corpus(beside[0]) if beside[0].suffix == ".txt" else vocabulary.from_file(beside[0])
    try:
        imported = nanogpt.load(folder / NANOGPT, alphabet)
    except CheckpointError as error:  # the path in the cache helps nobody
        raise CheckpointError(str(error).replace(f"{folder}/", ""), error.hint) from None
    checkpoint.write(staged, imported.model, imported.tokenizer, imported.info)


def _install(
    out: Path, repo: Repo, cached: Path, fill: Callable[[Path], None], check: Callable[[Path], object]
) -> None:
    """Fill a folder beside `out`, check it, and move it to `out`. If that fails, nothing is left of it."""
    staged = files.staging_folder(out)
    try:
        with files.output_errors(str(out)):
            fill(staged)
            origin = {"repository": str(repo), "commit": cached.name}
            (staged / SOURCE).write_text(json.dumps(origin, indent=1) + "\n", "utf-8")
        try:
            check(staged)
        except OutputError:
            raise
        except GatsbyError as error:
            message = str(error).replace(str(staged), str(repo))
            raise type(error)(message, f"Its owner must publish {repo} again") from None
        files.publish_folder(staged, out)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
