"""The workgroup of attention on tensor cores: what its warps share, and what it takes of a chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .fragments import SIDE, WARP

HALVES, CODES, FLOATS = "float16", "int8", "float32"
"""Types of a cache."""
HALF, FLOAT = 2, 4
"""Bytes of a float16 and of a float32."""
UNIT = 8
"""float16 that a thread copies at once."""
BAND = SIDE // 2
"""Rows of a band that are sums of two float16, and most rows of a warp in float32."""
MOST_WARPS = 8
REGISTERS = 168
"""Most registers of a thread for sums, scores and queries; some 60 more hold addresses."""


@dataclass(frozen=True)
class Flash:
    """A tile of rows against chunks of positions."""

    d: int
    down: int
    """Warps that share the rows."""
    across: int
    """Warps that share the positions of a chunk."""
    bands: int
    """Bands of 16 rows of a warp, which share each key that it loads; or parts of its rows in
    float32, each of which loads keys for itself and needs fewer registers."""
    chunk: int
    """Positions that are copied to shared memory together."""
    step: int
    """Positions of a warp between two looks at the maxima."""
    stages: int
    """Chunks in shared memory."""
    held: bool
    """Whether queries stay in registers."""
    lazy: bool
    """Whether sums are rescaled only if a maximum of the warp has changed; in float32, whether
    maxima are raised only for scores that exceed them by 8."""
    cache: str = ""
    """Type of the cache that one query reads as it is; "" if operands are rounded to float16."""
    heads: int = 0
    """Rows that share keys and values, which are those of a tile in float32, up to 8 per warp."""

    @property
    def fine(self) -> bool:
        """Whether queries and weights are sums of two float16, which are two rows of a product."""
        return self.cache in (HALVES, CODES)

    @property
    def band(self) -> int:
        """Rows of a band."""
        return BAND if self.fine else SIDE

    @property
    def own(self) -> int:
        """Rows of a warp."""
        if self.cache != FLOATS:
            return self.band * self.bands
        tiles = -(-self.heads // (BAND * self.down))
        return -(-self.heads // (self.down * tiles))

    @property
    def rows(self) -> int:
        return self.own * self.down

    @property
    def lines(self) -> int:
        """Rows of float16 in shared memory: queries, and what they lack."""
        return SIDE * self.bands * self.down

    @property
    def threads(self) -> tuple[int, int]:
        return self.down * self.across, WARP

    @property
    def stride(self) -> int:
        """Elements between rows in shared memory: an odd number of units."""
        return UNIT * (self.d // UNIT | 1)

    @property
    def line(self) -> int:
        """float32 between queries in shared memory; see flash_floats.py."""
        block = 4 * self.parts
        return block * -(-self.d // block)

    @property
    def parts(self) -> int:
        """Lanes that share the columns of a key in float32."""
        return 4 * WARP // self.step

    @property
    def registers(self) -> int:
        """Registers of a thread that hold matrices."""
        if self.cache == FLOATS:
            sums = self.own * (2 + 4 * -(-self.d // (4 * WARP)))
            return sums + 4 * -(-self.own // self.bands)
        queries = 4 * -(-self.d // SIDE) if self.held else 0
        return self.bands * (self.d // 2 + self.step // 2 + queries)

    def stage(self, panels: bool) -> int:
        """float16 that a chunk of keys and values is as large as; `panels`: keys are in panels of
        16 positions."""
        if self.cache == FLOATS:
            return 2 * self.chunk * self.d * FLOAT // HALF
        if self.cache == CODES:
            pieces = -(-self.d // SIDE)
            panel = SIDE * (SIDE * (pieces | 1) + pieces % 8)
            return self.chunk * (self.d + panel // SIDE + 2 * FLOAT) // HALF
        return self.chunk * ((self.d if panels else self.stride) + self.stride)

    def queries_at(self, panels: bool) -> int:
        """Where queries are: behind the stages or, until registers hold them, in the last one."""
        return (self.stages - self.held) * self.stage(panels)

    def bytes(self, panels: bool) -> int:
        """Shared memory; see `stage`."""
        staged = self.queries_at(panels) + self._queries
        staged = max(staged, self.stages * self.stage(panels))
        merged = self.across * self.rows * (self._apart + 2) if self.across > 1 else 0
        return max(HALF * staged, FLOAT * merged)

    @property
    def _queries(self) -> int:
        """float16 that queries are as large as; with float32, also the weights of each warp."""
        if self.cache != FLOATS:
            return self.lines * self.stride
        weights = self.rows * self.across * self.step
        return (self.rows * self.line + weights) * FLOAT // HALF

    @property
    def _apart(self) -> int:
        """float32 between rows that are merged, which should not be in the same banks."""
        if self.cache == FLOATS:
            return self.d
        return self.d + ((48 if self.cache == CODES else 40) - self.d % 32) % 32

    def fitted(self, memory: int, panels: bool) -> Flash:
        """The nearest shape whose warps, registers and shared memory a multiprocessor has.

        Choices are offered independently of each other, so a combination may exceed them.
        """
        across = min(self.across, MOST_WARPS // self.down, self.chunk // SIDE)
        flash = replace(self, across=across)
        if self.cache == FLOATS:
            flash = replace(flash, bands=min(self.bands, self.own))
        flash = replace(flash, step=min(flash.step, flash.chunk // flash.across))
        for shrink in _BY_REGISTERS:
            flash = flash if flash.registers <= REGISTERS else shrink(flash)
        for shrink in _BY_MEMORY:
            flash = flash if flash.bytes(panels) <= memory else shrink(flash)
        return flash


def _halved_chunk(flash: Flash) -> Flash:
    """A chunk of at least 16 positions for each warp."""
    chunk = max(SIDE * flash.across, flash.chunk // 2)
    return replace(flash, chunk=chunk, step=min(flash.step, chunk // flash.across))


_BY_REGISTERS: tuple[Callable[[Flash], Flash], ...] = (
    lambda f: replace(f, held=False),
    lambda f: replace(f, step=f.step // 2 if f.step > SIDE else SIDE),
    lambda f: replace(f, bands=1),
    lambda f: replace(f, step=SIDE),
)
_BY_MEMORY: tuple[Callable[[Flash], Flash], ...] = (
    lambda f: replace(f, stages=min(f.stages, 2)),
    _halved_chunk,
    _halved_chunk,
    lambda f: replace(f, stages=1),
    lambda f: f if f.cache == FLOATS else replace(f, bands=1),
    lambda f: replace(f, across=1),
    _halved_chunk,
    _halved_chunk,
    lambda f: replace(f, down=min(f.down, 2)),
    lambda f: replace(f, down=1),
)
