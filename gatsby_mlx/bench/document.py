"""The document that a bench leaves: one JSON value with the machine, the versions and the results; and its table.

{"schema": "gatsby-mlx/bench/1", "created", "gatsby", "command", "machine": {...}, "halves": {"mlx", "torch"},
 "settings": {...}, "results": [{suite, name, unit, better, mlx, torch, ratio, drift, ...}]}
"""

import json
import os
import platform
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatsby_mlx import __version__, device
from gatsby_mlx.bench.work import Settings
from gatsby_mlx.device.blas import THREAD_VARIABLES, processors
from gatsby_mlx.device.doctor import platform_report
from gatsby_mlx.device.memory import command_output
from gatsby_mlx.errors import GatsbyError, UsageError

SCHEMA = "gatsby-mlx/bench/1"
SETTINGS_THAT_MATTER = ("OPENBLAS_", "OMP_", "MKL_", "GATSBY_BLAS", "MLX_", "PYTORCH_", "GOTO_")


def build(results: list[dict[str, Any]], halves: dict[str, Any], settings: Settings, command: str) -> dict[str, Any]:
    """Return the document of these results, measured on this machine just now."""
    return {
        "schema": SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "gatsby": __version__,
        "command": command,
        "machine": machine(),
        "halves": halves,
        "settings": asdict(settings),
        "results": results,
    }


def machine() -> dict[str, Any]:
    """Return what a reader needs to know of the machine; nothing that names its owner or its paths."""
    report = platform_report()
    chip = report.get("chip") or _linux_processor() or report["processor"]
    told = (*SETTINGS_THAT_MATTER, *THREAD_VARIABLES)
    variables = {k: v for k, v in sorted(os.environ.items()) if k.startswith(told)}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        **report,
        "chip": chip,
        "processors": processors(),
        "memory_bytes": device.memory_bytes()["total"],
        "python": platform.python_version(),
        "power": power(),
        "load_average": load,
        "environment": variables,
    }


def _linux_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def power() -> str:
    """Return where the power comes from and what saves it, as the system says; "" where it cannot be told.

    On macOS `pmset -g batt` and `pmset -g` (from its manual page; not run on a Mac).
    """
    if sys.platform == "darwin":
        source = command_output("pmset", "-g", "batt").splitlines()[:1]
        low = [line.strip() for line in command_output("pmset", "-g").splitlines() if "lowpowermode" in line]
        return "; ".join(" ".join(part.split()) for part in (*source, *low))
    found = [path.read_text().strip() for path in sorted(Path("/sys/class/power_supply").glob("A*/online"))]
    return {"1": "mains", "0": "battery"}.get(found[0], "") if found else ""


def read(path: Path) -> dict[str, Any]:
    """Return the document at `path`; raise UsageError for what is none, or is of another schema."""
    cure = "Make one with: gatsby bench train --out FILE"
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise GatsbyError(f"{path} cannot be read: {error.strerror}", cure) from None
    except ValueError as error:
        raise UsageError(f"{path} is no JSON document: {error}", cure) from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        told = f"{path} has schema {found!r}, and this version reads {SCHEMA!r}"
        raise UsageError(told, "Measure again with: gatsby bench all --out FILE")
    return content


def title(content: dict[str, Any]) -> str:
    """Return one line that tells a machine from another."""
    m, halves = content["machine"], content["halves"]
    system = f"macOS {m['macos']}" if m.get("macos") else f"{m['system']} {m['release']}"
    versions = ", ".join(f"{name} {told['versions'][name]} on {told['device']}" for name, told in halves.items())
    threads = f"{m['processors']} processors, {m['memory_bytes'] / 1e9:.0f} GB"
    return f"{m['chip']}, {threads}, {system}, Python {m['python']}; {versions}; {content['created']}"


def file_name(content: dict[str, Any]) -> str:
    """Return the machine's chip as a part of a file's name.

    >>> file_name({"machine": {"chip": "Apple M1 Max"}})
    'apple-m1-max'
    """
    return re.sub(r"[^a-z0-9]+", "-", content["machine"]["chip"].lower()).strip("-") or "machine"


RATIO = "MLX is so many times as good"
HEADER = ["measured", "unit", "MLX", "PyTorch", RATIO, "beside its own", "of the peak", "memory"]


def rows(content: dict[str, Any]) -> list[list[str]]:
    """Return the results as cells under HEADER; the interval of a ratio stands in brackets."""
    return [_row(result) for result in content["results"]]


def _row(result: dict[str, Any]) -> list[str]:
    share, memory, beside = _shares(result), result.get("peak_ratio"), result.get("beside")
    return [
        result["name"],
        result["unit"],
        figure(result["mlx"]["median"]),
        figure(result["torch"]["median"]) if result.get("torch") else "",
        interval(result["ratio"]) if result["ratio"] else "",
        f"{interval(beside)} of {beside['of']}" if beside else "",
        share,
        f"{memory:.2f}" if memory else "",
    ]


def _shares(result: dict[str, Any]) -> str:
    peak = result.get("matmul_gflop_s")
    return " / ".join(f"{100 * value / peak:.0f}%" for value in result["gflop_s"].values()) if peak else ""


def figure(value: float) -> str:
    """Return a number with three digits that count.

    >>> figure(1234.5), figure(0.01234)
    ('1,230', '0.0123')
    """
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interval(summary: dict[str, Any]) -> str:
    return f"{figure(summary['median'])} [{figure(summary['low'])} to {figure(summary['high'])}]"
