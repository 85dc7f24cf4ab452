"""4-bit weights in groups of 32, dequantized to float32 in the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.select import ANY_CPU, Layout, Units, select

from ..ops.matmul import Dequantize
from .panels import panel_count, panels, rows_of
from .rounding import GROUP, quantize_groups
from .scheme import (
    BFLOAT16_ARITHMETIC_DB,
    FLOAT_ARITHMETIC_DB,
    Arrays,
    Scheme,
    has_tile_attention,
)

WORD = 4
"""Bytes in a uint32."""


@dataclass(frozen=True)
class Grouped4Bit:
    """4-bit codes with a float16 scale per 32 consecutive inputs: (q - 8) * scale, q in 0..15.

    A byte holds inputs r (low nibble) and r + 16 (high nibble) of a group. On a GPU, the bytes of
    four outputs form one uint32.
    """

    name: str
    cache_dtype: str = "float16"
    floor_db: float = 10.0
    units: Units = ANY_CPU

    weights: ClassVar[str] = "int4"
    codes: ClassVar[None] = None

    @property
    def arithmetic_db(self) -> float:
        """Attention may be in bfloat16."""
        return BFLOAT16_ARITHMETIC_DB if has_tile_attention(self) else FLOAT_ARITHMETIC_DB

    @property
    def layout(self) -> Layout:
        return select(self.units, self.weights).layout

    def on(self, units: Units) -> Scheme:
        return replace(self, units=units)

    def depth(self, k: int) -> int:
        return self.layout.padded(k)

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        count, depth = panel_count(n), self.depth(k)
        lanes = (LANES // WORD, "uint32") if self.layout.words else (LANES, "uint8")
        return {
            "weight": ((count, depth // 2, lanes[0]), lanes[1]),
            "scale": ((count, depth // GROUP, LANES), "float16"),
        }

    def pack(self, rows: np.ndarray) -> Arrays:
        n, k = rows.shape
        padded = np.pad(rows, ((0, 0), (0, self.depth(k) - k)))
        q, scale = quantize_groups(padded.reshape(n, -1, GROUP))
        packed = q[..., : GROUP // 2] | q[..., GROUP // 2 :] << 4  # (n, groups, 16)
        weight = panels(packed.reshape(n, -1), fill=0x88)
        weight = weight.view("<u4") if self.layout.words else weight
        return {"weight": weight, "scale": panels(scale)}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        weight = np.ascontiguousarray(parts["weight"]).view(np.uint8)
        packed = rows_of(weight, n).reshape(n, -1, GROUP // 2)
        scale = rows_of(parts["scale"], n).astype(np.float32)[..., None]
        codes = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.float32) - 8
        return (codes * scale).reshape(n, -1)[:, :k]

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize | te.Tensor:
        weight, scale = parts
        half = GROUP // 2

        def value(b: Expr, k: Expr, lane: Expr) -> Expr:
            row, shift = k // GROUP * half + k % half, k % GROUP // half * 4
            if self.layout.words:
                stored, shift = weight[b, row, lane // WORD], shift + lane % WORD * 8
            else:
                stored = weight[b, row, lane]
            # int32 even if k is int64: wider lanes would halve the speed of the kernel
            nibble = (stored.astype("int32") >> shift.astype("int32")) & tirx.const(15, "int32")
            return (nibble - 8).astype("float32") * scale[b, k // GROUP, lane].astype("float32")

        return value
