"""Compare a bundle with its checkpoint, stage by stage, as signal-to-noise ratios (SNR) in dB.

Each stage receives the input of the reference, so the first stage below its floor contains the
fault; `end_to_end` then runs the compiled model alone. There are two ratios: against the checkpoint
in float32, and against the weights as stored, which isolates errors of the arithmetic. A loss that
the reference has, too, with the weights as stored, is the storage's and no fault. A model has the
stages that its family's reference and its bundle have: one without vision, none of tiles. A dual
encoder has stages of its own (verify_encoders.py), and so has an imported graph (verify_graph.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from handglass.errors import MismatchError, UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.session import Session
from handglass.runtime.prompt.preprocess import Picture
from handglass.runtime.prompt.tokenizer import Tokenizer, parse_tokenizer

from .checkpoints.opening import open_checkpoint
from .parity.inputs import drawn_picture
from .parity.ratios import Arrival, Ratios, Stage, judge
from .verify_encoders import verify_encoders
from .verify_graph import verify_graph
from .verify_language import Language
from .verify_subject import Progress, Subject
from .verify_tiles import TILE_STAGES, Tiles

ORDER = (*TILE_STAGES, "embed", "logits", "end_to_end")


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
    if opened.manifest.graph is not None:
        if images:
            raise UsageError("--image: a graph is compared on random arrays; omit it")
        return verify_graph(opened, Path(checkpoint), device, progress or (lambda *_: None))
    weights = open_checkpoint(checkpoint, allow_pickle, mmproj)
    manifest = opened.manifest
    if dict(manifest.model.config) != weights.config:
        raise MismatchError(
            f"{bundle}: its configuration differs from config.json of {checkpoint}; pass the "
            "checkpoint that it was compiled from"
        )
    if manifest.encoders is not None:
        return verify_encoders(opened, weights, images, progress or (lambda *_: None), device)
    subject = Subject(Session(opened, device=device), weights, manifest)
    return Comparison(subject, _tokenizer(opened)).run(images, progress or (lambda *_: None))


class Comparison:
    """One compiled model and one checkpoint."""

    def __init__(self, subject: Subject, tokenizer: Tokenizer) -> None:
        self.subject = subject
        self.tiles = Tiles(subject)
        self.language = Language(subject, tokenizer)

    def run(self, pictures: Sequence[Picture] | None, progress: Progress) -> list[Stage]:
        """The result of every stage: its lowest ratio over all tiles and pictures."""
        if not pictures:
            pictures = [drawn_picture()] if self.subject.reference.eyes else [None]
        found = [
            ratios
            for number, picture in enumerate(pictures, 1)
            for ratios in self._question(picture, f"picture {number} of {len(pictures)}", progress)
        ]
        floors, arithmetic = self.subject.floors.storage(), self.subject.floors.arithmetic()
        return [
            self.subject.stored.losses.stage(),
            *(
                replace(
                    judge(stage, measured, floors[stage], arithmetic.get(stage, 0.0)),
                    arrivals=self._arrivals(stage),
                )
                for stage in ORDER
                if (measured := [ratios[stage] for ratios in found if stage in ratios])
            ),
        ]

    def _arrivals(self, stage: str) -> tuple[Arrival, ...]:
        """What arrives at the layers of a stage; none if the stage has none of its own."""
        towers = {"logits": self.language.arrivals, self.tiles.tower: self.tiles.arrivals}
        return towers[stage].all() if stage in towers else ()

    def _question(self, picture: Picture, name: str, progress: Progress) -> list[Ratios]:
        """The ratios of each tile, then those of the language model."""
        seen = [] if picture is None else self.tiles.see(picture, name, progress)
        frames = self.tiles.frames(seen) if seen else {}
        language = self.language.ratios(seen, name, progress)
        return [*(one.ratios for one in seen), frames, language]


def _tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer without reserved strings."""
    entry = bundle.manifest.tokenizer
    assert entry is not None  # this is no encoder
    return parse_tokenizer(entry.kind, bundle.read(entry.file), bundle.file(entry.file))
