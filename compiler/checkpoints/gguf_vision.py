"""The vision tower and the resampler of MiniCPM-V in a GGUF file of their own ("mmproj").

The names are those of llama.cpp's converter for MiniCPM-V 2.5 to 4.5. It stores the projections
of the resampler's queries, keys and values apart, its last matrix transposed, and computes a table
of positions that is not needed here. In older files, `ffn_down` is the first matrix of the MLP, and
`ffn_up` the second one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

import numpy as np

from handglass.errors import InputError

from .gguf_config import VISION, plain, whole
from .gguf_header import Header
from .gguf_tensors import GgufTensors
from .stored import Computed

PROJECTOR = "resampler"
VERSION = "clip.minicpmv_version"
RELEASES = {
    2: ("MiniCPMV", "2.5"),
    3: ("MiniCPMV", "2.6"),
    4: ("MiniCPMO", "2.6"),
    5: ("MiniCPMV", "4.0"),
    6: ("MiniCPMV", "4.5"),
    100045: ("MiniCPMO", "4.5"),
}
"""Version of the converter -> architecture and version of the release."""
KEYS = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "patch_size": "patch_size",
}
"""Key below `clip.vision.` -> key of `vision_config`."""
HALF = [0.5, 0.5, 0.5]
NORMALIZATION = ("image_mean", "image_std")
POSITIONS, QUERY = "v.position_embd.weight", "resampler.query"
FIRST = "v.blk.0.ffn_down.weight"
OUTER = {
    "v.patch_embd": "vpm.embeddings.patch_embedding",
    "v.position_embd": "vpm.embeddings.position_embedding",
    "v.post_ln": "vpm.post_layernorm",
    "resampler.kv": "resampler.kv_proj",
    "resampler.attn.out": "resampler.attn.out_proj",
}
LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
SWAPPED = LAYER | {"ffn_up": "mlp.fc2", "ffn_down": "mlp.fc1"}
COMPUTED = ("resampler.pos_embed_k",)
"""Tensors that follow from the configuration."""
JOINED = {
    f"resampler.attn.in_proj_{end}": tuple(f"resampler.attn.{part}.{end}" for part in "qkv")
    for end in ("weight", "bias")
}
"""Name in the original -> its parts, one above the other."""
PROJ, TRANSPOSED = "resampler.proj", "resampler.proj.weight"
_LAYER_NAME = re.compile(r"v\.blk\.(0|[1-9]\d{0,5})\.(\w+)\.(weight|bias)", re.ASCII)


def vision_config_of(header: Header) -> dict[str, Any]:
    """The keys that the file adds to those of its language model.

    Raises InputError for a projector or a release that is not supported.
    """
    _check_kind(header)
    version = whole(header, VERSION)
    if version not in RELEASES:
        known = ", ".join(f"{number} ({name[4:]} {v})" for number, (name, v) in RELEASES.items())
        raise InputError(
            f"{header.path}: {VERSION} is {version}, which is not supported; known: {known}"
        )
    architecture, release = RELEASES[version]
    _check_normalization(header)
    vision = {
        theirs: plain(header.metadata.get(f"clip.vision.{ours}")) for ours, theirs in KEYS.items()
    }
    vision["image_size"] = _side(header) * _patch_size(header)
    return {
        "architectures": [architecture],
        "version": release,
        "image_size": whole(header, "clip.vision.image_size"),
        "query_num": _shape(header, QUERY, 2)[0],
        "vision_config": vision,
    }


class GgufVision(Computed):
    """The tensors of the file by the names of the original checkpoint."""

    def __init__(self, header: Header) -> None:
        first = _shape(header, FIRST, 2)
        is_swapped = first[1] == whole(header, "clip.vision.embedding_length")
        layer = SWAPPED if is_swapped else LAYER
        self._stored = GgufTensors(header, {}, lambda name: _original(name, layer))
        parts = [part for names in JOINED.values() for part in names]
        if missing := [name for name in (*parts, TRANSPOSED) if name not in self._stored.names]:
            raise InputError(f"{header.path}: the tensor {missing[0]} is missing")
        for names in JOINED.values():
            if len(shapes := {self._stored.shape(name) for name in names}) > 1:
                found = " and ".join(map(str, sorted(shapes)))
                raise InputError(f"{header.path}: {', '.join(names)} differ in shape: {found}")
        apart = {*parts, TRANSPOSED, *COMPUTED}
        kept = (name for name in self._stored.names if name not in apart)
        self._names = (*kept, *JOINED, PROJ)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        shapes = [self._stored.shape(part) for part in _parts(name)]
        if name == PROJ:
            return shapes[0][::-1]
        return sum(shape[0] for shape in shapes), *shapes[0][1:]

    def floats(self, name: str, rows: slice) -> np.ndarray:
        if name == PROJ:
            return self._stored.floats(TRANSPOSED, slice(None)).T[rows]
        start, stop, _ = rows.indices(self.shape(name)[0])
        found, before = [], 0
        for part in _parts(name):
            count = self._stored.shape(part)[0]
            first, last = (min(max(row - before, 0), count) for row in (start, stop))
            found.append(self._stored.floats(part, slice(first, last)))
            before += count
        return found[0] if len(found) == 1 else np.concatenate(found)

    def release(self, name: str) -> None:
        for part in _parts(name):
            self._stored.release(part)


def _parts(name: str) -> tuple[str, ...]:
    return (TRANSPOSED,) if name == PROJ else JOINED.get(name, (name,))


def _original(name: str, layer: Mapping[str, str]) -> str:
    """The name in the original checkpoint; unchanged if the model has no such tensor."""
    match = _LAYER_NAME.fullmatch(name)
    if match and match[2] in layer:
        return f"vpm.encoder.layers.{match[1]}.{layer[match[2]]}.{match[3]}"
    stem, _, end = name.rpartition(".")
    return f"{OUTER[stem]}.{end}" if stem in OUTER else name


def _check_kind(header: Header) -> None:
    given = header.metadata.get("general.architecture")
    if not isinstance(given, str) or given != VISION:
        raise InputError(
            f"{header.path}: general.architecture is {given!r:.100}, but --mmproj takes a file "
            f"with {VISION!r}"
        )
    names = (header.metadata.get(f"clip.{key}projector_type") for key in ("", "vision."))
    kind = next((name for name in names if name is not None), None)
    if not isinstance(kind, str) or kind != PROJECTOR:
        raise InputError(
            f"{header.path}: clip.projector_type is {kind!r:.100}, which is not supported; known: "
            f"{PROJECTOR!r}"
        )


def _check_normalization(header: Header) -> None:
    for key in NORMALIZATION:
        value = plain(header.metadata.get(f"clip.vision.{key}"))
        if value is not None and value != HALF:
            raise InputError(
                f"{header.path}: clip.vision.{key} is {value!r:.100}, but only {HALF} is supported"
            )


def _shape(header: Header, name: str, dimensions: int) -> tuple[int, ...]:
    place = header.places.get(name)
    if place is None:
        raise InputError(f"{header.path}: the tensor {name} is missing")
    if len(place.shape) != dimensions:
        raise InputError(f"{header.path}: the shape of {name} is {place.shape}")
    return place.shape


def _side(header: Header) -> int:
    """Positions per side of the table, which is a square."""
    rows = _shape(header, POSITIONS, 2)[0]
    if isqrt(rows) ** 2 != rows:
        raise InputError(f"{header.path}: {POSITIONS} has {rows} rows, which is not a square")
    return isqrt(rows)


def _patch_size(header: Header) -> int:
    size = whole(header, "clip.vision.patch_size")
    if size is None or not 0 < size < 1 << 16:
        raise InputError(f"{header.path}: clip.vision.patch_size is {size}")
    return size
