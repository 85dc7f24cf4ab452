"""bfloat16 weights in the order of AMX tile registers; the one-row kernel reads them as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from tvm import te
from tvm.ir import Expr

from handglass.runtime.bundle.bfloat16 import bfloat16_bits, bfloat16_values
from handglass.schedules.isa.amx_instructions import BFLOAT16, half_of_word
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.select import Units

from ..ops.matmul import Dequantize
from .panels import panel_count
from .scheme import BFLOAT16_ARITHMETIC_DB, Arrays, Scheme

PAIR = BFLOAT16.pair


@dataclass(frozen=True)
class BFloat16Tiles:
    """(panels, steps, 16, 16) uint32; word q holds inputs 2q (lower half) and 2q + 1."""

    name: str
    cache_dtype: str
    floor_db: float
    units: Units

    codes: ClassVar[None] = None
    weights: ClassVar[str] = "bf16"
    arithmetic_db: ClassVar[float] = BFLOAT16_ARITHMETIC_DB

    def on(self, units: Units) -> Scheme:
        return replace(self, units=units)

    def depth(self, k: int) -> int:
        return -(-k // BFLOAT16.inputs) * BFLOAT16.inputs

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        steps = self.depth(k) // BFLOAT16.inputs
        return {"weight": ((panel_count(n), *BFLOAT16.weight_shape(steps)), BFLOAT16.weight)}

    def pack(self, rows: np.ndarray) -> Arrays:
        n, k = rows.shape
        bits = np.zeros((panel_count(n) * LANES, self.depth(k)), np.uint16)
        bits[:n, :k] = bfloat16_bits(rows)
        pairs = bits.reshape(-1, LANES, bits.shape[1] // BFLOAT16.inputs, *BFLOAT16.places, PAIR)
        tiles = np.ascontiguousarray(pairs.transpose(0, 2, 3, 1, 4))  # (panels, steps, 16, 16, 2)
        return {"weight": tiles.view("<u4")[..., 0]}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        words = np.ascontiguousarray(parts["weight"])
        pairs = words.view("<u2").reshape(*words.shape, PAIR).transpose(0, 3, 1, 2, 4)
        bits = pairs.reshape(words.shape[0] * LANES, -1)[:n, :k]
        return bfloat16_values(bits)

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize:
        (weight,) = parts
        inputs = BFLOAT16.inputs

        def value(b: Expr, k: Expr, lane: Expr) -> Expr:
            word = weight[b, k // inputs, k % inputs // PAIR, lane]
            return half_of_word(word, k % PAIR)

        return value
