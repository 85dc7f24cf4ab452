"""8-bit weights with a scale per output, converted to float32 in the kernel: for rows that are not
rounded to integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import te

from handglass.schedules.isa.register_tiles import LANES

from ..ops.matmul import Dequantize
from .panels import panel_count, panels, rows_of
from .plain import Plain
from .rounding import quantize_rows
from .scheme import Arrays


class ByteRows(Plain):
    """A weight is code * scale, with codes in -127..127 in panels as in `Plain`."""

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        return {**super().shapes(n, k), "scale": ((panel_count(n), 1, LANES), "float32")}

    def pack(self, rows: np.ndarray) -> Arrays:
        codes, scale = quantize_rows(rows)
        return {"weight": panels(codes), "scale": panels(scale[:, None])}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        return super().unpack(parts, n, k) * rows_of(parts["scale"], n)

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize:
        weight, scale = parts
        return lambda b, k, lane: weight[b, k, lane].astype("float32") * scale[b, 0, lane]
