"""What the models of a blend need, and whether this machine has it: disk and memory, before any download."""

from collections.abc import Mapping
from dataclasses import dataclass

from gatsby_mlx.device.memory import memory_bytes, working_set_bytes
from gatsby_mlx.errors import WriterError
from gatsby_mlx.writers import local_models
from gatsby_mlx.writers.specs import FOUR, ModelSpec, Spec

MEMORY_SHARE = 0.85  # of what a model leaves free, for stories; the rest is for activations and other programs
UNWIRED_SHARE = 0.6  # of the same with Metal, where the wired limit is off: macOS may move what is not resident


@dataclass(frozen=True)
class Needs:
    """What one model needs: bytes to download, and bytes of memory to write one story at a time.

    `origin` says where its files are ("folder", "hub" or "LM Studio"; "" if they must be downloaded), `weight_bytes`
    how large its weights are on disk.
    """

    download_bytes: int
    memory_bytes: int
    origin: str
    weight_bytes: int


def needs(spec: ModelSpec) -> Needs:
    """Return what `spec` needs. Raises WriterError if its folder holds no model or the hub cannot be reached."""
    local = local_models.locate(spec)
    size = local_models.size_bytes(local.folder) if local else local_models.download_bytes(spec)
    return Needs(
        0 if local else size,
        memory_of(size, spec.story_bytes(), story_share(usable_bytes()[1])),
        local.origin if local else "",
        size,
    )


def story_share(metal: bool, wired: bool = False) -> float:
    """Return the share of what a model leaves free that its stories may take."""
    return UNWIRED_SHARE if metal and not wired else MEMORY_SHARE


def memory_of(size_bytes: int, story_bytes: int, share: float) -> int:
    """Return the bytes of memory that a model with `size_bytes` of weights needs to write one story at a time.

    The one rule for a model that is not here yet and for a loaded one, whose sizes are measured.
    """
    return size_bytes + int(story_bytes / share)


def fitting_batch(free_bytes: int, story_bytes: int, most: int, share: float) -> int:
    """Return how many stories fit into what a loaded model leaves free, 0 to `most`."""
    return min(most, int(share * free_bytes / story_bytes)) if story_bytes else most


def usable_bytes() -> tuple[int, bool]:
    """Return the bytes of memory that a model may use, and whether this is Metal's limit (else: free memory)."""
    limit = working_set_bytes()
    return (limit, True) if limit else (memory_bytes()["available"], False)


def check(specs: Mapping[str, Spec], shares: Mapping[str, float]) -> dict[str, Needs]:
    """Return what each model of a blend needs.

    Raises WriterError if a model does not fit into memory, with a blend that does, or if the disk has too little space.
    """
    models = {name: spec for name, spec in specs.items() if isinstance(spec, ModelSpec)}
    needed = {name: needs(spec) for name, spec in models.items()}
    usable, metal = usable_bytes()
    too_large = [name for name, need in needed.items() if need.memory_bytes > usable]
    if usable and too_large:
        name, n_bytes = too_large[0], needed[too_large[0]].memory_bytes
        rest = {n: share for n, share in shares.items() if n not in too_large and (n in FOUR or n == "house")}
        total = sum(rest.values())
        blend = ",".join(f"{n}={share / total:.2g}" for n, share in rest.items()) or "house"
        message = f"{name} needs {n_bytes / 1e9:.1f} GB of memory, and {usable / 1e9:.1f} GB may be used here"
        raise WriterError(message, f"Try --blend {blend}" + (_raise_limit(n_bytes) if metal else _CLOSE_OTHERS))
    for name, spec in models.items():
        if needed[name].download_bytes:
            local_models.check_disk(spec, needed[name].download_bytes)
    return needed


_CLOSE_OTHERS = ", or close other programs"


def _raise_limit(n_bytes: int) -> str:
    """Return how to raise Metal's memory limit, for a hint; "" if the Mac has too little memory for that."""
    total, megabytes = memory_bytes()["total"], int(n_bytes * 1.1) >> 20
    if total < n_bytes * 1.2:
        return ""
    command = f"sudo sysctl iogpu.wired_limit_mb={megabytes}"
    return f", or raise the limit that macOS sets for the GPU: {command} (until the next start)"
