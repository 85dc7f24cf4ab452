"""Weights for integer matmuls: 4 bits in groups of 32, or 7 or 8 bits with a scale per output row.

The multiply instruction determines the layout (schedules/isa/integer_isa.py), so a bundle is packed
for its target. The same packing serves one row (decode) and many rows (prefill, vision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.integer_isa import CHUNK_STEPS, GROUP, Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.select import ANY_CPU, Layout, Units, select

from ..ops.matmul import Dequantize
from .panels import panel_count, panels, rows_of
from .rounding import quantize_groups, quantize_rows
from .scheme import INTEGER_ARITHMETIC_DB, Arrays, Scheme


@dataclass(frozen=True)
class Integer:
    """A weight is (code - zero) * scale; the scale is float16 per group or float32 per output.

    `bits=7` stores bytes with codes in -63..63. AVX2 is faster with these, as the sum of two
    products cannot overflow 16 bits.
    """

    name: str
    bits: int
    floor_db: float
    cache_dtype: str = "float16"
    units: Units = ANY_CPU
    arithmetic_db: ClassVar[float] = INTEGER_ARITHMETIC_DB

    def on(self, units: Units) -> Scheme:
        return replace(self, units=units)

    @property
    def weights(self) -> str:
        return f"int{self.bits}a8"

    @property
    def codes(self) -> Codes:
        return self.units.integers.codes(self.bits)

    @property
    def layout(self) -> Layout:
        return select(self.units, self.weights).layout

    def depth(self, k: int) -> int:
        return self.layout.padded(k)

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        codes, count, depth = self.codes, panel_count(n), self.depth(k)
        groups, dtype = (depth // GROUP, "float16") if self.bits == 4 else (1, "float32")
        bytes_ = ((), "uint32") if self.layout.words else ((codes.step,), codes.dtype)
        place = (count, depth // codes.chunk, CHUNK_STEPS, LANES)
        return {
            "weight": ((*place, *bytes_[0]), bytes_[1]),
            "scale": ((count, groups, LANES), dtype),
        }

    def pack(self, rows: np.ndarray) -> Arrays:
        n, k = rows.shape
        padded = np.pad(rows, ((0, 0), (0, self.depth(k) - k)))
        if self.bits != 4:
            q, scale = quantize_rows(padded, 127 if self.bits == 8 else 63)
            return {"weight": self._lay(self._store(q)), "scale": panels(scale[:, None])}
        q, scale = quantize_groups(padded.reshape(n, -1, GROUP))
        stored = self._store(q.astype(np.int8) - 8) & 15  # (n, groups, 32)
        low, high = np.split(stored.astype(np.uint8), 2, axis=-1)
        return {"weight": self._lay((low | high << 4).reshape(n, -1)), "scale": panels(scale)}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        stored = self._collect(parts["weight"], n)
        scale = rows_of(parts["scale"], n).astype(np.float32)[..., None]  # (n, groups, 1)
        if self.bits == 4:
            halves = stored.reshape(n, -1, GROUP // 2)
            stored = np.concatenate([halves & 15, halves >> 4], axis=-1)
        return (self._load(stored).reshape(*scale.shape[:2], -1) * scale).reshape(n, -1)[:, :k]

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize:
        weight, scale = parts
        codes, words = self.codes, self.layout.words
        size = GROUP if self.bits == 4 else None
        half = codes.chunk // codes.halves

        def value(b: Expr, k: Expr, lane: Expr) -> Expr:
            place = k % codes.chunk
            v, e, high = place % half // codes.step, place % codes.step, place // half
            at = (b, k // codes.chunk, v, lane)
            number = self._of_word(weight[at], e, high) if words else byte(at, e, high)
            unit = tirx.const(1.0 if words else 1.0 / codes.magnify, "float32")
            factor = scale[b, k // size if size else 0, lane].astype("float32")
            return number.astype("float32") * (factor * unit)

        def byte(at: tuple[Expr, ...], e: Expr, high: Expr) -> Expr:
            whole = (*at, e)
            code = codes.nibble(weight[whole], high) if self.bits == 4 else weight[whole]
            return code.astype("int32") - tirx.const(codes.zero, "int32")

        return value

    def _of_word(self, word: Expr, e: Expr, high: Expr) -> Expr:
        """Extract a code from a uint32 and sign-extend it."""
        width = 4 if self.bits == 4 else 8
        right = (e * 8 + high * 4).astype("int32")
        code = (tirx.reinterpret("int32", word) >> right) & tirx.const((1 << width) - 1, "int32")
        sign = tirx.const(1 << (width - 1), "int32")
        return (code ^ sign) - sign

    def _store(self, q: np.ndarray) -> np.ndarray:
        """Signed codes -> codes as stored, with the zero point added."""
        return (q.astype(np.int16) + self.codes.zero).astype(self.codes.dtype)

    def _load(self, stored: np.ndarray) -> np.ndarray:
        """The inverse of `_store`, in float32; signed nibbles are sign-extended."""
        codes = stored.astype(np.float32) - np.float32(self.codes.zero)
        return np.where(codes > 7, codes - 16, codes) if self.bits == 4 else codes

    def _lay(self, stored: np.ndarray) -> np.ndarray:
        """(n, bytes) -> (panels, chunks, 4, 16[, step]); padding outputs have weight 0."""
        n, width = stored.shape
        step = self.codes.step
        empty = self.codes.zero * (0x11 if self.bits == 4 else 1)
        rows = np.full((panel_count(n) * LANES, width), empty, stored.dtype)
        rows[:n] = stored
        split = rows.reshape(-1, LANES, width // (CHUNK_STEPS * step), CHUNK_STEPS, step)
        laid = np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4))
        return laid.view("<u4")[..., 0] if self.layout.words else laid

    def _collect(self, weight: np.ndarray, n: int) -> np.ndarray:
        """The inverse of `_lay`."""
        if self.layout.words:
            words = np.ascontiguousarray(weight)[..., None]
            weight = words.view("<u4").view(self.codes.dtype)
        panel_rows = weight.transpose(0, 3, 1, 2, 4)
        return np.ascontiguousarray(panel_rows).reshape(weight.shape[0] * LANES, -1)[:n]
