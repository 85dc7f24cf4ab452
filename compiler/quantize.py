"""How a weight matrix is stored: packed in panels of 16 output columns, and read back in a kernel.

A `Scheme` packs float32 rows (out, in) into arrays, and says as a tensor expression how one value
is read from them. Arithmetic is float32 whatever the storage. Adding a scheme: one class that has
the methods of `Scheme`, one line in `SCHEMES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr

from handglass.errors import UsageError
from handglass.schedules.cpu_matmul import LANES

from .ops.matmul import Dequantize

GROUP = 32
Arrays = Mapping[str, np.ndarray]


class Scheme(Protocol):
    """Storage of one weight matrix (out_features n, in_features k)."""

    @property
    def name(self) -> str: ...

    @property
    def cache_dtype(self) -> str:
        """What keys and values are stored in beside weights of this scheme."""

    @property
    def floor_db(self) -> float:
        """Least signal to noise that a stage must keep against float32, for `verify`."""

    def depth(self, k: int) -> int:
        """k rounded up to what the packing holds; the rest is zero."""

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """name of a part -> (shape, dtype) of its array."""

    def pack(self, rows: np.ndarray) -> Arrays:
        """float32 (n, k) -> the arrays that `shapes` announces."""

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        """What `pack` kept of the float32 rows (n, k), for `verify`."""

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize | te.Tensor:
        """The parts, in the order of `shapes` -> float32 value at (panel, k, lane)."""


@dataclass(frozen=True)
class Plain:
    """One number per weight: float32, float16, or bfloat16 as the upper half of a float32."""

    name: str
    dtype: str
    cache_dtype: str
    floor_db: float

    def depth(self, k: int) -> int:
        return k

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"weight": ((_panel_count(n), k, LANES), self.dtype)}

    def pack(self, rows: np.ndarray) -> Arrays:
        if self.dtype == "uint16":
            values = bfloat16_bits(rows)
        else:
            _check_range(rows, self.dtype)
            values = rows.astype(self.dtype)
        return {"weight": panels(values)}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        values = rows_of(parts["weight"], n)
        if self.dtype == "uint16":
            return (values.astype(np.uint32) << 16).view(np.float32)
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


@dataclass(frozen=True)
class Grouped4Bit:
    """4 bits and a float16 scale per 32 neighbours along the input: (q - 8) * scale, q in 0..15.

    A byte holds positions r and r + 16 of a group, low nibble first.
    """

    name: str
    cache_dtype: str = "float16"
    floor_db: float = 10.0

    def depth(self, k: int) -> int:
        return -(-k // GROUP) * GROUP

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        count, depth = _panel_count(n), self.depth(k)
        return {
            "weight": ((count, depth // 2, LANES), "uint8"),
            "scale": ((count, depth // GROUP, LANES), "float16"),
        }

    def pack(self, rows: np.ndarray) -> Arrays:
        n, k = rows.shape
        padded = np.pad(rows, ((0, 0), (0, self.depth(k) - k)))
        q, scale = quantize_groups(padded.reshape(n, -1, GROUP))
        packed = q[..., : GROUP // 2] | q[..., GROUP // 2 :] << 4  # (n, groups, 16)
        return {"weight": panels(packed.reshape(n, -1), fill=0x88), "scale": panels(scale)}

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        packed = rows_of(parts["weight"], n).reshape(n, -1, GROUP // 2)
        scale = rows_of(parts["scale"], n).astype(np.float32)[..., None]
        codes = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.float32) - 8
        return (codes * scale).reshape(n, -1)[:, :k]

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize | te.Tensor:
        weight, scale = parts
        half = GROUP // 2

        def value(b: Expr, k: Expr, lane: Expr) -> Expr:
            byte = weight[b, k // GROUP * half + k % half, lane].astype("int32")
            # int32 also where k counts in int64: wider lanes halve the speed of the whole kernel
            shift = (k % GROUP // half * 4).astype("int32")
            nibble = (byte >> shift) & tirx.const(15, "int32")
            return (nibble - 8).astype("float32") * scale[b, k // GROUP, lane].astype("float32")

        return value


# Floors are what storage may cost. Measured on random weights, 2 to 52 layers, and on a trained
# model: f32 107 to 130 dB, f16 59 to 69, bf16 41 to 51, w4 13 to 28, by stage.
SCHEMES: dict[str, Scheme] = {
    "f32": Plain("f32", "float32", "float32", floor_db=80.0),
    "f16": Plain("f16", "float16", "float16", floor_db=50.0),
    "bf16": Plain("bf16", "uint16", "float16", floor_db=33.0),
    "w4": Grouped4Bit("w4"),
}


def find_scheme(name: str) -> Scheme:
    """The scheme of this name, or a UsageError that lists them."""
    if name not in SCHEMES:
        raise UsageError(f"unknown quantization '{name}'; known are {', '.join(SCHEMES)}")
    return SCHEMES[name]


def quantize_groups(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 32) float32 -> codes uint8 in 0..15 of the same shape, scales float16 (...,).

    The value of largest magnitude is given the code -8, since there are more negative codes than
    positive ones; then the scale is refitted by least squares to the codes and these rounded again.
    """
    peak = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    codes = _round(groups, peak / -8.0)
    energy = np.einsum("...k,...k->...", codes, codes)
    fitted = np.einsum("...k,...k->...", groups, codes) / np.maximum(energy, 1.0)
    _check_range(fitted, "float16")
    scale = fitted.astype(np.float16)
    codes = _round(groups, scale.astype(np.float32)[..., None])
    return (codes + 8).astype(np.uint8), scale


def _round(groups: np.ndarray, scale: np.ndarray) -> np.ndarray:
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    return np.clip(np.rint(groups * inverse), -8.0, 7.0)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Round to nearest even, as bit patterns in uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def panels(rows: np.ndarray, fill: int = 0) -> np.ndarray:
    """(n, k) -> (ceil(n / 16), k, 16); rows that are not there hold `fill`."""
    n, k = rows.shape
    count = _panel_count(n)
    if n < count * LANES:
        rows = np.pad(rows, ((0, count * LANES - n), (0, 0)), constant_values=fill)
    return np.ascontiguousarray(rows.reshape(count, LANES, k).transpose(0, 2, 1))


def rows_of(packed: np.ndarray, n: int) -> np.ndarray:
    """The inverse of `panels`: (ceil(n / 16), k, 16) -> (n, k)."""
    return packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:n]


def _panel_count(n: int) -> int:
    return -(-n // LANES)


def _check_range(rows: np.ndarray, dtype: str) -> None:
    largest, limit = float(np.abs(rows).max(initial=0)), float(np.finfo(dtype).max)
    if largest > limit:
        raise UsageError(
            f"a weight or scale of {largest:.3g} does not fit {dtype} (at most {limit:.3g}); "
            "compile with bf16 or f32"
        )
