"""The work of a benchmark row, from the counts that the compiler stores in the manifest.

A multiply-add counts as two operations. Only matrix products and attention count; everything else
is under one percent. Work that a better kernel could avoid (padding, masked positions, logits of
rows that are not needed) is not counted, so the figures bound every implementation.
"""

from __future__ import annotations

from handglass.errors import InputError

from ..bundle.entries import POSITIONS, RECURRENT, WorkEntry
from ..bundle.manifest import Manifest


def encode_flops(manifest: Manifest) -> float:
    """Operations to encode one tile of `vision.image_size`."""
    return _work(manifest, "encode_image").flops


def text_flops(manifest: Manifest) -> float:
    """Operations of a dual encoder for a text of the most tokens."""
    return _work(manifest, "encode_text").flops


def prefill_flops(manifest: Manifest, s: int, pos: int = 0) -> float:
    """Operations of a prefill of `s` rows after `pos` positions, with logits of the last row."""
    work = _work(manifest, "prefill")
    pairs = s * pos + s * (s + 1) // 2  # row i attends to itself and all previous positions
    return work.flops + work.flops_per_row * s + work.flops_per_pair * pairs


def decode_bytes(manifest: Manifest, pos: int) -> int:
    """Bytes that a decode step at `pos` must read: parameters and the state up to `pos`."""
    per_position = recurrent = 0
    for tensor in manifest.state.tensors:
        if tensor.kind == POSITIONS:
            per_position += tensor.nbytes
        elif tensor.kind == RECURRENT:
            recurrent += tensor.nbytes
    kept = per_position * (pos + 1) // manifest.state.context
    return decode_params_bytes(manifest) + kept + recurrent


def decode_params_bytes(manifest: Manifest) -> int:
    """Bytes of parameters that a decode step reads, without tables of which it reads one row."""
    return _work(manifest, "decode").bytes


def _work(manifest: Manifest, function: str) -> WorkEntry:
    if function not in manifest.work:
        raise InputError(f"manifest.json: work has no {function!r}; compile the model again")
    return manifest.work[function]
