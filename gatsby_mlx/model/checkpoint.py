"""Checkpoint folders: config.json, model.safetensors, tokenizer.json; optimizer.safetensors and state.json to resume.

A folder is written beside the old one and then replaces it in one step (see `files`), so that no reader gets a mix.
"""

import errno
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_unflatten
from safetensors import SafetensorError, safe_open

from gatsby_mlx import files
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.errors import CheckpointError, UsageError
from gatsby_mlx.model.gpt import GPT, flat
from gatsby_mlx.story import prime
from gatsby_mlx.story.obsession import LEVELS, Obsession
from gatsby_mlx.tokenizer import CharTokenizer

FORMAT = "gatsby-mlx/checkpoint/1"
HINT = "Train one with: gatsby train --out DIR"
WEIGHTS = "model.safetensors"
FORMAT_KEYS = ("format", "model_type", "architecture", "weights")  # of config.json; all others are `info`
HALF_DTYPES = (mx.float16, mx.bfloat16)
NAMES = ("best-dial", "best-loss", "last")  # the checkpoints of a run folder, the preferred one first


@dataclass(frozen=True)
class Checkpoint:
    """A model that is ready to use, its tokenizer, and the other content of its config.json (`info`)."""

    path: Path
    model: GPT
    tokenizer: CharTokenizer
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def obsession(self) -> Obsession:
        """What the model cannot stop reaching for; the default obsession if its config.json has none."""
        return Obsession.from_json(self.info.get("obsession"))

    @property
    def is_prose(self) -> bool:
        """Whether the model learned from plain text, and so knows no topic and no level."""
        return bool(self.about_corpus.get("prose"))

    @property
    def about_corpus(self) -> dict[str, Any]:
        """What config.json says of the corpus that the model learned from, {} if nothing."""
        return self.info.get("corpus") or {}

    @property
    def is_own_text(self) -> bool:
        """Whether a person's text is in what the model learned from, or the one that it started from did."""
        infos: list[dict[str, Any]] = [self.info]
        while start := infos[-1].get("start"):
            infos.append(start)
        return any((info.get("corpus") or {}).get("imported") for info in infos)

    def primes(self, topics: Sequence[str]) -> list[str]:
        """Return texts to try the model with: primes of `topics`, or of its own corpus's if it knows some.

        For a model of plain text that is its alphabet.
        """
        if self.is_prose:
            return [self.tokenizer.alphabet]
        alphabet = self.tokenizer.alphabet
        chosen = self.about_corpus.get("topics", topics)[: len(topics)]
        return [prime.build(topic, level, None, alphabet, self.obsession) for topic in chosen for level in LEVELS]

    @property
    def origin(self) -> dict[str, Any]:
        """What a run that starts from this checkpoint writes to its config.json; `start` is this one's own start."""
        known = {k: self.info.get(k) for k in ("preset", "step", "chars_seen", "corpus", "start")}
        return {"weights": files.sha256(self.path / WEIGHTS), **known}


