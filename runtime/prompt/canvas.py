"""Methods that give each token of a prompt its rotary positions, by name.

`plain`: the place of the token in the prompt; the model takes no positions.

`canvas`: three positions T, H and W (M-RoPE), all equal for text. A picture takes a canvas that
begins at the next free position p. Its size is that of the slices together, or of the picture if it
has none, in rows of the language model. All tokens of the picture have T = p. Those of a slice have
H and W at their place on the canvas; those of the overview are spread over all of it. The markers
around a tile stand at its corners, those of the overview just outside the canvas, and the end of a
line of slices right of it. The next token follows the longer side of the canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from handglass.errors import InputError, MismatchError

from ..bundle.entries import AXES, CANVAS, PLAIN, PromptEntry
from .chat_template import Prompt, Slot
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .preprocess import Tile

WHERE = "manifest.json: prompt.positions"
MAX_MERGE = 1 << 6
MAX_MARKERS = 16
PositionsOf = Callable[[Prompt], np.ndarray]
"""Prompt -> (tokens, 3) int32."""


@dataclass(frozen=True)
class Canvas:
    """Parameters of the method `canvas`."""

    merge: int
    """Patches per row of the language model, along each side."""
    markers: tuple[str, ...]
    """Tokens that belong to the picture when they follow its last tile."""


@dataclass(frozen=True)
class Shown:
    """A tile in the prompt: its tokens, and its size in rows of the language model."""

    start: int
    stop: int
    height: int
    width: int


def canvas(entry: PromptEntry, tokenizer: Tokenizer) -> PositionsOf:
    parameters = entry.positions.parse(Canvas, WHERE)
    if not 0 < parameters.merge <= MAX_MERGE:
        raise InputError(f"{WHERE}: merge {parameters.merge!s:.40} must be 1 to {MAX_MERGE}")
    if len(parameters.markers) > MAX_MARKERS:
        raise InputError(f"{WHERE}: {len(parameters.markers)} markers, at most {MAX_MARKERS}")
    ids = [tokenizer.marker_ids(marker) for marker in parameters.markers]
    markers = frozenset(sequence[0] for sequence in ids if len(sequence) == 1)
    return lambda prompt: positions_of(prompt, parameters.merge, markers)


METHODS: dict[str, Callable[[PromptEntry, Tokenizer], PositionsOf] | None] = {
    PLAIN: None,
    CANVAS: canvas,
}


def open_positions(entry: PromptEntry, tokenizer: Tokenizer) -> PositionsOf | None:
    """The method that the manifest names; None if the model takes no positions.

    Raises MismatchError for a method that this version lacks, InputError for bad parameters.
    """
    kind = entry.positions.kind
    if kind not in METHODS:
        raise MismatchError(
            f"{WHERE}: {kind!r:.100} is unknown; known: {', '.join(METHODS)}; "
            "install the handglass version that made the bundle, or compile again"
        )
    method = METHODS[kind]
    return None if method is None else method(entry, tokenizer)


def positions_of(prompt: Prompt, merge: int, markers: frozenset[int]) -> np.ndarray:
    """The positions of all tokens of a prompt, (tokens, 3) int32."""
    ids, pictures = _flat(prompt, merge)
    positions = np.zeros((len(ids), AXES), np.int32)
    free = done = 0  # the next free position, and the tokens that have theirs
    for tiles in pictures:
        start, stop = max(tiles[0].start - 1, 0), tiles[-1].stop
        while stop < len(ids) and ids[stop] in markers:
            stop += 1
        free = _write_text(positions[done:start], free)
        free = _write_picture(positions[:stop], start, tiles, free)
        done = stop
    _write_text(positions[done:], free)
    return positions


def _flat(prompt: Prompt, merge: int) -> tuple[list[int], list[list[Shown]]]:
    """The ids of all tokens, -1 for rows of tiles; and the tiles of each picture."""
    ids: list[int] = []
    pictures: list[list[Shown]] = [[] for _ in prompt.pictures]
    for segment in prompt.segments:
        if not isinstance(segment, Slot):
            ids.extend(segment.ids)
            continue
        tile: Tile = prompt.pictures[segment.picture][segment.tile]
        height, width = tile.height // merge, tile.width // merge
        if height * width != tile.rows:
            raise InputError(
                f"{WHERE}: merge {merge}: a tile of {tile.height} x {tile.width} patches has "
                f"{tile.rows} rows, not {height} x {width}"
            )
        shown = Shown(len(ids), len(ids) + tile.rows, height, width)
        pictures[segment.picture].append(shown)
        ids.extend([-1] * tile.rows)
    return ids, [tiles for tiles in pictures if tiles]


def _write_text(positions: np.ndarray, free: int) -> int:
    """Equal positions from `free` on; returns the next free one."""
    positions[:] = free + np.arange(len(positions))[:, None]
    return free + len(positions)


def _write_picture(positions: np.ndarray, start: int, tiles: Sequence[Shown], free: int) -> int:
    """The positions of a picture, whose tokens are all from `start` on, with their markers."""
    whole, slices = tiles[0], tiles[1:]
    height, width = whole.height, whole.width
    per_line = _columns(slices)
    if slices:
        height = len(slices) // per_line * slices[0].height
        width = per_line * slices[0].width
    positions[start:] = free
    positions[start, 1:] = max(free - 1, 0)
    _write_marker(positions, whole.stop, free + height, free + width)
    rows, columns = _spread(height, whole.height), _spread(width, whole.width)
    _write_tile(positions, whole, free + rows, free + columns)
    for number, tile in enumerate(slices):
        top = free + number // per_line * slices[0].height
        left = free + number % per_line * slices[0].width
        _write_marker(positions, tile.start - 1, top, left)
        _write_marker(positions, tile.stop, top + tile.height - 1, left + tile.width - 1)
        _write_tile(positions, tile, top + np.arange(tile.height), left + np.arange(tile.width))
        if number + 1 < len(slices):
            bottom = top + slices[0].height - 1
            positions[tile.stop + 1 : slices[number + 1].start - 1, 1:] = bottom, free + width
    return free + max(height, width) + 1


def _columns(slices: Sequence[Shown]) -> int:
    """Slices per line: more than two markers between slices end a line."""
    pairs = enumerate(pairwise(slices), 1)
    ends = (number for number, (a, b) in pairs if b.start - a.stop > 2)
    columns = next(ends, len(slices))
    return columns if columns and len(slices) % columns == 0 else len(slices)


def _write_marker(positions: np.ndarray, index: int, row: int, column: int) -> None:
    if index < len(positions):
        positions[index, 1:] = row, column


def _write_tile(positions: np.ndarray, tile: Shown, rows: np.ndarray, columns: np.ndarray) -> None:
    positions[tile.start : tile.stop, 1] = np.repeat(rows, tile.width)
    positions[tile.start : tile.stop, 2] = np.tile(columns, tile.height)


def _spread(length: int, count: int) -> np.ndarray:
    """`count` whole numbers from 0 to length - 1, evenly spread; ties to even.

    Computed in float32 from both ends, as torch.linspace does, on which ties depend.
    """
    steps, last = np.arange(count, dtype=np.float32), np.float32(length - 1)
    step = last / np.float32(max(count - 1, 1))
    second = last - step * (np.float32(count - 1) - steps) if count > 1 else steps
    return np.rint(np.where(steps < count // 2, step * steps, second)).astype(np.int32)
