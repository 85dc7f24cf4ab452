"""Layout of the joint qkv projection and of the cache tensors."""

from __future__ import annotations

from dataclasses import dataclass

from handglass.schedules.isa.register_tiles import LANES


@dataclass(frozen=True)
class Layout:
    """Columns of qkv: `heads` query heads, `kv_heads` key heads, `kv_heads` value heads."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def key_shape(kv_heads: int, context: int, head_dim: int) -> tuple[int, int, int, int]:
    """Shape of cached keys: panels of 16 positions, as `attention` reads them."""
    return kv_heads, context // LANES, head_dim, LANES


def scale_shape(kv_heads: int, context: int) -> tuple[int, int, int]:
    """Shape of the scales of cached keys or values: one per position, in panels of 16."""
    return kv_heads, context // LANES, LANES
