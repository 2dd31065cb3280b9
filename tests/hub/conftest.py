"""The stand-in hub, and ways to run `gatsby` against it in a separate process, as a shell would."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hub_server
import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("PATH", "LANG", "XDG_CACHE_HOME", "TMPDIR", "OPENBLAS_CORETYPE", "MLX_ENABLE_TF32")


SEVERAL = """
import json, sys
from click.testing import CliRunner
from gatsby_mlx import cli
done = [CliRunner().invoke(cli.main, words) for words in json.loads(sys.argv[1])]
assert not [d.exception for d in done if not isinstance(d.exception, SystemExit | None)], done
json.dump([{"returncode": d.exit_code, "stdout": d.stdout, "stderr": d.stderr} for d in done], sys.stdout)
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@dataclass
class Hub:
    """A running hub. `root` has its repositories (see hub_server), `home` is the user's folder."""

    root: Path
    home: Path
    url: str

    def run(self, *words: object, token: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `gatsby WORDS` in `home`, with a separate cache and no token unless one is given."""
        return self.process([ROOT / "cli.py", *words], token, env)

    def run_all(self, commands: list[tuple], token: str | None = None, **env: str) -> list[Done]:
        """Run several commands one after another in one process, which saves time."""
        given = json.dumps([list(map(str, words)) for words in commands])
        done = self.process(["-c", SEVERAL, given], token, env)
        assert done.returncode == 0, done.stderr
        return [Done(**one) for one in json.loads(done.stdout)]

    def process(self, words: list, token: str | None, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run Python with `words` in `home`, in an environment that knows this hub and no other."""
        kept = {k: os.environ[k] for k in KEPT if k in os.environ}
        kept |= {"XDG_CACHE_HOME": kept.get("XDG_CACHE_HOME", str(Path("~/.cache").expanduser()))}  # the BLAS forwarder
        kept |= {"HOME": str(self.home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        kept |= {"HF_HOME": str(self.home / "hf"), "HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1"}
        kept |= {"HF_HUB_DISABLE_TELEMETRY": "1"} | ({"HF_TOKEN": token} if token else {})
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.home,
            env={**kept, **env},
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )

    def refused(self, *commands: tuple, code: int = 1, **more: str) -> list[str]:
        """Run commands that must fail, each followed by what its message must contain; return their messages.

        Each message must be one line, and `home` must not change.
        """
        before, lines = self.files(), []
        for words, done in zip(commands, self.run_all([c[:-1] for c in commands], **more), strict=True):
            line = done.stderr.splitlines()[-1] if done.stderr else ""
            assert done.returncode == code, (words, done)
            assert line.startswith("gatsby: "), (words, done)
            assert words[-1] in line, (words, done)
            assert done.stderr.count("gatsby: ") == 1
            assert "Traceback" not in done.stderr
            assert done.stdout == ""
            lines.append(line)
        assert self.files() == before
        return lines

    def files(self) -> dict[str, bytes]:
        """Return the files in `home`, except for the hub's cache."""
        paths = (p for p in sorted(self.home.rglob("*")) if p.is_file() and "hf" not in p.relative_to(self.home).parts)
        return {str(p.relative_to(self.home)): p.read_bytes() for p in paths}

    def commit(self, repo: str, files: dict[str, bytes], kind: str = "models", **settings) -> str:
        return hub_server.commit(self.root, kind, repo, files, **settings)

    def faults(self, **faults) -> None:
        (self.root / "faults.json").write_text(json.dumps(faults))

    def asked(self) -> list[dict]:
        """Return the requests so far, oldest first."""
        log = self.root / "log.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    (tmp_path / "home").mkdir()
    server = hub_server.serve(tmp_path / "hub")
    yield Hub(tmp_path / "hub", tmp_path / "home", f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A small native checkpoint with tanh GELU."""
    from hub_models import ASCII, INFO, random_model

    from gatsby_mlx.model import checkpoint
    from gatsby_mlx.tokenizer import CharTokenizer

    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    checkpoint.save(path, random_model(), CharTokenizer(ASCII), INFO)
    return path


@pytest.fixture(scope="session")
def stories(tmp_path_factory) -> Path:
    """A corpus of 50 stories from the house writer."""
    from click.testing import CliRunner

    from gatsby_mlx import cli

    path = tmp_path_factory.mktemp("corpus") / "stories"
    done = CliRunner().invoke(cli.main, ["write", "--n", "50", "--out", str(path)])
    assert done.exit_code == 0, done.output
    return path
