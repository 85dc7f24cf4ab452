"""The share of a workgroup in the delta rule on a GPU, position by position."""

from __future__ import annotations

from dataclasses import dataclass

from .attention_workgroup import Bounds

THREADS = 128
"""Most threads of a workgroup: a small workgroup leaves more of them to occupy a large GPU."""
COLUMNS = 32
"""Most columns of a workgroup: adjacent threads load 128 adjacent bytes of the state."""
KEYS = 32
"""Keys per thread, if the limits allow: registers of a thread that hold the state."""
POSITIONS = 8
"""Most positions in shared memory at a time, whose loads are in flight together."""


@dataclass(frozen=True)
class Share:
    """The columns of a workgroup, and its `parts` threads per column."""

    key_dim: int
    columns: int
    parts: int
    positions: int

    @classmethod
    def of(cls, key_dim: int, value_dim: int, bounds: Bounds) -> Share:
        """The largest workgroup within the limits.

        Raises ValueError if one position exceeds the shared memory.
        """
        most = min(THREADS, bounds.threads)
        parts = _parts(key_dim, most)
        columns = _largest_divisor(value_dim, min(COLUMNS, most // parts))
        for positions in range(POSITIONS, 0, -1):
            share = cls(key_dim, columns, parts, positions)
            if share.shared_bytes <= bounds.bytes:
                return share
        raise ValueError(f"the delta rule over {key_dim} keys needs more shared memory")

    @classmethod
    def sized(cls, key_dim: int, columns: int, threads: int, positions: int) -> Share:
        """About `threads` threads, at least one per column."""
        parts = _largest_divisor(key_dim, max(1, threads // columns))
        return cls(key_dim, columns, parts, positions)

    @property
    def threads(self) -> int:
        return self.columns * self.parts

    @property
    def keys(self) -> int:
        """Keys per thread."""
        return self.key_dim // self.parts

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory: operands of each position, three sums per thread."""
        return 4 * (self.positions * (2 * self.key_dim + self.columns + 2) + 3 * self.threads)


def _parts(key_dim: int, most: int) -> int:
    """The fewest parts of at most KEYS keys; if there are none, as many as there may be."""
    divisors = [n for n in range(1, min(key_dim, most) + 1) if key_dim % n == 0]
    return next((n for n in divisors if key_dim // n <= KEYS), divisors[-1])


def _largest_divisor(value: int, most: int) -> int:
    return max(n for n in range(1, min(value, most) + 1) if value % n == 0)
