"""Weights stored as float32, float16 or bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from tvm import te, tirx

from handglass.runtime.bundle.bfloat16 import bfloat16_bits, bfloat16_values
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.select import ANY_CPU, PAIRS, Units, select

from ..ops.matmul import Dequantize
from .panels import panel_count, panels, rows_of
from .rounding import check_range
from .scheme import FLOAT_ARITHMETIC_DB, Arrays, Scheme
from .tiles import BFloat16Tiles

WEIGHTS = {"float16": "f16", "uint16": "bf16"}
"""Weight kinds of the kernel table, by stored dtype; all other types are read as float32."""


@dataclass(frozen=True)
class Plain:
    """One float per weight: float32, float16, or bfloat16 (as uint16 bits)."""

    name: str
    dtype: str
    cache_dtype: str
    floor_db: float
    units: Units = ANY_CPU

    codes: ClassVar[None] = None
    arithmetic_db: ClassVar[float] = FLOAT_ARITHMETIC_DB

    @property
    def weights(self) -> str:
        return WEIGHTS.get(self.dtype, "f32")

    def on(self, units: Units) -> Scheme:
        if select(units, self.weights).layout is PAIRS:
            return BFloat16Tiles(self.name, self.cache_dtype, self.floor_db, units)
        return replace(self, units=units)

    def depth(self, k: int) -> int:
        return k

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"weight": ((panel_count(n), k, LANES), self.dtype)}

    def pack(self, rows: np.ndarray) -> Arrays:
        if self.dtype == "uint16":
            values = bfloat16_bits(rows)
        else:
            check_range(rows, self.dtype)
            values = rows.astype(self.dtype)
        return {"weight": panels(values)}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        values = rows_of(parts["weight"], n)
        if self.dtype == "uint16":
            return bfloat16_values(values)
        return values.astype(np.float32)

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize | te.Tensor:
        (weight,) = parts
        if self.dtype == "float32":
            return weight
        if self.dtype == "float16":
            return lambda b, k, lane: weight[b, k, lane].astype("float32")
        half = tirx.const(16, "uint32")
        return lambda b, k, lane: tirx.reinterpret(
            "float32", weight[b, k, lane].astype("uint32") << half
        )
