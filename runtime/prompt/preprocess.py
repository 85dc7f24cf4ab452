"""Preprocesses a picture (path, bytes, PIL image or array) into tiles of patches.

Reproduces the reference bit for bit: convert to RGB (alpha is dropped, not blended), resize the
8-bit original with Pillow's bicubic filter, x/255, (x - mean)/std, concatenate the patches in one
strip, by rows or window by window. Only a JPEG too large to be held in memory is decoded at 1/2,
1/4 or 1/8 of its size first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from handglass.errors import InputError

from ..bundle.entries import PADDED, TILED
from .patch_order import ordered, window_order
from .pictures.read import Picture, open_picture, picture_name, read_picture
from .positions import open_positions
from .slicing import Crop, Slicer, limited, open_slicer
from .tiled import layout_rows, most_tiles

if TYPE_CHECKING:
    from ..bundle.entries import VisionEntry
    from ..bundle.manifest import Manifest

__all__ = [
    "Picture",
    "Prepared",
    "Preprocessor",
    "Tile",
    "open_picture",
    "open_preprocessor",
    "read_picture",
]


LAYOUTS_KEPT = 64


@dataclass(frozen=True, eq=False)
class Layout:
    """What tiles of one size have in common: the order of their height * width patches.

    n is that number, or more if the tiles of a picture are padded to the largest one.
    """

    height: int  # in patches
    width: int
    position_ids: np.ndarray  # (n,) int32
    grid: np.ndarray  # (n, 2) int32: row, column; -1, -1 of padding. Tiled: see tiled.Rows
    order: np.ndarray | None
    """(n,) the patches by rows, in the order of the strip, -1 for one of zeros; None: the same."""
    vision: VisionEntry

    @property
    def rows(self) -> int:
        """Embedding rows that a tile produces."""
        return self.vision.rows(len(self.grid))


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile of a picture. Its pixels are kept as bytes, a quarter of what the model takes."""

    pixels: np.ndarray  # (p * height, p * width, 3) uint8
    layout: Layout
    role: str  # a key of the template's tiles

    @property
    def height(self) -> int:
        """In patches."""
        return self.layout.height

    @property
    def width(self) -> int:
        """In patches."""
        return self.layout.width

    @property
    def rows(self) -> int:
        """Embedding rows that it produces."""
        return self.layout.rows

    @property
    def padding(self) -> int:
        """Patches after its own, of zeros."""
        if self.layout.order is not None:
            return 0
        return len(self.layout.grid) - self.height * self.width

    @property
    def position_ids(self) -> np.ndarray:
        """(n,) int32."""
        return self.layout.position_ids

    @property
    def grid(self) -> np.ndarray:
        """(n, 2) int32: row and column of each patch."""
        return self.layout.grid

    @property
    def strip(self) -> np.ndarray:
        """The patches as the model takes them, (3, p, p * n) float32; computed at every call."""
        vision, order = self.layout.vision, self.layout.order
        x = normalise(self.pixels, vision.mean, vision.std)  # (3, h, w)
        strip, _ = cut_patches(x, vision.patch_size)
        if self.padding:
            return np.pad(strip, ((0, 0), (0, 0), (0, self.padding * vision.patch_size)))
        return strip if order is None else ordered(strip, order)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arguments of `Session.encode_image`."""
        return self.strip, self.position_ids, self.grid

    @cached_property
    def digest(self) -> str:
        """A hash of the pixels: the key of the caches of encoded tiles."""
        shape = f"{self.height}x{self.width}+{self.padding}:".encode()
        return hashlib.sha256(shape + self.pixels.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture as the tiles of one model, to be shown in several turns without further work."""

    tiles: tuple[Tile, ...]
    vision: VisionEntry


class TilesOf(Protocol):
    """A function from a picture to its tiles, in prompt order.

    `max_slices` lowers the manifest's. Raises InputError for an invalid picture, UsageError for a
    `max_slices` that the model does not have.
    """

    def __call__(self, picture: Picture, max_slices: int | None = None) -> list[Tile]: ...


