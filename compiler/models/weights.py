"""Packed weight matrices, split into as many pieces as the device requires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import isfunction
from itertools import pairwise
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr
from tvm.relax.frontend import nn

from handglass.schedules.isa.register_tiles import LANES

from ..checkpoints.checkpoint import Checkpoint
from ..ops.matmul import Dequantize
from ..schemes.scheme import Arrays, Scheme
from .leaves import Leaf, Part, Rows

CHUNK = 1 << 22
"""Number of weights packed at a time."""


@dataclass(frozen=True)
class Piece:
    """Panels `start` to `stop` of a matrix; `tensors` are the scheme's parts."""

    start: int
    stop: int
    out_features: int
    tensors: list[nn.Tensor]


class Panels(Leaf):
    """A packed weight matrix (out, in); several checkpoint tensors may be stacked as its rows.

    A matrix that exceeds the largest buffer range of a kernel is split into pieces of whole panels.
    """

    def __init__(self, scheme: Scheme, sources: Sequence[Rows], transpose: bool = False) -> None:
        super().__init__()
        self.scheme, self.transpose = scheme, transpose
        self.sources = tuple(sources)
        count, width = sum(s.count for s in sources), int(np.prod(sources[0].shape[1:]))
        self.out_features, self.in_features = (width, count) if transpose else (count, width)
        parts = scheme.shapes(self.out_features, self.in_features)
        self.parts = tuple(parts)
        self.cuts = _cuts(parts, scheme.units.largest)
        for number, (start, stop) in enumerate(pairwise(self.cuts)):
            for name, (shape, dtype) in parts.items():
                kept = nn.Parameter((stop - start, *shape[1:]), dtype)
                setattr(self, self._attribute(name, number), kept)

    def _attribute(self, part: str, piece: int) -> str:
        return part if len(self.cuts) == 2 else f"{part}_{piece}"

    def stream(self, checkpoint: Checkpoint) -> Iterator[Part]:
        packed = map(self.scheme.pack, self._matrices(checkpoint))
        for name, first, rows in below_another(packed):
            for number, (start, stop) in enumerate(pairwise(self.cuts)):
                part = rows[max(start - first, 0) : max(stop - first, 0)]
                if len(part):
                    yield self._attribute(name, number), max(first - start, 0), part

    def _matrices(self, checkpoint: Checkpoint) -> Iterator[np.ndarray]:
        """Yield the rows in whole panels, so that a large table is never in float32 as a whole."""
        if self.transpose:
            (source,) = self.sources
            yield source.read(checkpoint).T
        elif any(source.count % LANES for source in self.sources[:-1]):
            yield np.concatenate([s.read(checkpoint).reshape(s.count, -1) for s in self.sources])
        else:
            size = max(CHUNK // self.in_features // LANES, 1) * LANES
            for source in self.sources:
                yield from source.chunks(checkpoint, size)

    @property
    def pieces(self) -> list[Piece]:
        """The pieces in order; nearly always one."""
        return [
            Piece(
                start,
                stop,
                min(self.out_features, stop * LANES) - start * LANES,
                [getattr(self, self._attribute(name, number)) for name in self.parts],
            )
            for number, (start, stop) in enumerate(pairwise(self.cuts))
        ]

    def reader(self, parts: Sequence[te.Tensor]) -> Dequantize:
        """The float32 weight at (panel, k, lane); `parts` are the parts of all pieces, in order."""
        size, pieces = len(self.parts), self.pieces
        groups = [parts[i : i + size] for i in range(0, len(parts), size)]
        read = [as_function(self.scheme.read(group)) for group in groups]

        def value(panel: Expr, k: Expr, lane: Expr) -> Expr:
            *before, last = [f(panel - p.start, k, lane) for f, p in zip(read, pieces, strict=True)]
            for piece, weight in zip(pieces[-2::-1], before[::-1], strict=True):
                last = tirx.if_then_else(panel < piece.stop, weight, last)
            return last

        return value


def below_another(packed: Iterable[Arrays]) -> Iterator[Part]:
    """Packed matrices as parts of one that has them below each other."""
    first = 0
    for arrays in packed:
        yield from ((name, first, array) for name, array in arrays.items())
        first += len(next(iter(arrays.values())))


def as_function(read: Any) -> Dequantize:
    """What a scheme's `read` returns, as a function in every case."""
    return read if isfunction(read) else (lambda *at: read[at])


def _cuts(parts: Mapping[str, tuple[tuple[int, ...], str]], largest: int | None) -> list[int]:
    """Piece boundaries, in panels: no part of a piece exceeds `largest` bytes."""
    shapes = [(shape, np.dtype(dtype).itemsize) for shape, dtype in parts.values()]
    count = shapes[0][0][0]
    panel = max(int(np.prod(shape[1:])) * size for shape, size in shapes)
    height = count if largest is None else max(largest // panel, 1)
    return [*range(0, count, height), count]
