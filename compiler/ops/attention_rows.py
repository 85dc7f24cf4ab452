"""The rows of attention on a GPU: pairs (query, head of the group) that share a kv head."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.sym import Analyzer
from tvm.tirx.script.builder import ir as T

from handglass.schedules.cpu.attention_shape import Limit

from .index_type import int64
from .lazy import Read


@dataclass(frozen=True)
class Rows:
    """Row r of a kv head is query r // group and head r % group of its group."""

    queries: Expr
    group: int
    columns: int
    limit: Limit
    read: Read | None
    """(query, head, column) -> element of the query."""
    factor: float
    """Scale factor of the queries."""

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
        limit = self.limit(self._query(row))
        return limit if "int64" in str(limit.ty.dtype) else int64(limit)

    def query(self, head: Expr, row: Expr, e: Expr) -> Expr:
        """An element of a row; padding rows repeat the last query."""
        assert self.read is not None
        value = self.read(self._query(row), head * self.group + row % self.group, e)
        return value * tirx.const(self.factor, "float32")

    def store(self, out: tirx.Buffer, head: Expr, row: Expr, e: Expr, value: Expr) -> None:
        """Store `value` in out (queries, heads * columns), unless the row is padding."""
        column = (head * self.group + row % self.group) * self.columns + e
        with T.If(row < self.queries * self.group), T.Then():
            T.buffer_store(out, value, [row // self.group, column])

    def _query(self, row: Expr) -> Expr:
        return tirx.min(row // self.group, self.queries - 1)