class Preprocessor:
    """Preprocesses pictures for a bundle whose manifest has this `vision` entry.

    Raises MismatchError if the manifest names a method that this version lacks.
    """

    def __init__(self, vision: VisionEntry) -> None:
        self._vision = vision
        self._slicers: dict[int | None, Slicer] = {None: open_slicer(vision)}
        self._position_ids = open_positions(vision)
        self._pads = vision.positions.kind == PADDED
        self._is_tiled = vision.positions.kind == TILED
        self._layouts: dict[tuple[int, int, int], Layout] = {}

    def tiles(self, picture: Picture, max_slices: int | None = None) -> list[Tile]:
        """See TilesOf. A picture that was prepared keeps the slices that it has."""
        if isinstance(picture, Prepared):
            if picture.vision != self._vision:
                raise InputError("the picture was prepared for another model; prepare it again")
            return list(picture.tiles)
        slicer, opened = self._slicer(max_slices), open_picture(picture)
        try:
            return self._tiles(slicer(opened))
        except InputError as error:
            raise InputError(f"picture {picture_name(picture)}: {error}") from error

    def restored(self, arrays: Sequence[np.ndarray], roles: Sequence[str]) -> list[Tile]:
        """The tiles of one picture from their pixels, (h, w, 3) uint8 each, as they were kept.

        Raises InputError if no picture is cut into such a tile.
        """
        return self._laid_out(arrays, [self._size_of(array) for array in arrays], roles)

    def _size_of(self, pixels: np.ndarray) -> tuple[int, int]:
        """Rows and columns of patches. Raises InputError if this is no tile."""
        patch, side = self._vision.patch_size, self._vision.image_size
        shape = pixels.shape
        if len(shape) != 3 or shape[2] != 3 or pixels.dtype != np.uint8:
            raise InputError(f"a tile is {pixels.dtype} {shape}, but must be uint8 (h, w, 3)")
        height, width = shape[0] // patch, shape[1] // patch
        is_whole = (height * patch, width * patch) == shape[:2]
        most = most_tiles(self._vision) if self._is_tiled else 2
        if not is_whole or not 0 < height * width <= most * (side // patch) ** 2:
            raise InputError(f"a tile of {shape[1]} x {shape[0]} pixels is none of this model")
        return height, width

    def _slicer(self, max_slices: int | None) -> Slicer:
        if max_slices not in self._slicers:
            vision = limited(self._vision, max_slices)
            assert vision is not None
            self._slicers[max_slices] = open_slicer(vision)
        return self._slicers[max_slices]

    def _tiles(self, crops: Sequence[Crop]) -> list[Tile]:
        arrays = [np.asarray(crop.image) for crop in crops]
        patch = self._vision.patch_size
        sizes = [(array.shape[0] // patch, array.shape[1] // patch) for array in arrays]
        return self._laid_out(arrays, sizes, [crop.role for crop in crops])

    def _laid_out(
        self, arrays: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], roles: Sequence[str]
    ) -> list[Tile]:
        """The tiles of one picture, from their pixels and their sizes in patches."""
        longest = max(height * width for height, width in sizes) if self._pads else 0
        return [
            Tile(array, self._kept_layout(*size, longest), role)
            for array, size, role in zip(arrays, sizes, roles, strict=True)
        ]

    def _kept_layout(self, height: int, width: int, longest: int) -> Layout:
        size = height, width, longest
        if size not in self._layouts:
            if len(self._layouts) == LAYOUTS_KEPT:
                self._layouts.clear()
            self._layouts[size] = self._layout(*size)
        return self._layouts[size]

    def _layout(self, height: int, width: int, longest: int) -> Layout:
        """`longest`: patches of the largest tile, if all are padded to it; else 0."""
        if self._is_tiled:
            rows = layout_rows(self._vision, height, width)
            return Layout(height, width, rows.position_ids, rows.grid, rows.order, self._vision)
        if longest:
            ids, grid = self._position_ids(1, longest), padded_grid(height, width, longest)
            return Layout(height, width, ids, grid, None, self._vision)
        ids, grid, order = self._position_ids(height, width), grid_of(height, width), None
        if levels := self._vision.window_levels:
            order = window_order(height, width, levels)
            ids, grid = ids[order], grid[order]
        return Layout(height, width, ids, grid, order, self._vision)


def open_preprocessor(manifest: Manifest) -> TilesOf:
    """A function from picture to tiles; for a text-only bundle, one that raises InputError."""
    if manifest.vision is not None:
        return Preprocessor(manifest.vision).tiles
    name = manifest.model.name

    def refuse(picture: Picture, max_slices: int | None = None) -> list[Tile]:
        raise InputError(f"this model ({name}) is text-only; ask without pictures")

    return refuse


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(h, w, 3) uint8 -> (3, h, w) float32: (x / 255 - mean) / std per channel."""
    x = image.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
    channels = (3, 1, 1)
    mean_, std_ = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return (x - mean_.reshape(channels)) / std_.reshape(channels)


def grid_of(height: int, width: int) -> np.ndarray:
    """(row, column) of the patches of a grid, by rows: (n, 2) int32."""
    grid = np.stack(np.divmod(np.arange(height * width), width), axis=1)
    return grid.astype(np.int32)


def padded_grid(height: int, width: int, longest: int) -> np.ndarray:
    """`grid_of` with -1, -1 for the patches after those of the grid: (longest, 2) int32."""
    grid = np.full((longest, 2), -1, np.int32)
    grid[: height * width] = grid_of(height, width)
    return grid


def cut_patches(x: np.ndarray, patch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(3, h, w) float32 -> strip (3, p, p * n) float32, grid (n, 2) int32 of (row, column).

    Patch i of the row-major grid is columns p * i to p * i + p of the strip.
    """
    p = patch_size
    height, width = x.shape[1] // p, x.shape[2] // p
    split = x.reshape(3, height, p, width, p)  # (c, row, y, column, x)
    strip = np.ascontiguousarray(split.transpose(0, 2, 1, 3, 4).reshape(3, p, height * width * p))
    return strip, grid_of(height, width)
