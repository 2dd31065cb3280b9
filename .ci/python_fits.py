"""Stop with one line, and the way out, where the project cannot run: a Python or a system. Runs on any Python 3."""

import platform
import subprocess
import sys

NATIVE = "brew install python@3.12, then make PYTHON=python3.12 (or: uv python install 3.12)"


def problem():
    """Return why this Python does not do here, or an empty string."""
    if sys.platform not in ("darwin", "linux"):
        return "MLX runs on macOS and Linux. On Windows, use WSL 2"
    if sys.platform == "darwin":
        found = mac_problem()
        if found:
            return found
    if sys.version_info < (3, 11):  # noqa: UP036  to say so is what this file is for
        found = ".".join(map(str, sys.version_info[:2]))
        told = "Python 3.11 or newer is needed, and this is " + found
        if sys.platform == "darwin":
            return told + " (Xcode's python3 is 3.9). Try: " + NATIVE
        return told + ". Try: make PYTHON=python3.12 (uv python install 3.12, or your system's package, brings one)"
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return "This Python cannot create environments. Install its venv package: apt-get install python3-venv"
    return ""


def mac_problem():
    """Return why MLX cannot run on this Mac or under this Python of it, or an empty string."""
    if platform.machine() == "x86_64":
        translated = subprocess.run(["sysctl", "-n", "sysctl.proc_translated"], capture_output=True, text=True)
        if translated.stdout.strip() == "1":
            return "This Python runs under Rosetta and cannot load MLX. Try: " + NATIVE
        return "MLX needs an Apple Silicon Mac (M1 or newer), and this one has an Intel processor"
    version = platform.mac_ver()[0]
    if version and int(version.split(".")[0]) < 14:
        told = "MLX needs macOS 14 or newer, and this is " + version
        return told + ". Try: System Settings > General > Software Update (every Mac with an M1 or newer can run 14)"
    return ""


if __name__ == "__main__":
    found = problem()
    if found:
        sys.exit("gatsby: " + found)
