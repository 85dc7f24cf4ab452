"""Compare a bundle with its checkpoint, stage by stage, as signal-to-noise ratios (SNR) in dB.

Each stage receives the input of the reference, so the first stage below its floor contains the
fault; `end_to_end` then runs the compiled model alone. There are two ratios: against the checkpoint
in float32, and against the weights as stored, which isolates errors of the arithmetic. A model has
the stages that its family's reference and its bundle have: one without vision, none of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import MismatchError, UsageError
from handglass.runtime.bundle.entries import GRIDS, VisionEntry
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.engine.session import Session
from handglass.runtime.prompt.canvas import open_positions
from handglass.runtime.prompt.chat_template import Slot, build_prompt
from handglass.runtime.prompt.preprocess import Picture, Tile, open_preprocessor
from handglass.runtime.prompt.tokenizer import Tokenizer, parse_tokenizer
from handglass.schedules.isa.integer_isa import AMX
from handglass.schedules.select import ANY_CPU, Units, cpu_units
from handglass.targets.presets.x86 import AMX_FLAGS

from .checkpoints.checkpoint import Checkpoint
from .checkpoints.opening import open_checkpoint
from .models import Family, find_family
from .models.matching import build_for
from .models.storage import storage_of
from .parity import reference
from .parity.floors import FRAMES, Floors
from .parity.ratios import Ratios, Stage, both, judge, snr_db
from .parity.reference import Eyes, Pixels, Reference, Weights
from .parity.stored_weights import StoredWeights

Progress = Callable[[str, int, int], object]

QUESTION = "What is this picture?"
STEPS = 8  # tokens that are decoded after the prompt and compared one by one
TILES = 3  # tiles of each picture that are compared and shown: the overview and two slices

TIMES = (3, 8, 21)
"""When the tiles are shown as frames of a video, to a model that takes these together."""

TILE_STAGES = ("pixels", "vision", "resampler", "encode_image", FRAMES)
ORDER = (*TILE_STAGES, "embed", "logits", "end_to_end")

CALLS: Mapping[str, Callable[[Session, np.ndarray, Tile], np.ndarray]] = {
    "vision": lambda session, x, tile: session.encode_vision(x, tile.position_ids),
    "resampler": lambda session, x, tile: session.resample(x, tile.grid),
}
"""Stage of a tile -> the function of the bundle that computes it alone."""


def verify(
    bundle: str | Path,
    checkpoint: str | Path,
    images: Sequence[Picture] | None = None,
    progress: Progress | None = None,
    allow_pickle: bool = False,
    device: str | None = None,
    mmproj: str | Path | None = None,
) -> list[Stage]:
    """Compare on `images`, by default on a generated one. `device` and `mmproj` are the values of
    --device and --mmproj.

    Raises MismatchError if the bundle was compiled from another config.json, and UsageError if the
    model family has no numpy reference.
    """
    opened = Bundle.open(bundle)
    weights = open_checkpoint(checkpoint, allow_pickle, mmproj)
    manifest = opened.manifest
    if dict(manifest.model.config) != weights.config:
        raise MismatchError(
            f"{bundle}: its configuration differs from config.json of {checkpoint}; pass the "
            "checkpoint that it was compiled from"
        )
    comparison = Comparison(Session(opened, device=device), weights, manifest, _tokenizer(opened))
    return comparison.run(images, progress or (lambda *_: None))


class Comparison:
    """One compiled model and one checkpoint."""

    def __init__(
        self, session: Session, weights: Checkpoint, manifest: Manifest, tokenizer: Tokenizer
    ) -> None:
        self.session = session
        self.weights = weights
        self.manifest = manifest
        self.tokenizer = tokenizer
        self.tiles_of = open_preprocessor(manifest)
        self.positions_of = open_positions(manifest.prompt, tokenizer)
        family = find_family(weights.config)
        model = family.configure(weights.config)
        self.reference = reference_of(family, model, manifest.vision)
        storage = storage_of(manifest, self._units())
        self.floors = Floors(storage, self.reference.eyes)
        self.stored = StoredWeights(weights, build_for(weights, family, model, storage))

    @property
    def eyes(self) -> Eyes:
        """Of a model that has tiles."""
        assert self.reference.eyes is not None
        return self.reference.eyes

    def run(self, pictures: Sequence[Picture] | None, progress: Progress) -> list[Stage]:
        """The result of every stage: its lowest ratio over all tiles and pictures."""
        if not pictures:
            pictures = [drawn_picture()] if self.reference.eyes else [None]
        found = [
            ratios
            for number, picture in enumerate(pictures, 1)
            for ratios in self._question(picture, f"picture {number} of {len(pictures)}", progress)
        ]
        floors, arithmetic = self.floors.storage(), self.floors.arithmetic()
        return [
            judge(stage, measured, floors[stage], arithmetic.get(stage, 0.0))
            for stage in ORDER
            if (measured := [ratios[stage] for ratios in found if stage in ratios])
        ]

    def _question(self, picture: Picture, name: str, progress: Progress) -> list[Ratios]:
        """The ratios of each tile, then those of the language model."""
        pairs = [] if picture is None else self._pairs(picture)
        ratios, embeddings, features = [], [], []
        for number, (tile, pixels) in enumerate(pairs):
            progress(f"{name}, vision", number, len(pairs))
            measured, seen, rows = self._tile(tile, pixels)
            ratios.append(measured)
            embeddings.append(rows)
            features.append(seen)
        tiles = [tile for tile, _ in pairs]
        frames = self._frames(tiles, features) if tiles else {}
        return [*ratios, frames, self._language(tiles, embeddings, name, progress)]

    def _pairs(self, picture: Picture) -> list[tuple[Tile, Pixels]]:
        """The tiles of the runtime and of the reference. Raises InputError for a model without
        vision, MismatchError if they differ in size."""
        tiles = self.tiles_of(picture)
        expected = self.eyes.tiles(picture)
        sizes = [(tile.height, tile.width) for tile in tiles]
        truth = [(pixels.rows, pixels.cols) for pixels in expected]
        if sizes != truth:
            raise MismatchError(f"the reference has tiles of {truth} patches, the bundle {sizes}")
        return list(zip(tiles, expected, strict=True))[:TILES]

    def _tile(self, tile: Tile, pixels: Pixels) -> tuple[Ratios, np.ndarray, np.ndarray]:
        """The ratios of one tile; by the reference, the input of the last step and the rows."""
        eyes, grid = self.eyes, (pixels.rows, pixels.cols)
        strip = pixels.reordered(eyes.order(*grid))
        ratios: Ratios = {"pixels": (snr_db(strip, tile.strip), None)}
        x, given, before = pixels.strip, strip, strip
        stored = pixels.strip
        for stage, step in eyes.steps.items():
            exact = step.compute(self.weights, x, *grid)
            after = step.compute(self.stored, x, *grid)
            stored = after if stored is x else step.compute(self.stored, stored, *grid)
            if len(eyes.steps) > 1:
                ratios[stage] = both(exact, after, CALLS[stage](self.session, given, tile))
            before, x, given = x, exact, exact
        rows = self.session.encode_image(strip, tile.position_ids, tile.grid)
        ratios["encode_image"] = both(x, stored, rows)
        return ratios, before, x

    def _frames(self, tiles: Sequence[Tile], features: Sequence[np.ndarray]) -> Ratios:
        """The ratio of the rows of all tiles together, as frames of a video; none for a model
        that does not take frames together."""
        compute = self.eyes.frames
        if compute is None:
            return {}
        x, times = np.concatenate(features), TIMES[: len(tiles)]
        grids = [(tile.height, tile.width) for tile in tiles]
        exact, stored = (compute(w, x, grids, times) for w in (self.weights, self.stored))
        rows = self.session.resample_frames(x, [tile.grid for tile in tiles], times)
        return {FRAMES: both(exact, stored, rows)}

    def _language(
        self, tiles: Sequence[Tile], pictures: list[np.ndarray], name: str, progress: Progress
    ) -> Ratios:
        """The compiled model generates the tokens; the reference gets the same ones."""
        ids, positions = self._prompt(tiles)
        text = [i for i in ids if i is not None]
        embedded = self._embed(self.weights, text)
        x = splice(ids, embedded, pictures)
        compiled, tokens = self._decode(x, positions)
        forced = np.concatenate([x, self._embed(self.weights, tokens)])
        places = None if positions is None else continued(positions, len(tokens))
        truth = self._logits(self.weights, forced, places, f"{name}, language", progress)
        forced[len(x) :] = self._embed(self.stored, tokens)
        weights = self.stored.with_rows_alone(len(tokens))
        stored = self._logits(weights, forced, places, f"{name}, language as stored", progress)

        own_text = self.session.embed(text)
        own = splice(ids, own_text, [self.session.encode_image(*tile.arrays) for tile in tiles])
        return {
            "embed": both(embedded, self._embed(self.stored, text), own_text),
            "logits": both(truth, stored, compiled),
            "end_to_end": (snr_db(truth, self._decode(own, positions, tokens)[0]), None),
        }

    def _embed(self, weights: Weights, ids: Sequence[int]) -> np.ndarray:
        return reference.embed(weights, self.reference.language, ids, self.reference.names)

    def _logits(
        self,
        weights: Weights,
        x: np.ndarray,
        positions: np.ndarray | None,
        phase: str,
        progress: Progress,
    ) -> np.ndarray:
        return reference.logits(
            weights,
            self.reference.language,
            x,
            last=STEPS + 1,
            names=self.reference.names,
            progress=lambda done, total: progress(phase, done, total),
            positions=positions,
        )

    def _decode(
        self, x: np.ndarray, positions: np.ndarray | None, forced: Sequence[int] | None = None
    ) -> tuple[np.ndarray, list[int]]:
        """Logits (STEPS + 1, V) after the prompt x and after each of STEPS tokens, and the tokens:
        `forced`, or else the most likely ones."""
        self.session.restore_state(None)
        rows = [self.session.prefill(x, 0, *(() if positions is None else (positions,)))]
        tokens: list[int] = []
        for step in range(STEPS):
            tokens.append(int(rows[-1].argmax()) if forced is None else forced[step])
            placed = () if positions is None else (int(positions.max()) + 1 + step,)
            rows.append(self.session.decode(tokens[-1], len(x) + step, *placed).copy())
        return np.stack(rows), tokens

    def _prompt(self, tiles: Sequence[Tile]) -> tuple[list[int | None], np.ndarray | None]:
        """Token ids of a user turn with a picture of these tiles, or without one; None for each of
        their rows. And their rotary positions, if the model takes them."""
        images = [None] if tiles else []
        template = self.manifest.prompt
        prompt = build_prompt(QUESTION, images, self.tokenizer, template, lambda _: tiles)
        ids: list[int | None] = []
        for segment in prompt.segments:
            if isinstance(segment, Slot):
                ids.extend([None] * tiles[segment.tile].rows)
            else:
                ids.extend(segment.ids)
        return ids, None if self.positions_of is None else self.positions_of(prompt)

    def _units(self) -> Units:
        """For which weights are laid out: only tile registers round activations otherwise."""
        tiles = set(AMX_FLAGS) <= set(self.manifest.target.features)
        return cpu_units(AMX) if tiles else ANY_CPU


def reference_of(family: Family, config: Any, vision: VisionEntry | None = None) -> Reference:
    """`vision` says which small pictures are enlarged, if the family has a choice. Raises
    UsageError for a family without a reference."""
    if not family.reference:
        raise UsageError(f"the model family '{family.name}' has no numpy reference")
    choice = (GRIDS[vision.slicing.kind],) if vision and family.keeps_small_pictures else ()
    made: Reference = import_module(family.reference).reference(config, *choice)
    return made


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


def drawn_picture() -> np.ndarray:
    """A fixed test image: soft colours under sharp squares. (h, w, 3) uint8

    Wide enough for models that slice pictures to cut it into two slices.
    """
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(96, 256, (8, 8, 3)), np.ones((56, 88, 1))).astype(np.uint8)
    for y, x, side in rng.integers((0, 0, 40), (300, 550, 140), (6, 3)):
        picture[y : y + side, x : x + side] = rng.integers(0, 256, 3)
    return picture


def _tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer without reserved strings."""
    entry = bundle.manifest.tokenizer
    return parse_tokenizer(entry.kind, bundle.read(entry.file), bundle.file(entry.file))
