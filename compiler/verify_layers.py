"""What arrives at each layer of a bundle, which no compiled function returns.

A hook of the virtual machine sees the arguments of every kernel. The first kernel that reads a
parameter of a layer is its norm, whose input is the rows that the layer gets. The bundle is the one
that people run: nothing is compiled for this.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handglass.runtime.engine.session import Session

from .parity.ratios import Arrival, snr_db

_LAYER = re.compile(r"(.*?\blayers\.\d+)\.")
_NORM = re.compile(r"((.*)\.\w*norm)\.")


MOST_ROWS = 128
"""Rows of a layer that are kept, about: a tile has 1,024, and a tower 27 layers."""


@dataclass(frozen=True)
class Watched:
    """The rows (n, width) that arrive at each layer of the reference, and last at the norm."""

    length: int | None = None
    """Only the first rows; None: all."""
    exact: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    """With the weights as stored."""

    def watch_exact(self, rows: np.ndarray) -> None:
        self.exact.append(thinned(rows[: self.length]))

    def watch_kept(self, rows: np.ndarray) -> None:
        self.kept.append(thinned(rows[: self.length]))


def thinned(rows: np.ndarray) -> np.ndarray:
    """A copy of about MOST_ROWS rows at equal distances."""
    return rows[:: max(1, len(rows) // MOST_ROWS)].copy()


class Arrivals:
    """The lowest ratios of each layer, over all tiles and pictures."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._owners = {} if session.on_gpu else _owners(session.parameter_addresses())
        self._found: dict[str, Arrival] = {}

    @contextmanager
    def observed(self, watched: Watched) -> Iterator[None]:
        """The block calls a function once whose layers the reference has computed."""
        if not watched.exact:
            yield
            return
        with self.seen(watched.exact[0].shape[1]) as found:
            yield
        self.compare(found, watched)

    @contextmanager
    def seen(self, width: int) -> Iterator[dict[str, np.ndarray]]:
        """The dictionary gets the rows (n, width) of each layer during the block, in order; none on
        a GPU, whose kernels run after the hook."""
        found: dict[str, np.ndarray] = {}
        if not self._owners:
            yield found
            return

        def before(kernel: str, arguments: Sequence[Any]) -> None:
            tensors = [argument for argument in arguments if hasattr(argument, "data_ptr")]
            owners = (self._owners.get(tensor.data_ptr()) for tensor in tensors)
            layer = next((owner for owner in owners if owner and owner not in found), None)
            if layer and (rows := _only_input(tensors[:-1], width)) is not None:
                found[layer] = rows

        with self._session.observed(before, lambda kernel: None):
            yield found

    def compare(self, compiled: Mapping[str, np.ndarray], watched: Watched) -> None:
        """Note the ratios, unless the layers or the rows are not as many as the reference's."""
        if len(compiled) != len(watched.exact):
            return
        pairs = zip(watched.exact, watched.kept, strict=True)
        for (layer, rows), (exact, kept) in zip(compiled.items(), pairs, strict=True):
            if rows.shape == exact.shape:
                self._note(layer, snr_db(exact, rows), snr_db(kept, rows))

    def _note(self, layer: str, snr: float, arithmetic: float) -> None:
        old = self._found.get(layer, Arrival(layer, math.inf, math.inf))
        lowest = min(old.snr_db, snr), min(old.arithmetic_db, arithmetic)
        self._found[layer] = Arrival(layer, *lowest)

    def all(self) -> tuple[Arrival, ...]:
        return tuple(self._found.values())


def _owners(parameters: Mapping[int, str]) -> dict[int, str]:
    """Address of a parameter -> the layer that it belongs to, or the last norm of its tower."""
    layers = {at: found[1] for at, name in parameters.items() if (found := _LAYER.match(name))}
    towers = {layer.rpartition(".layers.")[0] for layer in layers.values()}
    norms = ((at, found) for at, name in parameters.items() if (found := _NORM.match(name)))
    return layers | {at: found[1] for at, found in norms if found[2] in towers}


def _only_input(tensors: Sequence[Any], width: int) -> np.ndarray | None:
    """Some rows of the one float32 argument with rows of this width; None if there is not one."""
    rows = [
        t
        for t in tensors
        if str(t.dtype) == "float32" and t.shape[-1:] == (width,) and len(t.shape) > 1
    ]
    return thinned(np.from_dlpack(rows[0]).reshape(-1, width)) if len(rows) == 1 else None
