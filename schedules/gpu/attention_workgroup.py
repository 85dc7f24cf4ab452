"""The partition of attention into workgroups and threads, within the limits of the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

import tvm
from tvm import DataType, tirx
from tvm.ir import Expr

THREADS = 128
"""Approximate number of threads per workgroup; each group of threads covers all value columns."""
TILES = (16, 12, 8, 4, 2, 1)
"""Candidates for rows per tile, which share each loaded key; the first that fits shared memory."""
PACK = 4
"""Rows per vector: one load from shared memory then returns four values."""
LANES_OF_A_ROW = 16
"""Limit of threads that reduce the scores of a row; each of them repeats the last step."""
LEAST_CHUNK = 64
"""Least positions per chunk."""
WORKGROUPS, MOST_SPLITS = 128, 16
"""With fewer workgroups, parts of a large GPU are idle, so the positions are split as well."""
LOWEST = -3.0e38
"""The score of an invisible position: relative to any other score its weight is exactly zero."""
PORTABLE_THREADS, PORTABLE_BYTES = 128, 16384
"""Workgroup limits that every Vulkan device supports."""


@dataclass(frozen=True)
class Bounds:
    """Limits of a workgroup: threads, and bytes of shared memory."""

    threads: int = PORTABLE_THREADS
    bytes: int = PORTABLE_BYTES

    @classmethod
    def of(cls, target: tvm.target.Target | None) -> Bounds:
        """What the target states; for the others, what every device supports."""
        attrs = target.attrs if target is not None else {}
        return cls(
            int(attrs.get("max_threads_per_block", PORTABLE_THREADS)),
            int(attrs.get("max_shared_memory_per_block", PORTABLE_BYTES)),
        )


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
    most_lanes: int = LANES_OF_A_ROW
    """Most threads that reduce the scores of a row."""
    staged: str = ""
    """Type in which the values of a chunk are first copied to shared memory; "": they are not."""

    @classmethod
    def of(cls, rows: Expr, d: int, bounds: Bounds) -> Workgroup:
        """The default partition for `rows` rows of `d` columns.

        Raises ValueError if a tile of one row exceeds the shared memory.
        """
        most = bounds.threads
        columns = max(n for n in range(1, d + 1) if d % n == 0 and n <= most)
        parts = max(1, min(THREADS, most) // columns) if columns == d else 1
        threads = columns * parts
        chunk = threads * -(-max(d, LEAST_CHUNK) // threads)
        known = int(rows) if isinstance(rows, tirx.IntImm) else None
        tiles = [known] if known is not None and known <= TILES[0] else []
        for tile in (*tiles, *TILES):
            shape = cls(tile, columns, parts, chunk, d)
            if shape.shared_bytes <= bounds.bytes:
                return shape
        raise ValueError(f"attention over heads of {d} columns needs more shared memory")

    def sized(self, threads: int, wide: int, chunks: int) -> Workgroup:
        """The same rows for about `threads` threads of at least `wide` columns each.

        A chunk is `chunks` times the smallest one, whose scores' memory also takes the sums of all
        parts of the positions.
        """
        columns = max(n for n in range(1, self.d // wide + 1) if self.d % n == 0 and n <= threads)
        shape = replace(self, columns=columns, parts=max(1, threads // columns))
        least = max(self.d, LEAST_CHUNK, shape.position_parts * self.d)
        return replace(shape, chunk=shape.threads * -(-least // shape.threads) * chunks)

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
        most = max(1, min(self.most_lanes, self.threads // self.packs))
        return max(n for n in range(1, most + 1) if self.chunk % n == 0)

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory: queries, scores, maxima per lane, decays of rows, values."""
        kept = DataType(self.staged).itemsize * self.chunk * self.d if self.staged else 0
        return 4 * self.tile * (self.d + self.chunk + self.lanes + 1) + kept
