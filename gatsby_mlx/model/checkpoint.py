"""Checkpoint folders: config.json, model.safetensors, tokenizer.json; optimizer.safetensors and state.json to resume.

A folder is written beside its place and swapped in as a whole (see `files`), so no reader meets a mix of old and new.
"""

import json
import shutil
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
from gatsby_mlx.tokenizer import CharTokenizer

FORMAT = "gatsby-mlx/checkpoint/1"
CURE = "Train one with: gatsby train --out DIR"
WEIGHTS = "model.safetensors"
OWN_KEYS = ("format", "model_type", "architecture", "weights")  # of config.json; the rest is the writer's `info`
HALVES = (mx.float16, mx.bfloat16)
NAMES = ("best-dial", "best-loss", "last")  # the order in which a run folder's checkpoints are preferred


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to use, its vocabulary, and what its config.json tells besides (`info`)."""

    path: Path
    model: GPT
    tokenizer: CharTokenizer
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> dict[str, Any]:
        """What the config.json of a run that goes on from here tells of it; `start` is where this one went on from."""
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
    """Write a checkpoint to `folder`, in place of what is there. Raises OutputError; the old one then survives.

    `info` goes into config.json beside the architecture; `optimizer_state` (a tree of arrays) and `state` (plain
    values) are what a run needs to go on.
    """
    staged = files.staging_folder(folder)
    try:
        with files.output_errors(str(folder)):
            write(staged, model, tokenizer, info)
            if optimizer_state is not None:
                _save_arrays(staged / "optimizer.safetensors", optimizer_state)
            if state is not None:
                (staged / "state.json").write_text(json.dumps(state, indent=1) + "\n", "utf-8")
        files.publish_folder(staged, folder)
    except BaseException:  # what was written of it would only keep the disk full
        shutil.rmtree(staged, ignore_errors=True)
        raise


def write(
    folder: Path, model: GPT, tokenizer: CharTokenizer, info: dict[str, Any], dtype: mx.Dtype = mx.float32
) -> None:
    """Write config.json, model.safetensors and tokenizer.json into an existing folder, weights stored in `dtype`.

    float16 halves the file, and a run that is to go on keeps float32. config.json tells the sha256 of the weights.
    Raises OSError, and CheckpointError for a weight beyond the range of `dtype`.
    """
    weights = {name: array.astype(dtype) for name, array in model.named().items()}
    lost = sorted(name for name, array in weights.items() if not mx.isfinite(array).all())
    if lost and dtype != mx.float32:
        raise CheckpointError(f"{lost[0]} does not fit into {dtype}", "Keep float32")
    _save_arrays(folder / WEIGHTS, weights)
    stored = {"dtype": str(dtype).removeprefix("mlx.core."), "sha256": files.sha256(folder / WEIGHTS)}
    config = {"format": FORMAT, "model_type": "gatsby_gpt", "architecture": asdict(model.config), "weights": stored}
    (folder / "config.json").write_text(json.dumps(config | info, indent=1) + "\n", "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")


def _save_arrays(path: Path, tree: Any) -> None:
    try:
        mx.save_safetensors(str(path), flat(tree), metadata={"format": "mlx"})
    except RuntimeError as error:  # MLX reports a full disk so
        raise OSError(28 if "write" in str(error).lower() else 5, str(error)) from None


def resolve(path: Path) -> Path:
    """Return the checkpoint folder that `path` means: itself, or the best one of a run folder.

    Raises CheckpointError when there is none.
    """
    if (path / "config.json").is_file():
        return path
    for name in NAMES:
        if (path / name / "config.json").is_file():
            return path / name
    if not path.exists():
        raise CheckpointError(f"There is no checkpoint at {path}", CURE)
    raise CheckpointError(f"{path} holds no checkpoint (no config.json in it, nor in {', '.join(NAMES)})", CURE)


def load(path: Path | str) -> Checkpoint:
    """Read the checkpoint that `path` means (see `resolve`), its model in float32 and in evaluation mode.

    Raises CheckpointError for a folder that is missing, incomplete, truncated, of another format, or whose arrays or
    vocabulary do not fit its architecture.
    """
    folder = resolve(Path(path))
    return files.read_folder(folder, _read)


def _read(folder: Path) -> Checkpoint:
    content = read_json(folder / "config.json")
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{folder} has format {content.get('format')!r}, and this version reads {FORMAT!r}", CURE)
    known = {f.name for f in fields(GPTConfig)}
    try:
        config = GPTConfig(**content["architecture"])
        model = GPT(config)
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        why = " ".join(str(error).split())[:120]  # MLX's own can be a page
        raise CheckpointError(f"{folder}/config.json has no architecture of {sorted(known)}: {why}", CURE) from None
    tokenizer = CharTokenizer.from_json(_read_text(folder / "tokenizer.json"))
    if len(tokenizer) != config.vocab_size:
        told = f"{folder}: the vocabulary has {len(tokenizer)} characters and the model {config.vocab_size}"
        raise CheckpointError(told, CURE)
    arrays = load_arrays(folder / WEIGHTS, model.named(), halves=True)
    model.update(tree_unflatten(list(arrays.items())))
    model.eval()
    mx.eval(model.parameters())
    info = {k: v for k, v in content.items() if k not in OWN_KEYS}
    return Checkpoint(folder, model, tokenizer, info)


def load_arrays(path: Path, expected: dict[str, mx.array], halves: bool = False) -> dict[str, mx.array]:
    """Return the arrays at `path`, which must have the names, shapes and dtypes of `expected`.

    With `halves`, float16 and bfloat16 may stand for float32 and are widened. The header is read with `safe_open`
    first, which refuses a torn or forged file. Raises CheckpointError.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118  not a dict
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} is incomplete: {path.name} is missing", CURE) from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", CURE) from None
    wanted = {k: v.shape for k, v in expected.items()}
    if shapes != wanted:
        name = sorted(k for k in shapes.keys() | wanted.keys() if shapes.get(k) != wanted.get(k))[0]
        told = f"{name} is {shapes.get(name, 'absent')} and should be {wanted.get(name, 'absent')}"
        raise CheckpointError(f"{path} does not fit its config.json: {told}", CURE)
    arrays = cast(dict[str, mx.array], mx.load(str(path)))
    for name, array in arrays.items():
        if halves and array.dtype in HALVES:
            arrays[name] = array.astype(mx.float32)
        elif array.dtype != expected[name].dtype:
            told = f"{name} is {array.dtype} and should be {expected[name].dtype}"
            raise CheckpointError(f"{path} does not fit its config.json: {told}", CURE)
    mx.eval(arrays)
    return arrays


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object at `path`; raise CheckpointError if it is missing or is none."""
    try:
        content = json.loads(_read_text(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", CURE) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it holds no object", CURE)
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} is incomplete: {path.name} is missing", CURE) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", CURE) from None
