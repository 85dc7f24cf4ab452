"""The reference of a model family: which parts it has, and in which order they are computed.

`Family.reference` names the module whose function `reference` makes it from the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from handglass.runtime.prompt.preprocess import Picture

from ...models.config import LanguageConfig
from .arithmetic import Watch, Weights, unwatched
from .language import Names
from .pixels import Pixels

VISION, LANGUAGE = "vision", "language"
"""The parts of a model that have schemes of their own."""


class Compute(Protocol):
    def __call__(
        self, weights: Weights, x: np.ndarray, rows: int, cols: int, /, *, watch: Watch = unwatched
    ) -> np.ndarray:
        """A part without layers ignores `watch`."""


@dataclass(frozen=True)
class Step:
    """One stage of `encode_image`."""

    scheme: str
    """The part whose scheme stores the weights."""
    compute: Compute
    """(weights, input, rows, columns of the tile) -> output; the first input is the strip."""


Frames = Callable[[Weights, np.ndarray, Sequence[tuple[int, int]], Sequence[int]], np.ndarray]
"""(weights, features of all frames, (rows, columns) and time of each) -> the rows they share."""


@dataclass(frozen=True)
class Eyes:
    """From a picture to rows of the language model."""

    tiles: Callable[[Picture], list[Pixels]]
    steps: Mapping[str, Step]
    """By stage, in order. If there are several, each is compared with a function of the bundle."""
    order: Callable[[int, int], np.ndarray] = lambda rows, cols: np.arange(rows * cols)
    """(rows, columns) -> the numbers of the patches in the order in which the bundle takes them."""
    frames: Frames | None = None
    """The last step for several video frames; None for a model whose frames have their own rows."""


@dataclass(frozen=True)
class Reference:
    """`eyes` is None for a family without vision."""

    language: LanguageConfig
    names: Names = field(default_factory=Names)
    eyes: Eyes | None = None
