"""The configuration of Llama 3.2 Vision: config.json, parsed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.canvases import arrangements, padded

from ..checkpoints.fields import Fields
from .config import MAX_LAYERS, LanguageConfig
from .rope import SECTIONS
from .text_config import llama

MAX_TILES = 16
"""Of one picture; released models have 4."""
EXTRA_TOKENS = 8
"""Rows of the embedding after those of the vocabulary, for tokens that the model never writes."""
IN_VIEW = 4
"""Pictures next to each other in a prompt that the text after them sees together."""


@dataclass(frozen=True)
class TiledVisionConfig:
    """An encoder of all tiles of a picture together, in two parts; the second has gates."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_global_layers: int
    num_attention_heads: int
    image_size: int
    """Side of a tile, in pixels."""
    patch_size: int
    norm_eps: float
    max_num_tiles: int
    intermediate_layers: tuple[int, ...]
    """Layers of the first part whose inputs are features beside the result of the second."""

    @property
    def side(self) -> int:
        """Patches along each side of a tile."""
        return self.image_size // self.patch_size

    @property
    def tile_rows(self) -> int:
        """Rows of a tile: its class token and its patches."""
        return self.side**2 + 1

    @property
    def padded_rows(self) -> int:
        """Rows of a tile with those of padding."""
        return padded(self.tile_rows)

    @property
    def ratios(self) -> int:
        """Arrangements of tiles, each with positions of its own."""
        return len(arrangements(self.max_num_tiles))

    @property
    def features(self) -> int:
        """Columns of a row of all features."""
        return self.hidden_size * (1 + len(self.intermediate_layers))


@dataclass(frozen=True)
class MllamaConfig:
    """A validated config.json."""

    architecture: str
    vision: TiledVisionConfig
    language: LanguageConfig


def parse(config: dict[str, Any], architecture: str) -> MllamaConfig:
    """Parse the released layout. Raises InputError for an invalid or unsupported setting."""
    top = Fields(config, "config.json")
    vision = _vision(top.section("vision_config"))
    language = _language(top.section("text_config"))
    rows = IN_VIEW * vision.max_num_tiles * vision.tile_rows
    top.expect("image_token_index", language.vocab_size)
    return MllamaConfig(architecture, vision, replace(language, picture_rows=rows))


def _language(fields: Fields) -> LanguageConfig:
    given = [fields, *(fields.section(name) for name in SECTIONS if fields.get(name))]
    if all(section.get("rope_theta") is None for section in given):
        raise InputError(f"{fields.where}: rope_theta is missing")  # Llama's default is another
    language = llama(fields)
    layers = _layers(fields, "cross_attention_layers", language.num_hidden_layers)
    if 0 in layers or not layers:
        raise InputError(
            f"{fields.where}: cross_attention_layers is {list(layers)}, but must name a layer, and "
            "not the first"
        )
    return replace(language, cross_layers=frozenset(layers), extra_tokens=EXTRA_TOKENS)


def _vision(fields: Fields) -> TiledVisionConfig:
    fields.expect("hidden_act", "gelu")
    fields.expect("num_channels", 3)
    layers = fields.integer("num_hidden_layers", maximum=MAX_LAYERS)
    tiles = fields.integer("max_num_tiles", maximum=MAX_TILES)
    fields.expect("supported_aspect_ratios", [list(pair) for pair in arrangements(tiles)])
    vision = TiledVisionConfig(
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=layers,
        num_global_layers=fields.integer("num_global_layers", maximum=MAX_LAYERS),
        num_attention_heads=fields.integer("attention_heads"),
        image_size=fields.integer("image_size"),
        patch_size=fields.integer("patch_size"),
        norm_eps=fields.number("norm_eps", default=1e-5),
        max_num_tiles=tiles,
        intermediate_layers=_layers(fields, "intermediate_layers_indices", layers),
    )
    heads = "attention_heads", vision.num_attention_heads
    fields.multiple("hidden_size", vision.hidden_size, *heads)
    fields.multiple("image_size", vision.image_size, "patch_size", vision.patch_size)
    fields.expect("vision_output_dim", vision.features)
    return vision


def _layers(fields: Fields, key: str, count: int) -> tuple[int, ...]:
    """Numbers of layers, from 0 to `count` - 1, in ascending order."""
    value = fields.get(key)
    numbers = value if isinstance(value, list) and len(value) <= count else [-1]
    if any(type(n) is not int or not 0 <= n < count for n in numbers) or (
        numbers != sorted(set(numbers))
    ):
        raise InputError(
            f"{fields.where}: {key} is {value!r:.200}, but must be a list of layers from 0 to "
            f"{count - 1} in ascending order"
        )
    return tuple(numbers)
