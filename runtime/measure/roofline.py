"""How much work a row of the benchmark is, from the counts that the compiler left in the manifest.

A multiply-add is two operations. Only matrix products and attention count: all else together is
under a percent. What a better kernel could leave out is not counted (padding, masked positions,
logits of rows that nobody asked for), so that the figures bind every implementation alike.
"""

from __future__ import annotations

from handglass.errors import InputError

from ..bundle.entries import POSITIONS, WorkEntry
from ..bundle.manifest import Manifest


def encode_flops(manifest: Manifest) -> float:
    """One tile of `vision.image_size`."""
    return _work(manifest, "encode_image").flops


def prefill_flops(manifest: Manifest, s: int, pos: int = 0) -> float:
    """`s` rows behind `pos` others; logits of the last one."""
    work = _work(manifest, "prefill")
    seen = s * pos + s * (s + 1) // 2  # row i sees itself and all before it
    return work.flops + work.flops_per_row * s + work.flops_per_pair * seen


def decode_bytes(manifest: Manifest, pos: int) -> int:
    """What one step at `pos` must read: parameters, and the state of the positions so far."""
    per_position = recurrent = 0
    for tensor in manifest.state.tensors:
        if tensor.kind == POSITIONS:
            per_position += tensor.nbytes
        else:
            recurrent += tensor.nbytes
    kept = per_position * (pos + 1) // manifest.state.context
    return decode_params_bytes(manifest) + kept + recurrent


def decode_params_bytes(manifest: Manifest) -> int:
    """Parameters that one step reads; of tables of which it reads a row, nothing."""
    return _work(manifest, "decode").bytes


def _work(manifest: Manifest, function: str) -> WorkEntry:
    if function not in manifest.work:
        raise InputError(f"manifest.json: work has no {function!r}: it cannot be counted")
    return manifest.work[function]
