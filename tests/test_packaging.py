"""What leaves this folder: a wheel that works by itself, and no trace of the machine it was made on."""

import importlib.util
import os
import platform
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def python_fits():
    spec = importlib.util.spec_from_file_location("python_fits", ROOT / ".ci" / "python_fits.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_python_fits(python_fits):
    assert python_fits.problem() == ""


def test_python_that_is_too_old_gets_the_way_out(python_fits, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    told = python_fits.problem()
    assert "3.9" in told
    assert "make PYTHON=python3.12" in told
    assert "\n" not in told


def mac(monkeypatch, version: str = "26.2", machine: str = "arm64", translated: str = "") -> None:
    """Let Python believe that it runs on a Mac."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: (version, ("", "", ""), machine))
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=translated))


@pytest.mark.parametrize(("answer", "told"), [("1\n", "Rosetta"), ("", "Apple Silicon"), ("0\n", "Apple Silicon")])
def test_python_on_an_intel_mac_or_under_rosetta_gets_its_reason(python_fits, monkeypatch, answer, told):
    mac(monkeypatch, machine="x86_64", translated=answer)
    assert told in python_fits.problem()
    assert told != "Rosetta" or "brew install python@3.12" in python_fits.problem()


@pytest.mark.parametrize(("version", "told"), [("13.6.7", "macOS 14"), ("14.0", ""), ("15.1", ""), ("26.2", "")])
def test_macos_is_new_enough_for_mlx_or_gets_the_way_out(python_fits, monkeypatch, version, told):
    mac(monkeypatch, version)
    found = python_fits.problem()
    assert bool(found) == bool(told)
    assert told in found
    assert not told or "Software Update" in found


def test_xcodes_python_gets_a_newer_one(python_fits, monkeypatch):
    mac(monkeypatch)
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    found = python_fits.problem()
    assert "Xcode" in found
    assert "brew install python@3.12" in found
    assert "apt-get" not in found


def test_other_systems_and_a_python_without_venv_get_their_reason(python_fits, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert "python3-venv" in python_fits.problem()
    monkeypatch.setattr(sys, "platform", "win32")
    assert "WSL" in python_fits.problem()


def test_old_pythons_can_read_the_file_that_refuses_them():
    import ast

    ast.parse((ROOT / ".ci" / "python_fits.py").read_text("utf-8"), feature_version=(3, 4))


def committed() -> list[Path]:
    """Return what git would commit: tracked files, and those that are new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [path for name in listed.stdout.split(b"\0") if name and (path := ROOT / os.fsdecode(name)).is_file()]


# A registry's or mirror's host, which a lock file or a pip line would bring in; then paths of a maker's machine.
HOSTS = re.compile(r"pypi\.org|pythonhosted|(?:--)?(?:extra-)?index-url|find-links|registry\.npmjs|artifactory", re.I)
PATHS = re.compile(r"(?<![\w.])/(?:work|root|Users|home)/[\w.-]+|/tmp/(?:v|bash_jobs)\b|/opt/(?:pypi|wheels)")


def test_no_committed_file_names_a_registry_or_a_path_of_this_machine():
    found = []
    for path in committed():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        here = [str(ROOT), str(Path("~").expanduser()) + "/"]
        for number, line in enumerate(text.splitlines(), 1):
            if HOSTS.search(line) or PATHS.search(line) or any(place in line for place in here):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found


DATA = (
    "evaluation/page.css",
    "evaluation/topics.json",
    "exhibit/lamp.json",
    "exhibit/page/api.html",
    "exhibit/page/exhibit.css",
    "exhibit/page/exhibit.js",
    "exhibit/page/follow.js",
    "exhibit/page/gallery.js",
    "exhibit/page/icon.svg",
    "exhibit/page/index.html",
    "exhibit/page/kept.js",
    "exhibit/page/kiosk.js",
    "exhibit/page/picture.js",
    "exhibit/page/story.js",
    "exhibit/page/stream.js",
    "house/names.txt",
    "house/forms.txt",
    "house/unknown.txt",
    "py.typed",
    "_shipped/corpus/raw.txt",
    "_shipped/corpus/manifest.json",
    "_shipped/checkpoints/small/config.json",
    "_shipped/checkpoints/small/model.safetensors",
    "_shipped/checkpoints/small/tokenizer.json",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the folder as it stands; hatchling comes from the `dev` group."""
    out = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    names = {n.removeprefix("gatsby_mlx/") for n in zipfile.ZipFile(wheel).namelist() if n.startswith("gatsby_mlx/")}
    assert set(DATA) <= names
    here = {p.relative_to(ROOT / "gatsby_mlx").as_posix() for p in committed() if p.is_relative_to(ROOT / "gatsby_mlx")}
    assert here <= names
    assert {n for n in names - here if not n.startswith("_shipped/")} == set()


@pytest.mark.slow
def test_installed_command_works_away_from_the_checkout(wheel, tmp_path):
    """In an environment of its own, which borrows this one's dependencies and nothing of ours."""
    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True, cwd=tmp_path)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def gatsby(*words: str, command: str = "gatsby") -> str:
        done = subprocess.run(
            [home / "bin" / command, *words], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [python, "-c", "import gatsby_mlx; print(gatsby_mlx.__file__)"]
    told = subprocess.run(where, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True).stdout
    assert Path(told).is_relative_to(home)
    assert "tell" in gatsby("--help")
    assert gatsby("--version", command="gatsby-mlx") == gatsby("--version")
    assert "_shipped/corpus/raw.txt: 4,000 stories" in gatsby("corpus", "show")
    assert "green light" in gatsby("tell", "a dog and a balloon", "--green", "5", "--seed", "1")
    gatsby("write", "--n", "5", "--out", "stories")
    assert (tmp_path / "stories" / "raw.txt").is_file()
    assert "GFLOP/s" in gatsby("doctor")
