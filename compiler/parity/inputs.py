"""What a comparison computes with: embedded prompts, positions, a picture, disturbances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FLOAT_NOISE = 1e-6
"""What another order of float32 sums changes, as a part of each value."""
CACHE_NOISE = {"float32": FLOAT_NOISE, "float16": 2.0**-12, "int8": 2.0**-8}
"""The same for rounded keys and values."""


def splice(
    ids: Sequence[int | None], text: np.ndarray, pictures: Sequence[np.ndarray]
) -> np.ndarray:
    """Merge the embeddings of text and tiles in the order of the prompt. (s, D)"""
    is_picture = np.array([i is None for i in ids])
    x = np.empty((len(ids), text.shape[1]), np.float32)
    x[~is_picture] = text
    if pictures:
        x[is_picture] = np.concatenate(pictures)
    return x


def continued(positions: np.ndarray, count: int) -> np.ndarray:
    """The rotary positions (s, 3) of a prompt and of `count` tokens after it."""
    after = np.arange(count, dtype=np.int32)[:, None] + positions.max() + 1
    return np.concatenate([positions, np.broadcast_to(after, (count, positions.shape[1]))])


def disturbed(x: np.ndarray, noise: float = FLOAT_NOISE) -> np.ndarray:
    """Each value changed by about this part of it; the same every time."""
    changes = np.random.default_rng(0).standard_normal(x.shape, np.float32)
    return np.asarray(x * (1 + np.float32(noise) * changes), np.float32)


def drawn_picture() -> np.ndarray:
    """A fixed test image: soft colours under sharp squares. (h, w, 3) uint8

    Wide enough for models that slice pictures to cut it into two slices.
    """
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(96, 256, (8, 8, 3)), np.ones((56, 88, 1))).astype(np.uint8)
    for y, x, side in rng.integers((0, 0, 40), (300, 550, 140), (6, 3)):
        picture[y : y + side, x : x + side] = rng.integers(0, 256, 3)
    return picture
