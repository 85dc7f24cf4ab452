"""The vision tower of MiniCPM-V 1.0 and 2.0: SigLIP as timm builds and names it.

config.json names it in `vision_encoder`, without sizes; a `vision_config` with sizes takes
precedence. GELU is exact here, and the position table is resized to the grid of a tile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from handglass.errors import InputError

from ..checkpoints.fields import Fields
from .config import VisionConfig, vision_config
from .tower_names import TIMM

TOWERS: dict[str, dict[str, Any]] = {
    "vit_so400m_patch14_siglip_384.webli": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 378,  # 384, of which 27 patches of 14 are whole
        "patch_size": 14,
    }
}


def timm_vision(top: Fields) -> VisionConfig:
    """The tower without its last layer, unless `drop_vision_last_layer` is false.

    Raises InputError for a tower that is not known, and for one without a layer left.
    """
    vision = vision_config(_sizes(top), hidden_act="gelu")
    layers = vision.num_hidden_layers - top.flag("drop_vision_last_layer", True)
    if not layers:
        raise InputError(
            "config.json: drop_vision_last_layer is true, but the vision tower has 1 layer"
        )
    return replace(vision, num_hidden_layers=layers, names=TIMM, resizes_positions=True)


def _sizes(top: Fields) -> Fields:
    name = top.get("vision_encoder")
    if top.get("vision_config") is not None:
        return top.section("vision_config")
    if not isinstance(name, str) or name not in TOWERS:
        raise InputError(
            f"config.json: vision_encoder is {name!r:.200}; known: {', '.join(TOWERS)}; "
            "for another one, state its sizes in vision_config"
        )
    return Fields(TOWERS[name], f"vision_encoder {name}")
