"""Storage formats of a compiled model, selected by the names on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from handglass.errors import UsageError
from handglass.runtime.bundle.manifest import Manifest
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.isa.score_products import CODES
from handglass.schedules.select import Units

from ..schemes.byte_rows import ByteRows
from ..schemes.kv_cache import CacheType, cache_type_of, find_cache_type
from ..schemes.quantize import find_scheme
from ..schemes.scheme import Scheme, attention_to_all

DEFAULT_CONTEXT = 4096
FLOAT32 = "f32"
"""Of `--attention`: no scores in integers."""
BYTES = ByteRows("w8", "int8", "float16", floor_db=25.0)
VISION_DEFAULTS = {"w4": "f16", "w4a8": "w8a8"}
"""Default vision scheme per language scheme: four bits are too few for the vision tower."""


@dataclass(frozen=True)
class Storage:
    """The schemes of the model's parts, and the length (in positions) and type of the KV cache."""

    language: Scheme
    vision: Scheme
    context: int
    cache: CacheType
    own_head: Scheme | None = None
    """Of the output head, if it is not that of the language model."""

    @property
    def head(self) -> Scheme:
        """The scheme of the output head, and of the embedding if both are one matrix."""
        return self.own_head or self.language

    def names(self, has_vision: bool, has_texts: bool = True) -> dict[str, str]:
        """The scheme of each part that the model has."""
        language = {"language": self.language.name} if has_texts else {}
        vision = {"vision": self.vision.name} if has_vision else {}
        head = {"head": self.own_head.name} if self.own_head else {}
        is_float = not self.vision.units.integer_scores
        attention = {"attention": FLOAT32} if is_float else {}
        return {**language, **vision, **head, **attention}

    @property
    def gates(self) -> Scheme:
        """The scheme of small matrices whose errors would accumulate: unrounded."""
        return find_scheme("f32", self.language.units)

    @property
    def experts(self) -> Scheme:
        """The scheme of the experts that a router chooses, whose rows are float32: with integer
        arithmetic for other matrices, their weights still have as many bits."""
        if self.language.codes is None:
            return self.language
        return find_scheme("w4", self.language.units) if self.language.codes.bits == 4 else BYTES


class HasPositions(Protocol):
    """The part of a configuration that storage depends on."""

    @property
    def max_position_embeddings(self) -> int: ...


def choose_storage(
    config: HasPositions,
    units: Units,
    quantization: str,
    vision_quantization: str | None,
    context: int | None,
    kv_cache: str | None,
    has_vision: bool = True,
    head_quantization: str | None = None,
    generates: bool = True,
    attention: str | None = None,
) -> Storage:
    """Look up the schemes and the cache type by name.

    The default vision scheme is `f16` for `w4` and `w8a8` for `w4a8`: four bits are too few for the
    vision tower. Raises UsageError for an unknown name, a vision scheme of a model without vision,
    a context out of range, options of a conversation for a model that generates no text, or
    `attention` where it would change nothing.
    """
    if not generates and any((context, kv_cache, head_quantization)):
        raise UsageError(
            "this model generates no text: omit --context, --kv-cache and --head-quantization"
        )
    if vision_quantization and not has_vision:
        raise UsageError(
            f"--vision-quantization {vision_quantization!s:.40}: this model is text-only; omit it"
        )
    language = find_scheme(quantization, units)
    default = VISION_DEFAULTS.get(quantization, quantization)
    if quantization == "w4a8" and units.integers.byte_bits == 7:
        default = "w7a8"  # a third faster with these instructions
    longest = config.max_position_embeddings
    context = min(longest, DEFAULT_CONTEXT) if context is None else context
    if not 1 <= context <= longest:
        raise UsageError(f"--context {context}: the model supports 1 to {longest} positions")
    padded = -(-context // LANES) * LANES  # the cache consists of whole panels
    cache = find_cache_type(kv_cache) if kv_cache else cache_type_of(language.cache_dtype)
    vision = find_scheme(vision_quantization or default, units)
    is_own = head_quantization not in (None, quantization)
    own_head = find_scheme(head_quantization, units) if head_quantization and is_own else None
    storage = Storage(language, vision, padded, cache, own_head)
    if attention is None:
        return storage
    return _in_float32(storage, attention, has_vision, generates)


def _in_float32(storage: Storage, attention: str, has_vision: bool, generates: bool) -> Storage:
    """The storage without integers in attention, which decoders do not have."""
    parts = [*([storage.vision] if has_vision else []), *([] if generates else [storage.language])]
    units = units_in_float32(attention, parts)
    head = storage.own_head.on(units) if storage.own_head else None
    language, vision = (part.on(units) for part in (storage.language, storage.vision))
    return replace(storage, language=language, vision=vision, own_head=head)


def units_in_float32(attention: str, parts: Sequence[Scheme]) -> Units:
    """The units of the schemes `parts`, which attend to all positions, without integers there.

    Raises UsageError for another `attention`, or where there are no integers.
    """
    given = f"--attention {attention!s:.40}"
    if attention != FLOAT32:
        raise UsageError(f"{given}: the only choice is {FLOAT32}")
    if not any(attention_to_all(part) in CODES for part in parts):
        raise UsageError(f"{given}: this model has no integers there on this target; omit it")
    return replace(parts[0].units, integer_scores=False)


def storage_of(manifest: Manifest, units: Units) -> Storage:
    """The storage of a bundle. A model with one part has its scheme for both."""
    schemes, state = manifest.scheme, manifest.state
    language, vision = (schemes.get(part) for part in ("language", "vision"))
    names = language or schemes["vision"], vision or schemes["language"]
    units = replace(units, integer_scores="attention" not in schemes)
    parts = [find_scheme(name, units) for name in names]
    own_head = find_scheme(schemes["head"], units) if "head" in schemes else None
    cache = cache_type_of(state.cache_dtype)
    return Storage(parts[0], parts[1], state.context, cache, own_head)
