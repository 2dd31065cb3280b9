"""The document that a bench writes, one JSON value with the machine, the versions and the results; and its table.

{"schema": "gatsby-mlx/bench/1", "created", "gatsby", "command", "machine": {...}, "halves": {"mlx", "torch"},
 "settings": {...}, "results": [{suite, name, unit, better, mlx, torch, ratio, drift, ...}]}
"""

import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from gatsby_mlx import __version__, device
from gatsby_mlx.bench.work import Settings
from gatsby_mlx.device import arithmetic
from gatsby_mlx.device.blas import THREAD_VARIABLES, processors
from gatsby_mlx.device.doctor import platform_report, power
from gatsby_mlx.errors import GatsbyError, UsageError

SCHEMA = "gatsby-mlx/bench/1"
VARIABLES = ("OPENBLAS_", "OMP_", "MKL_", "GATSBY_BLAS", "MLX_", "PYTORCH_", "GOTO_")


def build(results: list[dict[str, Any]], peers: dict[str, Any], settings: Settings, command: str) -> dict[str, Any]:
    """Return the document of results that were just measured on this machine."""
    return {
        "schema": SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "gatsby": __version__,
        "command": command,
        "machine": machine(),
        "halves": peers,
        "settings": settings.to_json(),
        "results": results,
    }


def machine() -> dict[str, Any]:
    """Return what a reader needs to know about the machine, and nothing that identifies its owner or its paths."""
    report = platform_report()
    chip = report.get("chip") or _linux_processor() or report["processor"]
    prefixes = (*VARIABLES, *THREAD_VARIABLES)
    variables = {k: v for k, v in sorted(os.environ.items()) if k.startswith(prefixes)}
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


def read(path: Path) -> dict[str, Any]:
    """Return the document at `path`. Raise GatsbyError if it cannot be read, UsageError if it has another schema."""
    hint = "Make one with: gatsby bench train --out FILE"
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise GatsbyError(f"{path} cannot be read: {error.strerror}", hint) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a JSON document: {error}", hint) from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        message = f"{path} has schema {schema!r}, and this version reads {SCHEMA!r}"
        raise UsageError(message, "Measure again with: gatsby bench all --out FILE")
    return content


def title(content: dict[str, Any]) -> str:
    """Return one line that identifies the machine and the versions."""
    m, peers = content["machine"], content["halves"]
    system = f"macOS {m['macos']}" if m.get("macos") else f"{m['system']} {m['release']}"
    versions = ", ".join(f"{name} {peer['versions'][name]} on {peer['device']}" for name, peer in peers.items())
    bits = peers["mlx"].get("product_bits")
    versions += f"; MLX's products in {arithmetic.NAMES[bits]}" if bits in arithmetic.NAMES else ""
    size = f"{m['processors']} processors, {m['memory_bytes'] / 1e9:.0f} GB"
    return f"{m['chip']}, {size}, {system}, Python {m['python']}; {versions}; {content['created']}"


def file_name(content: dict[str, Any]) -> str:
    """Return the machine's chip as a part of a file name.

    >>> file_name({"machine": {"chip": "Apple M1 Max"}})
    'apple-m1-max'
    """
    return re.sub(r"[^a-z0-9]+", "-", content["machine"]["chip"].lower()).strip("-") or "machine"


HEADER = ["measured", "unit", "MLX", "PyTorch", "MLX over PyTorch", "compared", "of the peak", "memory"]


def table_rows(content: dict[str, Any]) -> list[list[str]]:
    """Return the results as cells under HEADER, the interval of a ratio in brackets."""
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
    """Return a number with three significant digits.

    >>> figure(1234.5), figure(0.01234)
    ('1,230', '0.0123')
    """
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interval(summary: dict[str, Any]) -> str:
    """Return a summary as its median and the interval in brackets."""
    return f"{figure(summary['median'])} [{figure(summary['low'])} to {figure(summary['high'])}]"
