"""A register tile of sums in a loop nest that a schedule writes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx.script.builder import ir as T

from ..loops import int64

At = Callable[[Expr, Expr], Expr]
"""Value at (row, column)."""


@dataclass(frozen=True)
class WrittenTile:
    """`rows` rows of `columns` sums. Their indices are constant, so they stay in registers."""

    sums: tirx.Buffer  # at least (rows, columns)
    rows: int
    columns: int
    lanes: int
    """Columns of a vector, a divisor of `columns`."""

    def set(self, value: At) -> None:
        """Set every sum."""
        with T.unroll(int64(0), int64(self.rows)) as r:
            self.store(self.sums, lambda j: value(r, j), lambda j: [r, j])

    def add(self, steps: Expr, left: At, right: At) -> None:
        """Add the product of `left` (rows, steps) and `right` (steps, columns)."""
        with T.serial(int64(0), steps) as i:
            self.set(lambda r, j: self.sums[r, j] + left(r, i) * right(i, j))

    def substitute(self, left: At) -> None:
        """Solve by forward substitution: add left(r, i) times row i to row r, for all i < r."""
        for r in range(self.rows):
            for i in range(r):
                self.store(
                    self.sums,
                    lambda j, r=r, i=i: (  # type: ignore[misc]
                        self.sums[r, j] + left(int64(r), int64(i)) * self.sums[i, j]
                    ),
                    lambda j, r=r: [int64(r), j],  # type: ignore[misc]
                )

    def store(
        self,
        buffer: tirx.Buffer,
        value: Callable[[Expr], Expr],
        place: Callable[[Expr], list[Expr]],
    ) -> None:
        """Store value(j) at place(j) for each column j."""
        vectors = T.unroll(int64(0), int64(self.columns // self.lanes))
        with vectors as vector, T.vectorized(int64(0), int64(self.lanes)) as lane:
            j = vector * self.lanes + lane
            T.buffer_store(buffer, value(j), place(j))
