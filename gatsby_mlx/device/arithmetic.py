"""Which arithmetic MLX uses for float32 products here: all of float32's 23 bits, or TF32's ten."""

FLOAT32_BITS, TF32_BITS = 23, 10
NAMES = {FLOAT32_BITS: "float32", TF32_BITS: "TF32"}


def product_bits() -> int:
    """Return how many bits of mantissa a float32 product keeps of its factors on MLX's device: 23, or 10 for TF32.

    It is measured: 1 + 2**-12 times 1 is 1 where ten bits are kept. MLX 0.32 uses TF32 on an M5 with macOS 26.2 and on
    NVIDIA GPUs, unless MLX_ENABLE_TF32 is 0. Products with a single row keep all bits.
    """
    from gatsby_mlx.device.blas import prepare

    prepare()
    import mlx.core as mx

    product = mx.full((256, 256), 1 + 2.0**-12) @ mx.eye(256)
    return FLOAT32_BITS if bool((product > 1).all()) else TF32_BITS
