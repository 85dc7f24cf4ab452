"""The vision tower and the resampler of MiniCPM-V in a GGUF file of their own ("mmproj").

The names are those of llama.cpp's converter for MiniCPM-V 2.5 to 4.5. It stores the projections
of the resampler's queries, keys and values apart, its last matrix transposed, and computes a table
of positions that is not needed here. In older files, `ffn_down` is the first matrix of the MLP, and
`ffn_up` the second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handglass.errors import InputError

from .gguf_clip import LAYER, Tower, renamed, shape_of, tower_config, tower_name, vision_value
from .gguf_config import whole
from .gguf_header import Header
from .gguf_tensors import GgufTensors
from .stored import Computed

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
HALF = [0.5, 0.5, 0.5]
NORMALIZATION = ("image_mean", "image_std")
QUERY, FIRST = "resampler.query", "v.blk.0.ffn_down.weight"
TEXT, TOWER = "llm.", "vpm."
"""What the names of the language model and of the tower begin with in the original."""
BRIDGE = {"resampler.kv": "resampler.kv_proj", "resampler.attn.out": "resampler.attn.out_proj"}
SWAPPED = LAYER | {"ffn_up": "mlp.fc2", "ffn_down": "mlp.fc1"}
COMPUTED = ("resampler.pos_embed_k",)
"""Tensors that follow from the configuration."""
JOINED = {
    f"resampler.attn.in_proj_{end}": tuple(f"resampler.attn.{part}.{end}" for part in "qkv")
    for end in ("weight", "bias")
}
"""Name in the original -> its parts, one above the other."""
PROJ, TRANSPOSED = "resampler.proj", "resampler.proj.weight"


def resampled_tower(header: Header, kind: str, text: dict[str, Any]) -> Tower:
    """`text`: the configuration of the language model alone.

    Raises InputError for a release that is not supported.
    """
    version = whole(header, VERSION)
    if version not in RELEASES:
        known = ", ".join(f"{number} ({name[4:]} {v})" for number, (name, v) in RELEASES.items())
        raise InputError(
            f"{header.path}: {VERSION} is {version}, which is not supported; known: {known}"
        )
    architecture, release = RELEASES[version]
    _check_normalization(header)
    config = {
        "architectures": [architecture],
        "version": release,
        "image_size": whole(header, "clip.vision.image_size"),
        "query_num": shape_of(header, QUERY, 2)[0],
        "vision_config": tower_config(header),
    }
    return Tower(text | config, GgufVision(header), lambda name: f"{TEXT}{name}")


class GgufVision(Computed):
    """The tensors of the file by the names of the original checkpoint."""

    def __init__(self, header: Header) -> None:
        first = shape_of(header, FIRST, 2)
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
    return tower_name(name, TOWER, layer) or renamed(name, BRIDGE) or name


def _check_normalization(header: Header) -> None:
    for key in NORMALIZATION:
        value = vision_value(header, key)
        if value is not None and value != HALF:
            raise InputError(
                f"{header.path}: clip.vision.{key} is {value!r:.100}, but only {HALF} is supported"
            )
