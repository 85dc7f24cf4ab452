"""Compare a bundle with its checkpoint, stage by stage, as signal-to-noise ratios (SNR) in dB.

Each stage receives the input of the reference, so the first stage below its floor contains the
fault; `end_to_end` then runs the compiled model alone. There are two ratios: against the checkpoint
in float32, and against the weights as stored, which isolates errors of the arithmetic. A loss that
the reference has, too, with the weights as stored, is the storage's and no fault. A model has the
stages that its family's reference and its bundle have: one without vision, none of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from .parity.inputs import CACHE_NOISE, continued, disturbed, drawn_picture, splice
from .parity.ratios import Ratio, Ratios, Stage, compared, judge, snr_db
from .parity.reference import Eyes, Pixels, Reference, Weights
from .parity.stored_weights import StoredWeights

Progress = Callable[[str, int, int], object]

QUESTION = "What is this picture?"
STEPS = 8  # tokens that are decoded after the prompt and compared one by one
TILES = 3  # tiles of each picture that are compared and shown: the overview and two slices

TIMES = (3, 8, 21)
"""When the tiles are shown as frames of a video, to a model that takes these together."""

WEIGHTS = "weights"
"""The stage of the stored matrices alone, which no layer amplifies."""
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
        loss = self.stored.losses.worst()
        return [
            Stage(WEIGHTS, loss.snr_db, loss.floor_db, loss.margin >= 0, tensor=loss.tensor),
            *(
                judge(stage, measured, floors[stage], arithmetic.get(stage, 0.0))
                for stage in ORDER
                if (measured := [ratios[stage] for ratios in found if stage in ratios])
            ),
        ]

    def _question(self, picture: Picture, name: str, progress: Progress) -> list[Ratios]:
        """The ratios of each tile, then those of the language model."""
        pairs = [] if picture is None else self._pairs(picture)
        seen: list[Seen] = []
        for number, (tile, pixels) in enumerate(pairs):
            progress(f"{name}, vision", number, len(pairs))
            seen.append(self._tile(tile, pixels))
        frames = self._frames(seen) if seen else {}
        return [*(one.ratios for one in seen), frames, self._language(seen, name, progress)]

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

    def _tile(self, tile: Tile, pixels: Pixels) -> Seen:
        eyes, grid = self.eyes, (pixels.rows, pixels.cols)
        strip = pixels.reordered(eyes.order(*grid))
        ratios: Ratios = {"pixels": Ratio(snr_db(strip, tile.strip))}
        x, given, before = pixels.strip, strip, strip
        stored = pixels.strip
        for stage, step in eyes.steps.items():
            exact = step.compute(self.weights, x, *grid)
            after = step.compute(self.stored, x, *grid)
            stored = after if stored is x else step.compute(self.stored, stored, *grid)
            if len(eyes.steps) > 1:
                found = CALLS[stage](self.session, given, tile)
                again = partial(step.compute, self.stored, disturbed(x), *grid)
                ratios[stage] = self._compared(stage, exact, after, found, again)
            before, x, given = x, exact, exact
        rows = self.session.encode_image(strip, tile.position_ids, tile.grid)
        again = partial(self._through, disturbed(pixels.strip), grid)
        ratios["encode_image"] = self._compared("encode_image", x, stored, rows, again)
        return Seen(tile, ratios, before, x, stored)

    def _through(self, x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """The rows of a tile by the reference, with the weights as stored in every step."""
        for step in self.eyes.steps.values():
            x = step.compute(self.stored, x, *grid)
        return x

    def _compared(
        self,
        stage: str,
        truth: np.ndarray,
        stored: np.ndarray,
        compiled: np.ndarray,
        again: Callable[[], np.ndarray],
    ) -> Ratio:
        """`again` computes `stored` from a disturbed input, if the ratio of the arithmetic is
        below its floor."""
        found = compared(truth, stored, compiled)
        if found.arithmetic_db is None or found.arithmetic_db >= self.floors.arithmetic()[stage]:
            return found
        return replace(found, rounding_db=snr_db(stored, again()))

    def _frames(self, seen: Sequence[Seen]) -> Ratios:
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

    def _language(self, seen: Sequence[Seen], name: str, progress: Progress) -> Ratios:
        """The compiled model generates the tokens; the reference gets the same ones."""
        tiles = [one.tile for one in seen]
        ids, positions = self._prompt(tiles)
        text = [i for i in ids if i is not None]
        embedded, kept = self._embed(self.weights, text), self._embed(self.stored, text)
        x = splice(ids, embedded, [one.rows for one in seen])
        compiled, tokens = self._decode(x, positions)
        after, after_kept = self._embed(self.weights, tokens), self._embed(self.stored, tokens)
        places = None if positions is None else continued(positions, len(tokens))

        def logits(weights: Weights, before: np.ndarray, after: np.ndarray, how: str) -> np.ndarray:
            x = np.concatenate([before, after])
            return self._logits(weights, x, places, f"{name}, language{how}", progress)

        truth = logits(self.weights, x, after, "")
        weights = self.stored.with_rows_alone(len(tokens))
        stored = logits(weights, x, after_kept, " as stored")
        noise = CACHE_NOISE[self.manifest.state.cache_dtype]
        again = partial(logits, weights, disturbed(x, noise), after_kept, " disturbed")

        own_text = self.session.embed(text)
        own = splice(ids, own_text, [self.session.encode_image(*tile.arrays) for tile in tiles])
        own_logits, _ = self._decode(own, positions, tokens)
        all_stored = splice(ids, kept, [one.stored_rows for one in seen])
        alone = partial(logits, weights, all_stored, after_kept, " from the picture")
        return {
            "embed": compared(embedded, kept, own_text),
            "logits": self._compared("logits", truth, stored, compiled, again),
            "end_to_end": self._end_to_end(truth, own_logits, alone),
        }

    def _end_to_end(
        self, truth: np.ndarray, compiled: np.ndarray, alone: Callable[[], np.ndarray]
    ) -> Ratio:
        """`alone` computes the logits with the weights as stored in all stages, if the ratio is
        below its floor."""
        found = Ratio(snr_db(truth, compiled))
        if found.snr_db >= self.floors.storage()["end_to_end"]:
            return found
        return replace(found, storage_db=snr_db(truth, alone()))

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


def _tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer without reserved strings."""
    entry = bundle.manifest.tokenizer
    return parse_tokenizer(entry.kind, bundle.read(entry.file), bundle.file(entry.file))
