"""The model. Importing this package puts a fast BLAS in place, which must happen before `mlx.core` is loaded."""

from gatsby_mlx import device

device.prepare()
device.keep_pages()
