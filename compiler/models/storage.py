"""What a compiled model is stored in, by the names that a user types."""

from __future__ import annotations

from dataclasses import dataclass

from handglass.errors import UsageError
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.select import Units

from ..schemes.kv_cache import CacheType, cache_type_of, find_cache_type
from ..schemes.quantize import find_scheme
from ..schemes.scheme import Scheme
from .config import LanguageConfig

DEFAULT_CONTEXT = 4096
VISION_DEFAULTS = {"w4": "f16", "w4a8": "w8a8"}
"""Vision towers of models in these: four bits are too few for them."""


@dataclass(frozen=True)
class Storage:
    """What a compiled model is stored in: schemes of its parts, positions in the cache and type."""

    language: Scheme
    vision: Scheme
    context: int
    cache: CacheType


def choose_storage(
    config: LanguageConfig,
    units: Units,
    quantization: str,
    vision_quantization: str | None,
    context: int | None,
    kv_cache: str | None,
) -> Storage:
    """Schemes by name. Unless told, the vision tower of a model in `w4` is kept in 16 bits, that of
    one in `w4a8` in `w8a8`: four bits are too few for it."""
    language = find_scheme(quantization, units)
    default = VISION_DEFAULTS.get(quantization, quantization)
    if quantization == "w4a8" and units.integers.byte_bits == 7:
        default = "w7a8"  # on such a machine a third faster
    longest = config.max_position_embeddings
    context = min(longest, DEFAULT_CONTEXT) if context is None else context
    if not 1 <= context <= longest:
        raise UsageError(f"--context {context}: the model was made for 1 to {longest} positions")
    padded = -(-context // LANES) * LANES  # the cache holds whole panels of positions
    cache = find_cache_type(kv_cache) if kv_cache else cache_type_of(language.cache_dtype)
    return Storage(language, find_scheme(vision_quantization or default, units), padded, cache)