def save(
    folder: Path,
    model: GPT,
    tokenizer: CharTokenizer,
    info: dict[str, Any],
    optimizer_state: Any = None,
    state: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint to `folder`, replacing an old one. Raises OutputError; the old one is then unchanged.

    `info` is added to config.json. `optimizer_state` (a tree of arrays) and `state` (plain values) are what a run needs
    to resume.
    """
    staged = files.staging_folder(folder)
    try:
        with files.output_errors(str(folder)):
            write(staged, model, tokenizer, info)
            if optimizer_state is not None:
                save_arrays(staged / "optimizer.safetensors", optimizer_state)
            if state is not None:
                (staged / "state.json").write_text(json.dumps(state, indent=1) + "\n", "utf-8")
        files.publish_folder(staged, folder)
    except BaseException:  # an incomplete folder would only fill the disk
        shutil.rmtree(staged, ignore_errors=True)
        raise


def write(
    folder: Path, model: GPT, tokenizer: CharTokenizer, info: dict[str, Any], dtype: mx.Dtype = mx.float32
) -> None:
    """Write config.json, model.safetensors and tokenizer.json into an existing folder, with the weights in `dtype`.

    float16 halves the size of the file; a run can only resume from float32. config.json has the sha256 of the weights.
    Raises OSError, and CheckpointError for a weight beyond the range of `dtype`.
    """
    weights = {name: array.astype(dtype) for name, array in model.named().items()}
    infinite = sorted(name for name, array in weights.items() if not mx.isfinite(array).all())
    if infinite and dtype != mx.float32:
        raise CheckpointError(f"{infinite[0]} does not fit into {dtype}", "Keep float32")
    save_arrays(folder / WEIGHTS, weights)
    stored = {"dtype": str(dtype).removeprefix("mlx.core."), "sha256": files.sha256(folder / WEIGHTS)}
    config = {"format": FORMAT, "model_type": "gatsby_gpt", "architecture": asdict(model.config), "weights": stored}
    (folder / "config.json").write_text(json.dumps(config | info, indent=1) + "\n", "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")


def save_arrays(path: Path, tree: Any) -> None:
    """Write a tree of arrays as a safetensors file. Raises OSError, with ENOSPC for a full disk."""
    try:
        mx.save_safetensors(str(path), flat(tree), metadata={"format": "mlx"})
    except RuntimeError as error:  # how MLX reports a full disk
        raise OSError(errno.ENOSPC if "write" in str(error).lower() else errno.EIO, str(error)) from None


def resolve(path: Path) -> Path:
    """Return `path` if it is a checkpoint, or the best checkpoint of a run folder.

    Raises CheckpointError if there is none.
    """
    if (path / "config.json").is_file():
        return path
    for name in NAMES:
        if (path / name / "config.json").is_file():
            return path / name
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint at {path}", HINT)
    raise CheckpointError(f"{path} holds no checkpoint (no config.json in it, nor in {', '.join(NAMES)})", HINT)


def load(path: Path | str) -> Checkpoint:
    """Return the checkpoint at `path` (see `resolve`), with its model in float32 and in evaluation mode.

    Raises CheckpointError for a folder that is missing, incomplete, damaged or in another format, and for arrays or a
    vocabulary that do not fit the architecture.
    """
    folder = resolve(Path(path))
    return files.read_folder(folder, _read)


def _read(folder: Path) -> Checkpoint:
    content = read_json(folder / "config.json")
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has format {content.get('format')!r}, and this version reads {FORMAT!r}", HINT)
    known = {f.name for f in fields(GPTConfig)}
    try:
        config = GPTConfig(**content["architecture"])
        model = GPT(config)
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        reason = " ".join(str(error).split())[:120]  # a message of MLX can be a page long
        raise CheckpointError(f"{folder}/config.json has no architecture of {sorted(known)}: {reason}", HINT) from None
    try:
        Obsession.from_json(content.get("obsession"))
    except UsageError as error:
        raise CheckpointError(f"{folder}/config.json has no valid obsession: {error}", HINT) from None
    tokenizer = CharTokenizer.from_json(_read_text(folder / "tokenizer.json"))
    if len(tokenizer) != config.vocab_size:
        message = f"{folder}: the vocabulary has {len(tokenizer)} characters and the model {config.vocab_size}"
        raise CheckpointError(message, HINT)
    arrays = load_arrays(folder / WEIGHTS, model.named(), allow_half=True)
    model.update(tree_unflatten(list(arrays.items())))
    model.eval()
    mx.eval(model.parameters())
    info = {k: v for k, v in content.items() if k not in FORMAT_KEYS}
    return Checkpoint(folder, model, tokenizer, info)


def load_arrays(path: Path, expected: dict[str, mx.array], allow_half: bool = False) -> dict[str, mx.array]:
    """Return the arrays of a safetensors file, which must have the names, shapes and dtypes of `expected`.

    With `allow_half`, float16 and bfloat16 arrays are converted to float32. `safe_open` reads the header first, because
    it rejects a truncated or forged file. Raises CheckpointError.
    """
    files.refuse_pointer(path, CheckpointError)
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118  not a dict
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} is incomplete: {path.name} is missing", HINT) from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", HINT) from None
    wanted = {k: v.shape for k, v in expected.items()}
    if shapes != wanted:
        name = sorted(k for k in shapes.keys() | wanted.keys() if shapes.get(k) != wanted.get(k))[0]
        reason = f"{name} is {shapes.get(name, 'absent')} and should be {wanted.get(name, 'absent')}"
        raise CheckpointError(f"{path} does not fit its config.json: {reason}", HINT)
    arrays = cast(dict[str, mx.array], mx.load(str(path)))
    for name, array in arrays.items():
        if allow_half and array.dtype in HALF_DTYPES:
            arrays[name] = array.astype(mx.float32)
        elif array.dtype != expected[name].dtype:
            reason = f"{name} is {array.dtype} and should be {expected[name].dtype}"
            raise CheckpointError(f"{path} does not fit its config.json: {reason}", HINT)
    mx.eval(arrays)
    return arrays


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises CheckpointError if the file is missing or has anything else."""
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", HINT) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it is not a JSON object", HINT)
    return content


def _read_text(path: Path) -> str:
    files.refuse_pointer(path, CheckpointError)
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} is incomplete: {path.name} is missing", HINT) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", HINT) from None
