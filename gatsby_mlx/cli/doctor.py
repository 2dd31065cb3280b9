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
        ("device", f"{report['device']['kind'].upper()}, MLX {report['mlx']}"),
        ("blas", f"{blas['name']} ({blas['how']}) {blas['path']}".rstrip()),
        ("", " ".join(filter(None, [blas["version"], f"{blas['threads']} threads" if blas["threads"] else ""]))),
        ("speed", f"{speed['median']} GFLOP/s in float32 ({speed['low']} to {speed['high']}, {speed['product']})"),
        ("memory", f"{memory['available'] / 1e9:.1f} GB free of {memory['total'] / 1e9:.1f} GB"),
        ("compiler", f"{compiler['version'] or 'built in'}, mx.compile {'works' if compiler['works'] else 'does not'}"),
    ]
    lines = [f"{name:9} {value}" for name, value in rows if value]
    advice = report["advice"] or ["nothing slow is in use"]
    return "\n".join(lines + [""] + [f"- {line}" for line in advice])
