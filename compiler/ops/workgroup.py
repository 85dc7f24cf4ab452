"""The partition of attention into workgroups and threads, within the limits of the target."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm import tirx
from tvm.ir import Expr

from .scope import limit

THREADS = 128
"""Approximate number of threads per workgroup; each group of threads covers all value columns."""
TILES = (16, 12, 8, 4, 2, 1)
"""Candidates for rows per tile, which share each loaded key; the first that fits shared memory."""
PACK = 4
"""Rows per vector: one load from shared memory then returns four values."""
LANES_OF_A_ROW = 16
"""Limit of threads that reduce the scores of a row; each of them repeats the last step."""
WORKGROUPS, MOST_SPLITS = 128, 16
"""With fewer workgroups, parts of a large GPU are idle, so the positions are split as well."""
LOWEST = -3.0e38
"""The score of an invisible position: relative to any other score its weight is exactly zero."""
PORTABLE_THREADS, PORTABLE_BYTES = 128, 16384
"""Workgroup limits that every Vulkan device supports."""


@dataclass(frozen=True)
class Workgroup:
    """A tile of rows against chunks of positions; `columns` * `parts` threads."""

    tile: int
    columns: int
    """Threads that cover the columns of the values, with `d / columns` columns each."""
    parts: int
    """Groups of such threads; they split the rows first, then the positions."""
    chunk: int
    """Positions per chunk."""
    d: int

    @classmethod
    def of(cls, rows: Expr, d: int) -> Workgroup:
        """The partition for `rows` rows of `d` columns on the target in scope.

        Raises ValueError if a tile of one row exceeds the shared memory.
        """
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
        """Number of workgroups that split the positions: more than one only for a static number of
        rows that fits one tile, and at most the number of chunks."""
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
        """Rows per vector."""
        return gcd(self.tile, PACK)

    @property
    def packs(self) -> int:
        return self.tile // self.pack

    @property
    def wide(self) -> int:
        """Columns per thread."""
        return self.d // self.columns

    @property
    def row_parts(self) -> int:
        return gcd(self.packs, self.parts)

    @property
    def position_parts(self) -> int:
        return self.parts // self.row_parts

    @property
    def rounds(self) -> int:
        """Positions of a chunk whose scores one thread computes."""
        return self.chunk // self.threads

    @property
    def packs_per_thread(self) -> int:
        """Packs of rows for which a thread accumulates values."""
        return self.packs // self.row_parts

    @property
    def positions(self) -> int:
        """Positions of a chunk whose values one thread accumulates."""
        return self.chunk // self.position_parts

    @property
    def lanes(self) -> int:
        """Threads per pack in the softmax; a divisor of the chunk."""
        most = max(1, min(LANES_OF_A_ROW, self.threads // self.packs))
        return max(n for n in range(1, most + 1) if self.chunk % n == 0)

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory: queries, scores, and per row a maximum per lane and a decay."""
        return 4 * self.tile * (self.d + self.chunk + self.lanes + 1)
