"""Rounding float32 weights to fewer bits."""

from __future__ import annotations

import numpy as np

from handglass.errors import UsageError

GROUP = 32
"""Neighbours along the input that share a scale."""


def quantize_groups(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 32) float32 -> codes uint8 in 0..15 of the same shape, scales float16 (...,).

    The value of largest magnitude is given the code -8, since there are more negative codes than
    positive ones; then the scale is refitted by least squares to the codes and these rounded again.
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
    """UsageError where a value is too large for `dtype`."""
    largest, limit = float(np.abs(rows).max(initial=0)), float(np.finfo(dtype).max)
    if largest > limit:
        raise UsageError(
            f"a weight or scale of {largest:.3g} does not fit {dtype} (at most {limit:.3g}); "
            "compile with bf16 or f32"
        )
