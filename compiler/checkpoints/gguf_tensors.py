"""The tensors of a GGUF file by the names and with the rows of the original checkpoint.

Values are computed by the `gguf` package, some rows at a time. GGUF files of Llama store the rows
of each query and key head so that the pairs of rotary positions are neighbours (interleaved); they
are put back into the order of the original, where a pair is one row of each half.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handglass.errors import InputError

from .gguf_header import Header, Place
from .stored import Computed, drop_pages

INSTALL = "pip install 'handglass[gguf]'"
CHUNK = 1 << 20  # values computed at a time
OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROPE_FREQS = "rope_freqs.weight"
ROPE_LONG, ROPE_SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
ROPE = (ROPE_FREQS, ROPE_LONG, ROPE_SHORT)
"""Divisors of the rotary frequencies, which gguf_config.py reads."""
_LAYER_NAME = re.compile(r"blk\.(0|[1-9]\d{0,5})\.(\w+)\.(weight|bias)", re.ASCII)
_HEADS = re.compile(r"model\.layers\.\d+\.self_attn\.([qk])_proj\.(?:weight|bias)", re.ASCII)

Dequantize = Callable[[np.ndarray, Any], np.ndarray]


def dequantizer() -> Dequantize:
    """The package's function for the bytes of some rows. Raises InputError without it."""
    try:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        raise InputError(
            f"reading a GGUF file needs the package gguf, which is not installed: {INSTALL}"
        ) from None

    return lambda data, kind: dequantize(data, GGMLQuantizationType(kind))


def original_name(name: str) -> str:
    """The name in the original checkpoint; unchanged if the model has no such tensor."""
    match = _LAYER_NAME.fullmatch(name)
    if match and match[2] in LAYER:
        return f"model.layers.{match[1]}.{LAYER[match[2]]}.{match[3]}"
    return OUTER.get(name, name)


class GgufTensors(Computed):
    """The tensors of one file."""

    def __init__(
        self, header: Header, heads: Mapping[str, int], name_of: Callable[[str], str]
    ) -> None:
        """`heads`: the number of heads of "q" and "k" whose rows are interleaved, if they are;
        `name_of`: name in the file -> name in the original checkpoint."""
        self._header = header
        self._heads = heads
        self._places = {
            name_of(name): place for name, place in header.places.items() if name not in ROPE
        }
        self._dequantize = dequantizer()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape

    def array(self, name: str) -> np.ndarray:
        """The stored bytes of each row, in the order of the file: (..., bytes)."""
        place = self._places[name]
        *outer, width = place.shape
        shape = (*outer, width // place.encoding.values * place.encoding.size)
        return np.ndarray(shape, np.uint8, self._header.mapped, place.start)

    def floats(self, name: str, rows: slice) -> np.ndarray:
        """Rows in float32, in the order of the original checkpoint."""
        place, order = self._places[name], self._order(name)
        taken = rows if order is None else order[rows]
        if len(place.shape) == 1:  # rows are single values, of which a block may have several
            return as_floats(self.array(name), place, self._dequantize)[taken]
        return as_floats(self.array(name)[taken], place, self._dequantize)

    def release(self, name: str) -> None:
        drop_pages(self.array(name))

    def _order(self, name: str) -> np.ndarray | None:
        """Where the rows of the original are in the file; None if the order is the same."""
        match = _HEADS.fullmatch(name)
        heads = self._heads.get(match[1], 0) if match else 0
        if not heads:
            return None
        count = self._places[name].shape[0]
        if count % (2 * heads):
            raise InputError(f"{name}: {count} rows are not {heads} heads of an even size")
        return np.arange(count).reshape(heads, count // heads // 2, 2).swapaxes(1, 2).reshape(-1)


def as_floats(stored: np.ndarray, place: Place, dequantize: Dequantize) -> np.ndarray:
    """The values of rows of bytes, computed in parts of bounded size."""
    width = place.shape[-1]
    flat = stored.reshape(-1, stored.shape[-1])
    values = np.empty((len(flat), width), np.float32)
    step = max(CHUNK // width, 1)
    with np.errstate(all="ignore"):  # NaN and infinity are reported with the name of the tensor
        for start in range(0, len(flat), step):
            part = np.ascontiguousarray(flat[start : start + step])
            values[start : start + step] = dequantize(part, place.encoding.code)
    return values.reshape(*stored.shape[:-1], width)
