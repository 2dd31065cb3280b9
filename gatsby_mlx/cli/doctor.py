"""`gatsby doctor`."""

import json

import click

from gatsby_mlx.cli.console import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show what this machine has and what slows it down.

    \b
    Examples:
      gatsby doctor
      gatsby doctor --json | jq .advice
    """
    from gatsby_mlx import device

    report = device.machine()
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    click.echo(render(report))


def render(report: dict) -> str:
    """Return the report of `device.machine` as text."""
    platform, blas, speed, compiler = (report[k] for k in ("platform", "blas", "measured_gflop_s", "compiler"))
    system = platform.get("chip") or platform["processor"]
    release = f"macOS {platform['macos']}" if platform.get("macos") else f"{platform['system']} {platform['release']}"
    memory = report["memory"]
    rows = [
        ("machine", f"{system}, {release}, Python {report['python']}"),
        ("device", describe_device(report)),
        ("products", describe_products(report["products"])),
        ("blas", f"{blas['name']} ({blas['how']}) {blas['path']}".rstrip()),
        ("", " ".join(filter(None, [blas["version"], f"{blas['threads']} threads" if blas["threads"] else ""]))),
        ("speed", f"{speed['median']} GFLOP/s in float32 ({speed['low']} to {speed['high']}, {speed['product']})"),
        ("memory", f"{memory['available'] / 1e9:.1f} GB free of {memory['total'] / 1e9:.1f} GB"),
        ("limits", describe_limits(report["limits"])),
        ("disk", f"{report['disk']['free'] / 1e9:.1f} GB free here"),
        ("power", report["power"]),
        ("compiler", f"{compiler['version'] or 'built in'}, mx.compile {'works' if compiler['works'] else 'does not'}"),
    ]
    lines = [f"{name:9} {value}" for name, value in rows if value]
    advice = report["advice"] or ["nothing slow is in use"]
    return "\n".join(lines + [""] + [f"- {line}" for line in advice])


def describe_device(report: dict) -> str:
    """Return whether MLX uses the GPU or the CPU, and of a GPU its name and memory."""
    device, limit = report["device"], report["limits"]["gpu"]
    words = f"MLX {report['mlx']} uses the {device['kind'].upper()}"
    if device["kind"] == "cpu":
        slow = ", which is slow on a Mac" if report["platform"].get("macos") else ""
        return words + slow
    return f"{words}, {device.get('device_name', 'unnamed')}, and may use {limit / 1e9:.1f} GB"


def describe_products(products: dict) -> str:
    """Return the arithmetic of float32 products, and how to choose the other one where there are two."""
    if products["name"] == "float32":
        return "float32 keeps all of its 23 bits"
    return f"{products['name']}: float32 factors keep {products['bits']} bits; MLX_ENABLE_TF32=0 keeps all 23, slower"


def describe_limits(limits: dict) -> str:
    """Return the limits on a GPU's memory, "" on a CPU."""
    if limits["cache"] is None:
        return ""
    line = f"MLX keeps at most {limits['cache'] / 1e9:.1f} GB of freed memory"
    if limits["iogpu_wired"] is None:
        return line
    set_by = f"{limits['iogpu_wired'] / 1e9:.1f} GB by iogpu.wired_limit_mb" if limits["iogpu_wired"] else "macOS's own"
    return f"{line}; the GPU's limit is {set_by}; nothing is wired but with gatsby write --wired"
