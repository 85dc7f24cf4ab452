"""The rows of attention on a GPU: pairs (query, head of the group) that share a kv head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.sym import Analyzer
from tvm.tirx.script.builder import ir as T

from ..cpu.attention_shape import Limit
from ..loops import int64

Read = Callable[..., Expr]
"""Index of an element -> value."""


@dataclass(frozen=True)
class Rows:
    """Row r of a kv head is query r // group and head r % group of its group."""

    queries: Expr
    group: int
    columns: int
    limit: Limit

    def tiles(self, tile: int) -> Expr:
        """Number of tiles of `tile` rows."""
        return (self.queries * self.group + (tile - 1)) // tile

    @property
    def has_uniform_limit(self) -> bool:
        """Whether the limit is provably the same for all queries."""
        first, last = self.limit(int64(0)), self.limit(self.queries - 1)
        return bool(Analyzer().can_prove_equal(first, last))

    def limit_of(self, row: Expr) -> Expr:
        """Number of positions visible to a row, or to each row of a vector. Padding rows have the
        limit of the last query."""
        limit = self.limit(self.query_of(row))
        return limit if "int64" in str(limit.ty.dtype) else int64(limit)

    def query_of(self, row: Expr) -> Expr:
        """The query of a row; that of padding rows is the last one."""
        return tirx.min(row // self.group, self.queries - 1)

    def store(self, out: tirx.Buffer, head: Expr, row: Expr, e: Expr, value: Expr) -> None:
        """Store `value` in out (queries, heads * columns), unless the row is padding."""
        column = (head * self.group + row % self.group) * self.columns + e
        with T.If(row < self.queries * self.group), T.Then():
            T.buffer_store(out, value, [row // self.group, column])
