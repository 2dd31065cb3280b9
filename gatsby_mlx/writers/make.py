"""From a spec to its writer."""

from collections.abc import Collection

from gatsby_mlx.writers.base import Writer
from gatsby_mlx.writers.house import PLAIN, SMALL, WHOLE, World
from gatsby_mlx.writers.specs import ModelSpec, ServerSpec, Spec


def make(spec: Spec) -> Writer:
    """Return the writer that `spec` describes; nothing is loaded before its `with` block."""
    if isinstance(spec, ModelSpec):
        from gatsby_mlx.writers.mlx_lm import MLXWriter

        return MLXWriter(spec)
    if isinstance(spec, ServerSpec):
        from gatsby_mlx.writers.server import ServerWriter

        return ServerWriter(spec)
    from gatsby_mlx.writers.embedded import HouseWriter

    return HouseWriter(world([spec]), spec.name)


def world(specs: Collection[Spec]) -> World:
    """Return the world that the topics and names of a blend come from: a smaller one if one of those writes alone."""
    smaller = {"house-plain": PLAIN, "house-small": SMALL}
    name, *more = (spec.name for spec in specs)
    return WHOLE if more else smaller.get(name, WHOLE)
