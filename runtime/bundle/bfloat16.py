"""bfloat16 as bit patterns: numpy has no such type, so uint16 holds it everywhere."""

from __future__ import annotations

import numpy as np


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Round float32 to nearest even, as bit patterns in uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bfloat16_values(bits: np.ndarray) -> np.ndarray:
    """The numbers behind uint16 bit patterns, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
