"""How the columns of the joint projection and the tensors of the cache are laid out."""

from __future__ import annotations

from dataclasses import dataclass

from handglass.schedules.isa.register_tiles import LANES


@dataclass(frozen=True)
class Layout:
    """Columns of qkv: `heads` queries, then `kv_heads` keys, then as many values."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def key_shape(kv_heads: int, context: int, head_dim: int) -> tuple[int, int, int, int]:
    """Cached keys: panels of 16 positions, as `attention` reads them."""
    return kv_heads, context // LANES, head_dim, LANES


def scale_shape(kv_heads: int, context: int) -> tuple[int, int, int]:
    """Scales of cached keys or values, one per position: panels of 16 as well."""
    return kv_heads, context // LANES, LANES
