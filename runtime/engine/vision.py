"""The compiled functions of the vision model: tiles in, rows of the language model out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from handglass.errors import InputError, MismatchError

from ..bundle.entries import VisionEntry
from .calls import CompiledFunctions
from .checks import check_array
from .worker import in_worker

SHOW = "show_pictures"
Frame = tuple[np.ndarray, np.ndarray, np.ndarray]
"""strip, position_ids and grid of one tile."""


class VisionFunctions(CompiledFunctions):
    """Arguments of a wrong shape or dtype raise InputError."""

    @in_worker
    def encode_image(
        self, strip: np.ndarray, position_ids: np.ndarray, grid: np.ndarray
    ) -> np.ndarray:
        """Encode one tile of n patches of p x p pixels into rows of the language model.

        strip (3, p, p * n) float32, position_ids (n,) int32, grid (n, 2) int32
        -> (rows, hidden_size) float32. If rows are shown to the text, grid is (rows, 2). Raises
        InputError for other shapes or dtypes.
        """
        rows = self._check_picture(strip, position_ids)
        if self.shows_pictures:
            rows = min(len(grid), len(position_ids) - 1)  # there is at least one row of padding
        check_array("grid", grid, (rows if self.shows_pictures else len(position_ids), 2), np.int32)
        result = self._call("encode_image", strip, position_ids, grid, self._params)
        return self._result("encode_image", result, (rows, self.manifest.hidden_size))

    @in_worker
    def encode_vision(self, strip: np.ndarray, position_ids: np.ndarray) -> np.ndarray:
        """The vision tower of `encode_image` alone, for verification.

        strip (3, p, p * n) float32, position_ids (n,) int32 -> (n, vision hidden) float32.
        """
        self._check_picture(strip, position_ids)
        result = self._call("encode_vision", strip, position_ids, self._params)
        return self._result("encode_vision", result, (len(position_ids), result.shape[1]))

    @in_worker
    def resample(self, features: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """The resampler of `encode_image` alone, for verification.

        features (n, vision hidden) float32, grid (n, 2) int32 -> (rows, hidden_size) float32.
        """
        rows = self._vision.rows(len(grid))
        check_array("features", features, (len(grid), features.shape[-1]), np.float32)
        check_array("grid", grid, (len(grid), 2), np.int32)
        result = self._call("resample", features, grid, self._params)
        return self._result("resample", result, (rows, self.manifest.hidden_size))

    @in_worker
    def encode_frames(self, frames: Sequence[Frame], times: Sequence[int]) -> np.ndarray:
        """Encode a group of video frames together into rows of the language model.

        `frames`: the arguments of `encode_image` for each; `times`: when each is shown, in the unit
        of the manifest's vision.video. -> (rows, hidden_size) float32. The vision tower encodes one
        frame at a time. Raises InputError for other shapes, or for not one time per frame.
        """
        if not frames or len(frames) != len(times):
            raise InputError(f"{len(frames)} frames with {len(times)} times: give each frame one")
        features = [self.encode_vision(strip, ids) for strip, ids, _ in frames]
        for (_, _, grid), rows in zip(frames, features, strict=True):
            check_array("grid", grid, (len(rows), 2), np.int32)
        grids = [grid for _, _, grid in frames]
        return self.resample_frames(np.concatenate(features), grids, times)

    @in_worker
    def resample_frames(
        self, features: np.ndarray, grids: Sequence[np.ndarray], times: Sequence[int]
    ) -> np.ndarray:
        """The resampler of `encode_frames` alone.

        features (n, vision hidden) float32 of one frame after the other, for each its grid
        (rows, 2) int32 and its time -> (rows, hidden_size) float32.
        """
        counts, grid = [len(grid) for grid in grids], np.concatenate(grids)
        check_array("features", features, (len(grid), features.shape[-1]), np.float32)
        check_array("grid", grid, (len(grid), 2), np.int32)
        shown = np.repeat(np.asarray(times, np.int32), counts)
        result = self._call("resample_frames", features, grid, shown, self._params)
        rows = self._vision.rows(max(counts))
        return self._result("resample_frames", result, (rows, self.manifest.hidden_size))

    @property
    def shows_pictures(self) -> bool:
        """Whether the rows of pictures are no rows of the prompt, but what its rows see."""
        return SHOW in self.manifest.functions

    @property
    def _vision(self) -> VisionEntry:
        if self.manifest.vision is None:
            raise MismatchError(f"{self._path}: the bundle has no vision model")
        return self.manifest.vision

    def _check_picture(self, strip: np.ndarray, position_ids: np.ndarray) -> int:
        """Check a tile; returns the number of embedding rows it produces."""
        p, n = self._vision.patch_size, len(position_ids)
        check_array("strip", strip, (3, p, p * n), np.float32)
        check_array("position_ids", position_ids, (n,), np.int32)
        return self._vision.rows(n)
