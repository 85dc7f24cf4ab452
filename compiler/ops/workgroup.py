"""How attention divides its work among workgroups and threads, from what the target allows."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm import tirx
from tvm.ir import Expr

from .scope import limit

THREADS = 128
"""Threads of a workgroup: about so many, whole columns of the values."""
TILES = (16, 12, 8, 4, 2, 1)
"""Rows of a tile: a key that was loaded serves them all. As many as fit into shared memory."""
PACK = 4
"""Rows side by side in one vector: shared memory then gives four numbers for one load."""
LANES_OF_A_ROW = 16
"""Threads that look for the largest score of a row, at most: the last step is up to each alone."""
WORKGROUPS, MOST_SPLITS = 128, 16
"""With fewer workgroups than that a large GPU has idle parts: positions are divided as well."""
LOWEST = -3.0e38
"""The score of a position that is not seen: relative to any other its weight is exactly zero."""
PORTABLE_THREADS, PORTABLE_BYTES = 128, 16384
"""Of a workgroup: what every Vulkan device allows."""


@dataclass(frozen=True)
class Workgroup:
    """A tile of rows against chunks of positions; `columns` * `parts` threads."""

    tile: int
    columns: int
    """Threads side by side, each with `d / columns` columns of the values."""
    parts: int
    """Groups of threads that share the columns: by rows, and by positions where these do not do."""
    chunk: int
    """Positions at a time."""
    d: int

    @classmethod
    def of(cls, rows: Expr, d: int) -> Workgroup:
        """For so many rows of `d` columns on the target in scope."""
        most = limit("max_threads_per_block", PORTABLE_THREADS)
        columns = max(n for n in range(1, d + 1) if d % n == 0 and n <= most)
        parts = max(1, min(THREADS, most) // columns) if columns == d else 1
        threads = columns * parts
        chunk = threads * -(-max(d, 64) // threads)
        known = int(rows) if isinstance(rows, tirx.IntImm) else None
        tiles = [known] if known is not None and known <= TILES[0] else []
        for tile in (*tiles, *TILES):
            shape = cls(tile, columns, parts, chunk, d)
            if shape.shared_bytes <= limit("max_shared_memory_per_block", PORTABLE_BYTES):
                return shape
        raise ValueError(f"attention over heads of {d} columns needs more shared memory")

    def splits(self, rows: Expr, heads: int, positions: Expr) -> int:
        """Into how many parts, with a workgroup each, the positions are divided: several where
        there are known to be few rows, but no more than there are chunks."""
        if not isinstance(rows, tirx.IntImm) or int(rows) > self.tile:
            return 1
        chunks = MOST_SPLITS
        if isinstance(positions, tirx.IntImm):
            chunks = -(-int(positions) // self.chunk)
        return max(1, min(-(-WORKGROUPS // heads), MOST_SPLITS, chunks))

    @property
    def threads(self) -> int:
        return self.columns * self.parts

    @property
    def pack(self) -> int:
        """Rows in a vector."""
        return gcd(self.tile, PACK)

    @property
    def packs(self) -> int:
        return self.tile // self.pack

    @property
    def wide(self) -> int:
        """Columns of a thread."""
        return self.d // self.columns

    @property
    def row_parts(self) -> int:
        return gcd(self.packs, self.parts)

    @property
    def position_parts(self) -> int:
        return self.parts // self.row_parts

    @property
    def rounds(self) -> int:
        """Positions of a chunk whose scores are up to one thread."""
        return self.chunk // self.threads

    @property
    def own_packs(self) -> int:
        """Packs of rows that a thread adds up values for."""
        return self.packs // self.row_parts

    @property
    def positions(self) -> int:
        """Positions of a chunk whose values are up to one thread."""
        return self.chunk // self.position_parts

    @property
    def lanes(self) -> int:
        """Threads of a pack in the softmax; they divide the chunk."""
        most = max(1, min(LANES_OF_A_ROW, self.threads // self.packs))
        return max(n for n in range(1, most + 1) if self.chunk % n == 0)

    @property
    def shared_bytes(self) -> int:
        """Queries, scores, and per row a maximum for each lane and a decay."""
        return 4 * self.tile * (self.d + self.chunk + self.lanes + 1)
