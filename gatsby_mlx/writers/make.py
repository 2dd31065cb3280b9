"""From a spec to its writer."""

from gatsby_mlx.writers.base import Writer
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

    return HouseWriter()
