"""Embedding lookup in a packed table."""

from tvm import te, tirx

from handglass.schedules.isa.register_tiles import LANES

from .matmul import Dequantize


def lookup(ids: te.Tensor, table: Dequantize | te.Tensor, width: int, scale: float) -> te.Tensor:
    """ids (s,) -> (s, width) float32, scaled by `scale`. The caller must check the range of ids."""
    read = (lambda b, k, lane: table[b, k, lane]) if isinstance(table, te.Tensor) else table
    factor = tirx.const(scale, "float32")
    return te.compute(
        (ids.shape[0], width),
        lambda i, k: read(ids[i] // LANES, k, ids[i] % LANES) * factor,
        name="embed",
    )
