"""The stages of a picture's tiles, from pixels to rows of the language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from handglass.errors import MismatchError
from handglass.runtime.engine.session import Session
from handglass.runtime.prompt.preprocess import Picture, Tile, open_preprocessor

from .parity.floors import FRAMES
from .parity.inputs import disturbed
from .parity.ratios import Ratio, Ratios, compared, snr_db
from .parity.reference import Eyes, Pixels
from .verify_layers import Arrivals, Watched
from .verify_subject import Progress, Subject

TILES = 3  # tiles of each picture that are compared and shown: the overview and two slices

TIMES = (3, 8, 21)
"""When the tiles are shown as frames of a video, to a model that takes these together."""

TILE_STAGES = ("pixels", "vision", "resampler", "encode_image", FRAMES)

CALLS: Mapping[str, Callable[[Session, np.ndarray, Tile], np.ndarray]] = {
    "vision": lambda session, x, tile: session.encode_vision(x, tile.position_ids),
    "resampler": lambda session, x, tile: session.resample(x, tile.grid),
}
"""Stage of a tile -> the function of the bundle that computes it alone."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A tile as the reference sees it."""

    tile: Tile
    ratios: Ratios
    features: np.ndarray
    """The input of the last step."""
    rows: np.ndarray
    stored_rows: np.ndarray
    """With the weights as stored in every step."""


class Tiles:
    """The comparison of pictures, of a subject that has vision."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.session, self.weights, self.stored = subject.session, subject.weights, subject.stored
        self.tiles_of = open_preprocessor(subject.manifest)
        self.arrivals = Arrivals(subject.session)

    @property
    def tower(self) -> str:
        """The stage with the layers of the vision tower; empty for a model without vision."""
        eyes = self.subject.reference.eyes
        return next(iter(eyes.steps)) if eyes else ""

    @property
    def eyes(self) -> Eyes:
        assert self.subject.reference.eyes is not None
        return self.subject.reference.eyes

    def see(self, picture: Picture, name: str, progress: Progress) -> list[Seen]:
        """The tiles of a picture, with their ratios. Raises InputError for a model without vision,
        MismatchError if the bundle cuts the picture otherwise than the reference."""
        pairs, seen = self._pairs(picture), []
        for number, (tile, pixels) in enumerate(pairs):
            progress(f"{name}, vision", number, len(pairs))
            seen.append(self._tile(tile, pixels))
        return seen

    def _pairs(self, picture: Picture) -> list[tuple[Tile, Pixels]]:
        """The tiles of the runtime and of the reference."""
        tiles = self.tiles_of(picture)
        expected = self.eyes.tiles(picture)
        sizes = [(tile.height, tile.width) for tile in tiles]
        truth = [(pixels.rows, pixels.cols) for pixels in expected]
        if sizes != truth:
            raise MismatchError(f"the reference has tiles of {truth} patches, the bundle {sizes}")
        return list(zip(tiles, expected, strict=True))[:TILES]

    def _tile(self, tile: Tile, pixels: Pixels) -> Seen:
        eyes, grid = self.eyes, (pixels.rows, pixels.cols)
        strip = pixels.reordered(eyes.order(*grid))
        ratios: Ratios = {"pixels": Ratio(snr_db(strip, tile.strip))}
        x, given, before = pixels.strip, strip, strip
        stored = pixels.strip
        for stage, step in eyes.steps.items():
            watched = Watched()
            exact = step.compute(self.weights, x, *grid, watch=watched.watch_exact)
            after = step.compute(self.stored, x, *grid, watch=watched.watch_kept)
            stored = after if stored is x else step.compute(self.stored, stored, *grid)
            if len(eyes.steps) > 1:
                with self.arrivals.observed(watched):
                    found = CALLS[stage](self.session, given, tile)
                again = partial(step.compute, self.stored, disturbed(x), *grid)
                ratios[stage] = self.subject.compared(stage, exact, after, found, again)
            before, x, given = x, exact, exact
        with self.arrivals.observed(watched if len(eyes.steps) == 1 else Watched()):
            rows = self.session.encode_image(strip, tile.position_ids, tile.grid)
        again = partial(self._through, disturbed(pixels.strip), grid)
        ratios["encode_image"] = self.subject.compared("encode_image", x, stored, rows, again)
        return Seen(tile, ratios, before, x, stored)

    def _through(self, x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """The rows of a tile by the reference, with the weights as stored in every step."""
        for step in self.eyes.steps.values():
            x = step.compute(self.stored, x, *grid)
        return x

    def frames(self, seen: Sequence[Seen]) -> Ratios:
        """The ratio of the rows of all tiles together, as frames of a video; none for a model
        that does not take frames together."""
        compute = self.eyes.frames
        if compute is None:
            return {}
        x, times = np.concatenate([one.features for one in seen]), TIMES[: len(seen)]
        grids = [(one.tile.height, one.tile.width) for one in seen]
        exact, stored = (compute(w, x, grids, times) for w in (self.weights, self.stored))
        rows = self.session.resample_frames(x, [one.tile.grid for one in seen], times)
        return {FRAMES: compared(exact, stored, rows)}
