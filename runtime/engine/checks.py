"""Checks of a session's arguments, which compiled code does not make.

All raise InputError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handglass.errors import InputError

from ..bundle.entries import AXES, POSITIONS


def check_array(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: Any) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise InputError(
            f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}"
        )


def check_bounds(pos: int, s: int, context: int) -> None:
    """That s tokens at position `pos` fit: a write past the context would corrupt memory."""
    if pos < 0 or s < 1 or pos + s > context:
        raise InputError(f"{s} tokens at position {pos} do not fit the context of {context}")


def check_rows(first: int, count: int, places: int) -> None:
    """That `count` rows of pictures from place `first` on fit the state."""
    if first < 0 or count < 1 or first + count > places:
        raise InputError(
            f"pictures next to each other have {first + count} rows, but the text sees at most "
            f"{places}; write text between the pictures"
        )


def check_positions(positions: np.ndarray, s: int, context: int) -> None:
    """Rotary positions of s tokens, (s, 3) int32 below the context."""
    check_array(POSITIONS, positions, (s, AXES), np.int32)
    if positions.min() < 0 or positions.max() >= context:
        raise InputError(
            f"positions are {positions.min()} to {positions.max()}, but must be from 0 to "
            f"{context - 1}"
        )


def check_id(token: int, vocab_size: int) -> int:
    if not 0 <= token < vocab_size:
        raise InputError(f"token id {token} is outside the vocabulary of {vocab_size}")
    return token


def check_ids(ids: Sequence[int], vocab_size: int) -> np.ndarray:
    """The ids as (s,) int32."""
    array = np.asarray(ids, np.int64)
    if array.ndim != 1 or not len(array):
        raise InputError(f"token ids must be a non-empty list, got shape {array.shape}")
    if array.min() < 0 or array.max() >= vocab_size:
        bad = array[(array < 0) | (array >= vocab_size)][0]
        raise InputError(f"token id {bad} is outside the vocabulary of {vocab_size}")
    return array.astype(np.int32)
