"""What the GGUF files of all vision towers ("mmproj") have in common: kind, sizes, pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from handglass.errors import InputError

from .gguf_config import VISION, plain, whole
from .gguf_header import Header
from .stored import Computed

KEYS = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "patch_size": "patch_size",
}
"""Key below `clip.vision.` -> key of `vision_config`."""
POSITIONS = "v.position_embd.weight"
OUTER = {
    "v.patch_embd": "embeddings.patch_embedding",
    "v.position_embd": "embeddings.position_embedding",
    "v.post_ln": "post_layernorm",
}
ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ln1": "layer_norm1",
}
LAYER = ATTENTION | {"ln2": "layer_norm2", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
_LAYER_NAME = re.compile(r"v\.blk\.(0|[1-9]\d{0,5})\.(\w+)\.(weight|bias)", re.ASCII)


@dataclass(frozen=True)
class Tower:
    """A vision tower, and the model that it makes of a language model."""

    config: dict[str, Any]
    """The whole config.json."""
    tensors: Computed
    text_name: Callable[[str], str]
    """Name of a tensor in the language model alone -> its name beside the tower."""
    preprocessor: tuple[Path, dict[str, Any]] | None = None
    """The file, and what it says about pictures by the keys of preprocessor_config.json."""


def projector_of(header: Header) -> Any:
    """What the file says about the kind of its projector; None if nothing. Raises InputError for a
    file without a vision tower."""
    given = header.metadata.get("general.architecture")
    if not isinstance(given, str) or given != VISION:
        raise InputError(
            f"{header.path}: general.architecture is {given!r:.100}, but --mmproj takes a file "
            f"with {VISION!r}"
        )
    names = (header.metadata.get(f"clip.{key}projector_type") for key in ("", "vision."))
    return next((name for name in names if name is not None), None)


def tower_config(header: Header) -> dict[str, Any]:
    """The `vision_config`. Raises InputError for sizes that are missing or invalid."""
    vision = {theirs: vision_value(header, ours) for ours, theirs in KEYS.items()}
    return vision | {"image_size": _side(header) * _patch_size(header)}


def vision_value(header: Header, key: str) -> Any:
    """What the file says about its tower; None if nothing."""
    return plain(header.metadata.get(f"clip.vision.{key}"))


def tower_name(name: str, prefix: str, layer: Mapping[str, str] = LAYER) -> str | None:
    """The name in the original checkpoint, where the tower's names begin with `prefix`; None if
    the tower has no such tensor."""
    match = _LAYER_NAME.fullmatch(name)
    if match and match[2] in layer:
        return f"{prefix}encoder.layers.{match[1]}.{layer[match[2]]}.{match[3]}"
    return renamed(name, {stem: f"{prefix}{theirs}" for stem, theirs in OUTER.items()})


def renamed(name: str, stems: Mapping[str, str]) -> str | None:
    """The name with another stem before its end, "weight" or "bias"; None for an unknown one."""
    stem, _, end = name.rpartition(".")
    return f"{stems[stem]}.{end}" if stem in stems else None


def shape_of(header: Header, name: str, dimensions: int) -> tuple[int, ...]:
    place = header.places.get(name)
    if place is None:
        raise InputError(f"{header.path}: the tensor {name} is missing")
    if len(place.shape) != dimensions:
        raise InputError(f"{header.path}: the shape of {name} is {place.shape}")
    return place.shape


def _side(header: Header) -> int:
    """Positions per side of the table, which is a square."""
    rows = shape_of(header, POSITIONS, 2)[0]
    if isqrt(rows) ** 2 != rows:
        raise InputError(f"{header.path}: {POSITIONS} has {rows} rows, which is not a square")
    return isqrt(rows)


def _patch_size(header: Header) -> int:
    size = whole(header, "clip.vision.patch_size")
    if size is None or not 0 < size < 1 << 16:
        raise InputError(f"{header.path}: clip.vision.patch_size is {size}")
    return size
