"""The vision tower and the mergers of MiniCPM-V 4.6 and 4.7 in a GGUF file of their own ("mmproj").

The names are those of llama.cpp's converter. The layer after which windows are merged first stands
where other models list their layers with window attention. A file for a row per four patches has
no first merger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handglass.errors import InputError

from .gguf_clip import ATTENTION, Tower, renamed, tower_config, tower_name, vision_value
from .gguf_config import plain
from .gguf_header import Header
from .gguf_tensors import GgufTensors

ARCHITECTURES = {
    "minicpmv4_6": "MiniCPMV4_6ForConditionalGeneration",
    "minicpmv4_7": "MiniCPMV4_7ForConditionalGeneration",
}
"""Kind of the projector -> architecture of the release."""
MODES = {4: "16x", 2: "4x"}
"""Patches per row and side -> `downsample_mode`."""
SCALE, INSERTED, SLICES = "projector.scale_factor", "wa_layer_indexes", "max_slice_nums"
TOWER, FIRST, LAST = "model.vision_tower.", "v.vit_merger.", "mm."
MLP = {"ffn_up": "linear_1", "ffn_down": "linear_2"}
MERGERS = {
    **{f"{FIRST}{ours}": f"{TOWER}vit_merger.{theirs}" for ours, theirs in ATTENTION.items()},
    f"{FIRST}ds_ln": f"{TOWER}vit_merger.pre_norm",
    **{f"{FIRST}ds_{ours}": f"{TOWER}vit_merger.{theirs}" for ours, theirs in MLP.items()},
    f"{LAST}input_norm": "model.merger.mlp.0.pre_norm",
    f"{LAST}up": "model.merger.mlp.0.linear_1",
    f"{LAST}down": "model.merger.mlp.0.linear_2",
}
PICTURES = {
    "image_size": "scale_resolution",
    "patch_size": "patch_size",
    "image_mean": "image_mean",
    "image_std": "image_std",
}
"""Key below `clip.vision.` -> key of preprocessor_config.json."""


def merged_tower(header: Header, kind: str, text: dict[str, Any]) -> Tower:
    """`text`: the configuration of the language model alone.

    Raises InputError for another language model, and for mergers that are not supported.
    """
    if "linear_num_key_heads" not in text:
        raise InputError(
            f"{header.path}: a tower with the projector {kind!r} belongs beside a file of Qwen3.5, "
            f"not of {text['architectures'][0]}"
        )
    config = {
        "architectures": [ARCHITECTURES[kind]],
        "text_config": {key: value for key, value in text.items() if key != "architectures"},
        "vision_config": tower_config(header),
        "downsample_mode": _mode(header),
        **_inserted(header),
    }
    return Tower(
        config,
        GgufTensors(header, {}, _original),
        lambda name: name.replace("model.", "model.language_model.", 1),
        (header.path, _pictures(header)),
    )


def _original(name: str) -> str:
    """The name in the original checkpoint; unchanged if the model has no such tensor."""
    return tower_name(name, TOWER) or renamed(name, MERGERS) or name


def _mode(header: Header) -> str:
    scale = vision_value(header, SCALE)
    if type(scale) is not int or scale not in MODES:
        known = ", ".join(f"{scale} ({mode})" for scale, mode in MODES.items())
        raise InputError(f"{header.path}: clip.vision.{SCALE} is {scale!r:.40}; known: {known}")
    return MODES[scale]


def _inserted(header: Header) -> dict[str, int]:
    """The layer before the first merger; nothing if the file does not say."""
    layers = vision_value(header, INSERTED)
    if layers is None:
        return {}
    if not isinstance(layers, list) or len(layers) != 1 or type(layers[0]) is not int:
        raise InputError(
            f"{header.path}: clip.vision.{INSERTED} is {layers!r:.100}; must be one layer"
        )
    return {"insert_layer_id": layers[0]}


def _pictures(header: Header) -> dict[str, Any]:
    """What the file says about cutting and normalizing pictures."""
    values = {theirs: vision_value(header, ours) for ours, theirs in PICTURES.items()}
    return _given(values | {SLICES: _slices(header)})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _slices(header: Header) -> Any:
    """The most slices of a picture, under whatever prefix the converter's version uses."""
    found = [plain(v) for key, v in header.metadata.items() if key.endswith(f".{SLICES}")]
    if any(value != found[0] for value in found):
        raise InputError(f"{header.path}: several keys end in .{SLICES}: {found!r:.100}")
    return found[0] if found else None
