"""The order of the patches of a strip, where it is not that of their rows."""

from __future__ import annotations

import numpy as np

from handglass.errors import MismatchError


def window_order(height: int, width: int, levels: int) -> np.ndarray:
    """The patches of a grid, as indices by rows, in the order of `VisionEntry.window_levels`.

    Raises MismatchError if the windows do not divide the grid.
    """
    side = 1 << levels
    if height % side or width % side:
        raise MismatchError(
            f"manifest.json: vision: a tile of {height} x {width} patches has no whole windows of "
            f"{side} x {side}; compile the model again"
        )
    row, column = np.divmod(np.arange(height * width), width)
    # By the largest windows first, and by single patches last; lexsort takes its keys in reverse.
    return np.lexsort([axis >> level for level in range(levels + 1) for axis in (column, row)])


def ordered(strip: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The strip with its patches in another order; -1: a patch of zeros."""
    channels, p = strip.shape[:2]
    if order.min() < 0:
        strip = np.pad(strip, ((0, 0), (0, 0), (0, p)))  # the last patch, which -1 selects
    patches = strip.reshape(channels, p, -1, p)[:, :, order]
    return np.ascontiguousarray(patches.reshape(channels, p, len(order) * p))
