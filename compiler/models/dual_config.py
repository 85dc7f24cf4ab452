"""The configuration of a dual encoder: `config.json` of SigLIP or CLIP, validated and frozen.

transformers writes only what differs from the defaults of its classes, so that these stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import SIGMOID, SOFTMAX

from ..checkpoints.fields import Fields
from .architecture import architecture_of
from .config import MAX_LAYERS, VisionConfig
from .tower_names import CLIP, SIGLIP, TowerNames
from .vision import GELU

MAX_POSITIONS = 1 << 12
"""The most tokens of a text."""
Defaults = Mapping[str, Any]
_BASE: dict[str, Any] = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}


@dataclass(frozen=True)
class Kind:
    """What the configurations of one architecture have in common."""

    title: str
    names: TowerNames
    score: str
    """How a score becomes a probability: see `EncodersEntry`."""
    is_causal: bool
    """Whether a token of a text sees the earlier ones alone, so that texts need no padding."""
    is_cropped: bool
    """Whether a picture's middle is shown, not the whole picture as a square."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the pixels of each channel, from 0 to 1."""
    layers: Defaults
    """Of the layers of both towers: the defaults that they share."""
    text: Defaults
    vision: Defaults


KINDS = {
    "SiglipModel": Kind(
        "SigLIP",
        SIGLIP,
        SIGMOID,
        is_causal=False,
        is_cropped=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        layers={"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
        text=_BASE
        | {"intermediate_size": 3072, "max_position_embeddings": 64, "vocab_size": 32000},
        vision=_BASE | {"intermediate_size": 3072, "image_size": 224, "patch_size": 16},
    ),
    "CLIPModel": Kind(
        "CLIP",
        CLIP,
        SOFTMAX,
        is_causal=True,
        is_cropped=True,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        layers={"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        text=_BASE
        | {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
        | {"max_position_embeddings": 77, "vocab_size": 49408},
        vision=_BASE | {"intermediate_size": 3072, "image_size": 224, "patch_size": 32},
    ),
}
"""By the class that config.json names."""


@dataclass(frozen=True)
class TextTowerConfig:
    """The encoder of texts."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float
    hidden_act: str
    max_position_embeddings: int
    vocab_size: int
    names: TowerNames = SIGLIP
    """Of the layers, whose names both architectures share."""


@dataclass(frozen=True)
class DualConfig:
    """Two towers whose results have the same `width`."""

    architecture: str
    vision: VisionConfig
    text: TextTowerConfig
    width: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.architecture]

    @property
    def language(self) -> TextTowerConfig:
        """The text tower, under the name that the part has in every family."""
        return self.text

    @property
    def class_tokens(self) -> int:
        """Rows of the vision tower that have no pixels; they precede the patches."""
        return 1 if self.vision.names.class_token else 0


def configure(config: dict[str, Any]) -> DualConfig:
    """Parse config.json. Raises InputError for an invalid or unsupported setting."""
    name = architecture_of(config)
    assert name is not None  # `matches` has found it
    kind, top = KINDS[name], Fields(config, "config.json")
    text, tower = _section(top, "text_config"), _section(top, "vision_config")
    vision = _vision(tower, kind)
    return DualConfig(name, vision, _text(text, kind), _width(top, text, tower, vision))


def _section(top: Fields, key: str) -> Fields:
    """A nested object; an absent one has nothing but defaults."""
    return top.section(key) if top.get(key) is not None else Fields({}, f"config.json {key}")


def _vision(fields: Fields, kind: Kind) -> VisionConfig:
    fields.expect("num_channels", 3)
    fields.expect("vision_use_head", True)
    integer = lambda key: fields.integer(key, kind.vision[key])  # noqa: E731
    config = VisionConfig(
        **_layers(fields, kind, kind.vision),
        image_size=integer("image_size"),
        patch_size=integer("patch_size"),
        names=kind.names,
    )
    fields.multiple("image_size", config.image_size, "patch_size", config.patch_size)
    return config


def _text(fields: Fields, kind: Kind) -> TextTowerConfig:
    return TextTowerConfig(
        **_layers(fields, kind, kind.text),
        max_position_embeddings=fields.integer(
            "max_position_embeddings",
            kind.text["max_position_embeddings"],
            minimum=2,
            maximum=MAX_POSITIONS,
        ),
        vocab_size=fields.integer("vocab_size", kind.text["vocab_size"]),
    )


def _layers(fields: Fields, kind: Kind, defaults: Defaults) -> dict[str, Any]:
    """What both towers have, by the fields of their configurations."""
    act = fields.get("hidden_act") or kind.layers["hidden_act"]
    if act not in GELU:
        raise InputError(f"config.json: hidden_act is {act!r:.100}; known: {', '.join(GELU)}")
    sizes = {
        "hidden_size": fields.integer("hidden_size", defaults["hidden_size"]),
        "intermediate_size": fields.integer("intermediate_size", defaults["intermediate_size"]),
        "num_hidden_layers": fields.integer(
            "num_hidden_layers", defaults["num_hidden_layers"], maximum=MAX_LAYERS
        ),
        "num_attention_heads": fields.integer(
            "num_attention_heads", defaults["num_attention_heads"]
        ),
    }
    heads = sizes["num_attention_heads"]
    fields.multiple("hidden_size", sizes["hidden_size"], "num_attention_heads", heads)
    eps = fields.number("layer_norm_eps", default=kind.layers["layer_norm_eps"])
    return {**sizes, "layer_norm_eps": eps, "hidden_act": act}


def _width(top: Fields, text: Fields, tower: Fields, vision: VisionConfig) -> int:
    """Columns of both results: CLIP projects both; SigLIP projects the text to the width of the
    vision tower, or to a stated one, which must be the same."""
    if vision.names.class_token:
        for section in (text, tower):  # repeat what counts at the top level
            section.integer("projection_dim", 512)
        return top.integer("projection_dim", 512)
    text_width = text.integer("projection_size", text.integer("hidden_size", 768))
    if text_width != vision.hidden_size:
        raise InputError(
            f"config.json text_config: texts have {text_width} columns (projection_size), but "
            f"pictures have {vision.hidden_size} (hidden_size of vision_config)"
        )
    return vision.hidden_size
