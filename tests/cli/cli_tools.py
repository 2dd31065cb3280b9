"""Ways to run `gatsby` in this process and in a separate one, and a random model."""

import json
import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from gatsby_mlx import cli
from gatsby_mlx.config import GPTConfig, Preset, TrainConfig

ROOT = Path(__file__).resolve().parents[2]
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 512}
TINY = Preset(
    "pocket",
    GPTConfig(**SHAPE),
    TrainConfig(warmup_chars=2_000, max_chars=20_000, eval_every_chars=10_000, dial_topics=1),
)

# `python -c TINY_CLI ...` is `gatsby ...` with the small preset in the workdir of `pocket`: no option exists for that.
TINY_CLI = f"""
from gatsby_mlx import cli, config
from gatsby_mlx.config import GPTConfig, Preset, TrainConfig
config.PRESETS["pocket"] = {TINY!r}
cli.run()
"""


def gatsby(*args: object) -> Result:
    """Run `gatsby` in this process."""
    return CliRunner().invoke(cli.main, [str(a) for a in args])


def environment(home: Path, **more: str) -> dict[str, str]:
    shared = ("PATH", "LANG", "XDG_CACHE_HOME", "TMPDIR", "MLX_ENABLE_TF32")
    kept = {k: os.environ[k] for k in shared if k in os.environ}
    kept |= {"XDG_CACHE_HOME": kept.get("XDG_CACHE_HOME", str(Path("~/.cache").expanduser()))}  # holds the BLAS shim
    kept |= {"PYTHONDONTWRITEBYTECODE": "1"}  # a process with a limit on file sizes would leave torn ones
    return {**kept, "HOME": str(home), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **more}


def command(*args: object) -> list[str]:
    return [sys.executable, str(ROOT / "cli.py"), *map(str, args)]


def real(home: Path, *args: object, env: dict[str, str] | None = None, **more) -> subprocess.CompletedProcess[str]:
    """Run `python cli.py ARGS` as a separate process, in the folder `home`."""
    shared = {"cwd": home, "env": environment(home, **(env or {})), "text": True, "timeout": 60}
    if "stdout" not in more:
        shared |= {"capture_output": True}
    return subprocess.run(command(*args), **{**shared, **more})


def save_model(folder: Path, alphabet: str | None = None, seed: int = 3) -> Path:
    """Save a random model. Its stories are noise, and now and then one ends."""
    import mlx.core as mx

    from gatsby_mlx.model import checkpoint
    from gatsby_mlx.model.gpt import GPT
    from gatsby_mlx.story.prime import ALPHABET
    from gatsby_mlx.tokenizer import CharTokenizer

    tokenizer = CharTokenizer(alphabet or ALPHABET)
    mx.random.seed(seed)
    model = GPT(GPTConfig(**SHAPE, vocab_size=len(tokenizer)))
    checkpoint.save(folder, model, tokenizer, {"preset": "tiny"})
    return folder


def one_line(text: str) -> str:
    """Return the only line of a stderr, which is an error's."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("gatsby: ")
    return lines[0]


def document(result: Result | subprocess.CompletedProcess[str]) -> dict:
    """Return the one JSON document on a command's stdout."""
    return json.loads(result.stdout)
