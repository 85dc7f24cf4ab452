"""The largest values that a manifest may hold.

No real model is near them. Whatever the numbers within them say, opening a bundle, preparing a
picture and the buffers of a session stay affordable, and no product of them overflows 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .entries import EncodersEntry, FileEntry, GraphEntry, StateEntry, TensorEntry, VisionEntry
from .tensors import CODES, SHAPES, fits

LARGEST: Mapping[str, int] = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 20,
    "state.context": 1 << 24,
    "vision.image_size": 1 << 11,
    "vision.patch_size": 1 << 11,
    "vision.query_num": 1 << 16,
    "vision.patches_per_row": 1 << 16,
    "vision.window_levels": 2,
    "encoders.class_tokens": 1 << 6,
    "encoders.labels": 1 << 16,
    "encoders.text.length": 1 << 12,
}
PATCHES = 1 << 16
"""Largest number of patches of a tile."""
FILE_BYTES = 1 << 47
PIXEL_SCALE = 1e6
"""`mean` and `std` are at most this, and `std` is at least its inverse."""
SCORE_SCALE = 1e30
"""`scale` and `bias` are at most this, so that no score is infinite."""


def sizes_beyond(sizes: Mapping[str, int]) -> Iterator[str]:
    """A sentence, with the key and the value, for each of these keys of LARGEST out of bounds."""
    for key, value in sizes.items():
        if not 0 <= value <= LARGEST[key]:
            yield f"{key} is {value}, but must be from 0 to {LARGEST[key]}"


def tensors_beyond(params: Sequence[TensorEntry], state: StateEntry) -> Iterator[str]:
    for key, tensors in (("params", params), ("state.tensors", state.tensors)):
        for number, tensor in enumerate(tensors):
            yield from _tensor(f"{key}[{number}]", tensor)


def files_beyond(files: Mapping[str, FileEntry]) -> Iterator[str]:
    for name, file in files.items():
        if not 0 <= file.size <= FILE_BYTES:
            yield f"files.{name[:100]!r}.size is {file.size}, but must be from 0 to {FILE_BYTES}"


def graph_beyond(graph: GraphEntry) -> Iterator[str]:
    for key, tensors in (("graph.inputs", graph.inputs), ("graph.outputs", graph.outputs)):
        for number, tensor in enumerate(tensors):
            yield from _tensor(f"{key}[{number}]", tensor)


def _tensor(key: str, tensor: TensorEntry) -> Iterator[str]:
    if tensor.dtype not in CODES:
        known = ", ".join(sorted(CODES))
        yield f"{key}.dtype is {tensor.dtype[:100]!r}, which is unknown; known: {known}"
    elif not fits(tensor.shape, tensor.dtype):
        yield f"{key}.shape is {list(tensor.shape)!s:.100}, but must have {SHAPES}"


def vision_beyond(vision: VisionEntry) -> Iterator[str]:
    names = ("image_size", "patch_size", "query_num", "patches_per_row", "window_levels")
    yield from sizes_beyond({f"vision.{name}": getattr(vision, name) for name in names})
    patches = (vision.image_size // max(vision.patch_size, 1)) ** 2
    if patches > PATCHES:
        yield f"vision has {patches} patches in a tile, but at most {PATCHES} are supported"
    for number in vision.mean:
        if abs(number) > PIXEL_SCALE:
            yield f"vision.mean has {number}, but must be at most {PIXEL_SCALE:g}"
    for number in vision.std:
        if not 1 / PIXEL_SCALE <= abs(number) <= PIXEL_SCALE:
            limits = f"from {1 / PIXEL_SCALE:g} to {PIXEL_SCALE:g}"
            yield f"vision.std has {number}, but must be {limits}"


def encoders_beyond(encoders: EncodersEntry) -> Iterator[str]:
    sizes = {"class_tokens": encoders.class_tokens, "labels": len(encoders.labels)}
    if encoders.text is not None:
        sizes["text.length"] = encoders.text.length
    yield from sizes_beyond({f"encoders.{name}": value for name, value in sizes.items()})
    for name, value in (("scale", encoders.scale), ("bias", encoders.bias)):
        if not abs(value) <= SCORE_SCALE:
            yield f"encoders.{name} is {value}, but must be at most {SCORE_SCALE:g}"
