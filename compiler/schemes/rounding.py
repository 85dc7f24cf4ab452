"""Quantization of float32 weights."""

from __future__ import annotations

import numpy as np

from handglass.errors import UsageError

GROUP = 32
"""Consecutive inputs that share a scale."""


def quantize_groups(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 32) float32 -> codes uint8 in 0..15 of the same shape, scales float16 (...,).

    A value is (code - 8) * scale. The first scale maps the value of largest magnitude to -8, as
    -8..7 has one more negative value than positive ones. Then the scale is refitted to the rounded
    values by least squares, and the group is rounded again.

    Raises UsageError if a scale does not fit float16.
    """
    peak = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    codes = _round(groups, peak / -8.0)
    energy = np.einsum("...k,...k->...", codes, codes)
    fitted = np.einsum("...k,...k->...", groups, codes) / np.maximum(energy, 1.0)
    check_range(fitted, "float16")
    scale = fitted.astype(np.float16)
    codes = _round(groups, scale.astype(np.float32)[..., None])
    return (codes + 8).astype(np.uint8), scale


def _round(groups: np.ndarray, scale: np.ndarray) -> np.ndarray:
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    return np.clip(np.rint(groups * inverse), -8.0, 7.0)


def quantize_rows(rows: np.ndarray, limit: int = 127) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, k) -> codes int8 in -limit..limit, scales float32 (n,)."""
    scale = (np.abs(rows).max(axis=1, initial=0) / limit).astype(np.float32)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    return np.rint(rows * inverse[:, None]).astype(np.int8), scale


def check_range(rows: np.ndarray, dtype: str) -> None:
    """Raise UsageError if a value is too large for `dtype`."""
    largest, limit = float(np.abs(rows).max(initial=0)), float(np.finfo(dtype).max)
    if largest > limit:
        raise UsageError(
            f"a weight or scale of {largest:.3g} does not fit {dtype} (at most {limit:.3g}); "
            "compile with bf16 or f32"
        )
