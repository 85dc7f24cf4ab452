"""GGUF files of Qwen3.5, the language model of MiniCPM-V 4.6 and 4.7: three layers with a recurrent
state ("ssm"), then one with attention.

llama.cpp's converter changes what it stores. The scale of a norm that is centred at one has one
added, the logarithm of the decay becomes the decay itself, negated, and the kernel of the
convolution loses a dimension. Value heads, which the original keeps beside the key head that they
share, are stored in turn: the first of every key head, then the second of every key head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError

from .gguf_header import Header
from .gguf_tensors import LAYER, OUTER, GgufTensors

QWEN35 = "qwen35"
KEY_HEADS, VALUE_HEADS = "linear_num_key_heads", "linear_num_value_heads"
KEY_WIDTH, VALUE_WIDTH = "linear_key_head_dim", "linear_value_head_dim"
SIZES = {
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.state_size": KEY_WIDTH,
    "ssm.group_count": KEY_HEADS,
    "ssm.time_step_rank": VALUE_HEADS,
    "full_attention_interval": "full_attention_interval",
}
"""Key without the architecture -> key of config.json."""
INNER, ROTATED, DRAFTED = "ssm.inner_size", "rope.dimension_count", "nextn_predict_layers"
SECTIONS = "rope.dimension_sections"
"""Rotated pairs per axis of positions, and a fourth number that is not used."""
KNOWN = (*SIZES, INNER, DRAFTED, SECTIONS)
TIME_SLOT = "time_slot"
"""The last part of 4.7's key for where llama.cpp keeps a token's time, which is not used."""
LARGEST = 1 << 24
HYBRID = {name: inner for name, inner in LAYER.items() if name != "ffn_norm"} | {
    "post_attention_norm": "post_attention_layernorm",
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_beta": "linear_attn.in_proj_b",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
}
NAMED = {"ssm_a": "linear_attn.A_log", "ssm_dt.bias": "linear_attn.dt_bias"}
"""Names without an end, or with one that the original lacks."""
RECURRENT = "linear_attn."
BOTH = ("in_proj_qkv.weight", "conv1d.weight")
"""Rows of queries, keys and values."""
WIDE, NARROW = ("in_proj_z.weight",), ("in_proj_a.weight", "in_proj_b.weight", "A_log", "dt_bias")
"""Rows of value heads, and one row per value head."""
_LAYER_NAME = re.compile(r"blk\.(0|[1-9]\d{0,5})\.(\w+(?:\.\w+)?)", re.ASCII)


def hybrid_config(
    path: Path, architecture: str, keys: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The keys of config.json that only hybrid models have.

    Raises InputError for a size that is missing, or contradicts another.
    """
    size = partial(size_of, path, architecture, keys)
    found: dict[str, Any] = {theirs: size(ours) for ours, theirs in SIZES.items()}
    inner, rotated = size(INNER), size(ROTATED)
    layers, drafted = size("block_count"), keys.get(DRAFTED, 0)
    head_dim = size("attention.key_length")
    if type(drafted) is not int or not 0 <= drafted < layers:
        raise InputError(f"{path}: {architecture}.{DRAFTED} is {drafted!r:.40} of {layers} blocks")
    for name, large, small in (
        (INNER, inner, found[VALUE_HEADS]),
        ("ssm.time_step_rank", found[VALUE_HEADS], found[KEY_HEADS]),
    ):
        if large % small:
            raise InputError(f"{path}: {architecture}.{name} is {large}, not a multiple of {small}")
    return found | {
        VALUE_WIDTH: inner // found[VALUE_HEADS],
        "num_hidden_layers": layers - drafted,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": config.get("rope_theta"),
            "partial_rotary_factor": rotated / head_dim,
            **_axes(keys),
        },
    }


def _axes(keys: Mapping[str, Any]) -> dict[str, Any]:
    """How tokens of 4.7 rotate with a position on each of three axes."""
    sections = keys.get(SECTIONS)
    if not isinstance(sections, list):
        return {}
    return {"mrope_section": sections[:3], "mrope_interleaved": True}


def size_of(path: Path, architecture: str, keys: Mapping[str, Any], name: str) -> int:
    """A size of the metadata. Raises InputError for one that is missing or invalid."""
    value = keys.get(name)
    if type(value) is not int or not 0 < value <= LARGEST:
        raise InputError(f"{path}: {architecture}.{name} is {value!r:.100}, not a size")
    return value


def hybrid_name(
    layers: int, stems: Mapping[str, str], named: Mapping[str, str]
) -> Callable[[str], str]:
    """Name in the file -> name in the original: by its stem, or as a whole; blocks after the last
    layer draft tokens, which the original names "mtp."."""

    def original(name: str) -> str:
        match = _LAYER_NAME.fullmatch(name)
        if not match:
            return OUTER.get(name, name)
        if int(match[1]) >= layers:
            return f"mtp.{name}"
        stem, _, end = match[2].rpartition(".")
        if match[2] not in named and stem not in stems:
            return name
        return f"model.layers.{match[1]}.{named.get(match[2]) or f'{stems[stem]}.{end}'}"

    return original


class HybridTensors(GgufTensors):
    """The tensors of one file as the original stores them."""

    stems, named = HYBRID, NAMED

    def __init__(self, header: Header, config: Mapping[str, Any]) -> None:
        """`config`: that of `hybrid_config`."""
        super().__init__(
            header, {}, hybrid_name(config["num_hidden_layers"], self.stems, self.named)
        )
        self._keys, self._values = config[KEY_HEADS], config[VALUE_HEADS]
        self._width = config[VALUE_WIDTH]
        self._mixed = 2 * self._keys * config[KEY_WIDTH]
        """Rows of queries and keys before those of values."""

    def shape(self, name: str) -> tuple[int, ...]:
        shape = super().shape(name)
        return (shape[0], 1, shape[1]) if _is_kernel(name) and len(shape) == 2 else shape

    def floats(self, name: str, rows: slice) -> np.ndarray:
        values = super().floats(name, rows)
        part = _recurrent(name)
        if part == "A_log":
            with np.errstate(all="ignore"):  # NaN is reported with the name of the tensor
                return np.log(-values)
        if part == "out_proj.weight":
            return values[:, self._tiled(name, values.shape[1], 0, self._width)]
        if _is_kernel(name):
            return values[:, None]
        return values - 1 if name.endswith("norm.weight") and not part else values

    def _order(self, name: str) -> np.ndarray | None:
        part, count = _recurrent(name), super().shape(name)[0]
        if part in BOTH:
            return self._tiled(name, count, self._mixed, self._width)
        if part in WIDE or part in NARROW:
            return self._tiled(name, count, 0, self._width if part in WIDE else 1)
        return None

    def _tiled(self, name: str, count: int, before: int, width: int) -> np.ndarray:
        """Where the value heads of the original are in the file, after `before` other rows."""
        if count != before + self._values * width:
            raise InputError(
                f"{name}: {count} rows or columns are not {before} and {self._values} value heads "
                f"of {width}"
            )
        heads = np.arange(before, count).reshape(-1, self._keys, width).swapaxes(0, 1)
        return np.concatenate([np.arange(before), heads.reshape(-1)])


def _recurrent(name: str) -> str:
    """What follows "linear_attn."; empty for another tensor."""
    return name.partition(RECURRENT)[2]


def _is_kernel(name: str) -> bool:
    return _recurrent(name) == "conv1d.weight"
