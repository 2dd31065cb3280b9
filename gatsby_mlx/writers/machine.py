"""What a blend asks of this machine before anything is downloaded: disk, memory, time."""

from collections.abc import Mapping
from dataclasses import dataclass

from gatsby_mlx.device.memory import memory_bytes
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import models
from gatsby_mlx.writers.specs import FOUR, ModelSpec, Spec

STORY_TOKENS = 640  # prompt and story
OVERHEAD = 1.1  # of the weights, when loaded


@dataclass(frozen=True)
class Needs:
    """What a model needs: bytes to download, bytes of memory to write one story at a time, and where it was found.

    `weight_bytes` is the size of its weights on disk.
    """

    download_bytes: int
    memory_bytes: int
    found: str
    weight_bytes: int


def needs(spec: ModelSpec) -> Needs:
    """Return what `spec` needs on this machine. Raises WriterError (no model there; the hub cannot be asked)."""
    found = models.locate(spec)
    size = models.size_bytes(found.folder) if found else models.download_bytes(spec)
    memory = int(OVERHEAD * size + 2 * STORY_TOKENS * spec.kv_bytes)
    return Needs(0 if found else size, memory, found.how if found else "", size)


def usable_bytes() -> tuple[int, bool]:
    """Return how much memory a model may use here, and whether that is Metal's limit (else: what is available)."""
    from gatsby_mlx.writers.mlx_lm import working_set_bytes

    limit = working_set_bytes()
    return (limit, True) if limit else (memory_bytes()["available"], False)


def check(specs: Mapping[str, Spec], shares: Mapping[str, float]) -> dict[str, Needs]:
    """Return what each model of a blend needs; raise WriterError, naming a blend that fits, if one does not fit."""
    told = {name: needs(spec) for name, spec in specs.items() if isinstance(spec, ModelSpec)}
    usable, metal = usable_bytes()
    large = [name for name, need in told.items() if need.memory_bytes > usable]
    if usable and large:
        name, need = large[0], told[large[0]].memory_bytes
        rest = {n: share for n, share in shares.items() if n not in large and (n in FOUR or n == "house")}
        total = sum(rest.values())
        fits = ",".join(f"{n}={share / total:.2g}" for n, share in rest.items()) or "house"
        why = f"{name} needs {need / 1e9:.1f} GB of memory, and {usable / 1e9:.1f} GB may be used here"
        raise WriterError(why, f"Try --blend {fits}" + (_wired(need) if metal else ", or close other programs"))
    for spec in specs.values():
        if isinstance(spec, ModelSpec) and told[spec.name].download_bytes:
            models.check_disk(spec, told[spec.name].download_bytes)
    return told


def _wired(need: int) -> str:
    """Say how the limit of Metal's working set is moved (until the next start), where the Mac has the memory."""
    total, megabytes = memory_bytes()["total"], int(need * 1.1) >> 20
    if total < need * 1.2:
        return ""
    told = f", or raise the limit that macOS sets for the GPU: sudo sysctl iogpu.wired_limit_mb={megabytes}"
    return told + " (until the next start)"
