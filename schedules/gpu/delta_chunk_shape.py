"""The share of a workgroup in the delta rule on a GPU, over chunks of positions."""

from __future__ import annotations

from dataclasses import dataclass

from .delta_task import width_of


@dataclass(frozen=True)
class Chunks:
    """The columns of a workgroup, and `groups` threads for each vector of them."""

    key_dim: int
    columns: int
    groups: int
    """A power of two."""
    positions: int
    """Of a chunk, a power of two."""

    @classmethod
    def sized(cls, key_dim: int, columns: int, threads: int, positions: int) -> Chunks:
        """At most `threads` threads, but at least one per vector."""
        groups = 1
        while 2 * groups * (columns // width_of(columns)) <= threads:
            groups *= 2
        return cls(key_dim, columns, groups, positions)

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
        """Of the products with the state: queries, then keys."""
        return 2 * self.positions

    @property
    def own_rows(self) -> int:
        """Rows of a thread."""
        return max(1, self.rows // self.groups)

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory, as delta_chunks.py allocates it."""
        c = self.positions
        rows = self.rows * self.key_stride * self.key_lanes
        columns = self.columns * (self.key_dim + 2 * c)  # state, values and errors
        return 4 * (rows + columns + 2 * c + c * (c + 1) + 2 * c * c)
