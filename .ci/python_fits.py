"""Stop with one line, and the way out, under a Python that cannot run the project. Runs on any Python 3."""

import platform
import subprocess
import sys


def problem():
    """Return why this Python does not do, or an empty string."""
    if sys.version_info < (3, 11):  # noqa: UP036  to say so is what this file is for
        found = ".".join(map(str, sys.version_info[:2]))
        told = "Python 3.11 or newer is needed, and this is " + found
        return told + ". Try: make PYTHON=python3.12 (uv python install 3.12, or your system's package, brings one)"
    if sys.platform not in ("darwin", "linux"):
        return "MLX runs on macOS and Linux. On Windows, use WSL 2"
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        translated = subprocess.run(["sysctl", "-n", "sysctl.proc_translated"], capture_output=True, text=True)
        if translated.stdout.strip() == "1":
            return "This Python runs under Rosetta and cannot load MLX. Install an arm64 Python: uv python install 3.12"
        return "MLX needs an Apple Silicon Mac (M1 or newer), and this one has an Intel processor"
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return "This Python cannot create environments. Install its venv package: apt-get install python3-venv"
    return ""


if __name__ == "__main__":
    found = problem()
    if found:
        sys.exit("gatsby: " + found)
