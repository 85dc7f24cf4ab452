"""Prefetches among the products of tiles, which leave the memory idle.

What the epilogue reads and writes is fetched while the tiles of the same block multiply, and the
weights of the next task while those of this one are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm_ffi
from tvm import DataType, tirx
from tvm.ir import Expr, TensorLoad
from tvm.script import tirx as T

from ..isa.amx_instructions import ROW_BYTES, TILE
from ..isa.amx_intrinsics import Block
from ..loops import int64

READ, WRITE = 0, 1
L1, L2 = 3, 2


def fetch(place: Expr, purpose: int, cache: int) -> tirx.Stmt:
    """Prefetch the line of an element into a cache, to read or write it."""
    name = T.llvm_lookup_intrinsic_id("llvm.prefetch.p0")
    hints = (tirx.const(value, "int32") for value in (purpose, cache, 1))
    return tirx.Evaluate(T.call_llvm_intrin(name, T.address_of(place), *hints, dtype="void"))


@dataclass(frozen=True)
class Part:
    """The part of a float32 matrix that the epilogue of a block of sums reads or writes."""

    matrix: tirx.Buffer  # (m, n)
    row: Expr
    column: Expr
    purpose: int

    def lines(self, block: Block, step: Expr, steps: int) -> Iterator[tirx.Stmt]:
        """The fetches of one of `steps` iterations, of vectors of 16 columns; those beyond the
        matrix fetch its last ones."""
        m, n = (int64(extent) for extent in self.matrix.shape)
        each = -(-block.rows * TILE * block.panels // steps)
        for number in (step * each + n for n in range(each)):
            row = tirx.min(self.row + number // block.panels, m - 1)
            column = tirx.min(self.column + number % block.panels * TILE, n - 1)
            yield fetch(self.matrix[row, column], self.purpose, L1)


def read_like(store: tirx.BufferStore) -> list[tirx.Buffer]:
    """Other matrices that the epilogue reads where it writes, such as a residual."""
    loads: list[TensorLoad] = []
    tvm_ffi.structural_walk(store.value, (TensorLoad, loads.append))
    found: list[tirx.Buffer] = []
    for load in loads:
        same = len(load.indices) == len(store.indices) and all(
            tvm_ffi.structural_equal(a, b) for a, b in zip(load.indices, store.indices, strict=True)
        )
        if same and not any(load.source.same_as(known) for known in found):
            found.append(load.source)
    return found


@dataclass(frozen=True)
class NextWeights:
    """The weights that the next task multiplies by: of the next panels, or of the first ones."""

    weight: tirx.Buffer  # (panels, ..., 16 outputs[, inputs]): the innermost axes are one line
    panel: Expr
    """The first panel of this task."""
    panels: int
    """Panels of a task."""

    def lines(self, number: Expr, numbers: int, step: Expr, steps: int) -> Iterator[tirx.Stmt]:
        """The fetches of iteration `step` of block `number`."""
        outer = self._outer()
        per_panel = 1
        for extent in outer:
            per_panel *= extent
        each = -(-per_panel * self.panels // (numbers * steps))
        count = int(self.weight.shape[0])
        after = self.panel + self.panels
        first = tirx.Select(after < count, after, int64(0))
        for n in range(each):
            line = (number * steps + step) * each + n
            panel = tirx.min(first + line // per_panel, int64(count - 1))
            places = _unflattened(line % per_panel, outer)
            inner = [int64(0)] * (len(self.weight.shape) - 1 - len(outer))
            at = (panel, *places, *inner)
            yield fetch(self.weight[at], READ, L2)

    def _outer(self) -> list[int]:
        """Extents of the axes between panels and lines."""
        extents = [int(extent) for extent in self.weight.shape[1:]]
        size = DataType(self.weight.dtype).itemsize
        while size < ROW_BYTES:
            size *= extents.pop()
        assert size == ROW_BYTES, self.weight
        return extents


def _unflattened(place: Expr, extents: list[int]) -> list[Expr]:
    """Indices of a row-major position."""
    indices: list[Expr] = []
    for extent in reversed(extents):
        indices.insert(0, place % extent)
        place = place // extent
    return indices
