"""The share of a workgroup in the delta rule on a GPU, over chunks of positions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .delta_task import width_of
from .threads import halved


@dataclass(frozen=True)
class Chunks:
    """The columns of a workgroup, and `groups` threads for each vector of them.

    For the products with keys and queries, the groups split into `parts` of the keys, and each part
    into `row_groups`. A thread then has every such row in its part: a register tile.
    """

    key_dim: int
    columns: int
    groups: int
    """A power of two."""
    positions: int
    """Of a chunk, a power of two."""
    parts: int = 1
    """Of the keys, a power of two; their sums are exchanged."""

    @classmethod
    def sized(
        cls, key_dim: int, columns: int, threads: int, positions: int, parts: int = 1
    ) -> Chunks:
        """At most `threads` threads, but at least one per vector; at most `parts` parts."""
        groups = 1
        while 2 * groups * (columns // width_of(columns)) <= threads:
            groups *= 2
        shape = cls(key_dim, columns, groups, positions)
        return replace(shape, parts=halved(parts, shape._splits))

    def _splits(self, parts: int) -> bool:
        """Whether the keys and the groups split into so many parts."""
        return parts <= min(self.groups, self.rows) and self.key_vectors % parts == 0

    @property
    def lanes(self) -> int:
        """Columns of a vector."""
        return width_of(self.columns)

    @property
    def vectors(self) -> int:
        """Of columns."""
        return self.columns // self.lanes

    @property
    def key_lanes(self) -> int:
        """Keys of a vector."""
        return width_of(self.key_dim)

    @property
    def key_vectors(self) -> int:
        return self.key_dim // self.key_lanes

    @property
    def key_stride(self) -> int:
        """Vectors of a row of keys in memory: one more, so that rows begin in different banks."""
        return self.key_vectors + 1

    @property
    def threads(self) -> int:
        return self.vectors * self.groups

    @property
    def rows(self) -> int:
        """Of the products with keys and queries: queries, then keys."""
        return 2 * self.positions

    @property
    def row_groups(self) -> int:
        """Groups of a part that have rows of their own; further groups have none."""
        return min(self.groups, self.rows) // self.parts

    @property
    def own_rows(self) -> int:
        """Rows of a thread, of which it sums its part of the keys."""
        return self.rows // self.row_groups

    @property
    def kept_rows(self) -> int:
        """Rows of a thread after the exchange, of which it has the whole sums."""
        return self.own_rows // self.parts

    @property
    def matches(self) -> int:
        """Earlier positions of a thread, whose keys it multiplies with its rows."""
        return -(-self.positions // self.vectors)

    @property
    def weight_stride(self) -> int:
        """Numbers of a row of weights: vectors of them stay aligned, rows begin in other banks."""
        return self.positions + width_of(self.positions)

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory, as delta_chunks.py allocates it."""
        c = self.positions
        rows = self.rows * self.key_stride * self.key_lanes
        columns = self.columns * (self.key_dim + 2 * c)  # state, errors and changes
        exchanged = (self.parts - 1) * self.rows * (self.columns + c)
        weights = 2 * c * self.weight_stride
        return 4 * (rows + columns + exchanged + weights + 2 * c + c * (c + 1))
