"""MiniCPM-V 4.6: SigLIP on the tiles of a picture, merged by windows, and Qwen3.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.errors import InputError
from handglass.runtime.bundle.entries import (
    FunctionEntry,
    MethodEntry,
    PromptEntry,
    TensorEntry,
    VisionEntry,
    WorkEntry,
)

from ..checkpoints.fields import Fields
from ..checkpoints.template_file import TemplateFile
from .architecture import architecture_of
from .config import LanguageConfig, VisionConfig, vision_config
from .experts import as_stored
from .family import Family, HasHead
from .language import Decoder
from .merged_vision import MergedVisionTower
from .merger_config import MergerConfig
from .network import DecoderNetwork
from .qwen35 import qwen35_config
from .release import MAX_SLICES, RESOLUTION
from .storage import Storage
from .templates import chatml, picture_tiles, reserved_tags
from .work import merged_vision_flops

ARCHITECTURE = "MiniCPMV4_6ForConditionalGeneration"
LANGUAGE = "model.language_model"
HALF = (0.5, 0.5, 0.5)
EXPECTED = {
    "drop_vision_last_layer": False,
    "small_image_upsize": "always",  # MiniCPM-OCR may have other values, in another file
    "merge_kernel_size": [2, 2],
    "merger_times": 1,
}
"""Keys that change the model or its pictures when they have another value."""
VIDEO = MethodEntry("spread", {"fps": 1.0, "max_frames": 128, "max_slices": 1, "tick": 0.1})


@dataclass(frozen=True)
class MiniCPMV46Config:
    """A validated config.json."""

    architecture: str
    vision: VisionConfig
    merger: MergerConfig
    language: LanguageConfig


class MiniCPMV46(DecoderNetwork):
    """The vision tower with its mergers (`vision`) and the decoder (`language_model`)."""

    decoder_name = "language_model"

    def __init__(self, config: MiniCPMV46Config, storage: Storage, head: str) -> None:
        super().__init__(storage)
        self.config = config
        self.vision = MergedVisionTower(config.vision, config.merger, storage.vision)
        self.language_model = Decoder(config.language, storage, head, LANGUAGE)

    def encode_image(
        self, pixels: nn.Tensor, position_ids: nn.Tensor, grid: nn.Tensor
    ) -> nn.Tensor:
        return self.vision(pixels, position_ids)

    def specs(self) -> dict[str, dict]:
        pixels = spec.Tensor([3, self.config.vision.patch_size, "strip"], "float32")
        ids, grid = spec.Tensor(["n"], "int32"), spec.Tensor(["n", 2], "int32")
        eyes = {"encode_image": {"pixels": pixels, "position_ids": ids, "grid": grid}}
        return eyes | super().specs()

    def functions(self) -> dict[str, FunctionEntry]:
        p, d = self.config.vision.patch_size, self.config.language.hidden_size
        pixels, ids = f"pixels (3, {p}, {p} n) float32", "position_ids (n,) int32"
        arguments = (pixels, ids, "grid (n, 2) int32", "params")
        rows = f"(n / {self.config.merger.patches_per_row}, {d}) float32"
        return {"encode_image": FunctionEntry(arguments, rows)} | super().functions()

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        n = (RESOLUTION // self.config.vision.patch_size) ** 2
        flops = merged_vision_flops(self.config.vision, self.config.merger, n)
        return {"encode_image": WorkEntry(flops=flops)} | super().work(params)


def configure(config: dict[str, Any]) -> MiniCPMV46Config:
    """Parse the released layout. Raises InputError for an invalid or unsupported setting."""
    return parse(config, ARCHITECTURE, tied_language)


def tied_language(top: Fields, text: Fields) -> LanguageConfig:
    return qwen35_config(text, _is_tied(top, text))


def parse(
    config: dict[str, Any],
    architecture: str,
    language_of: Callable[[Fields, Fields], LanguageConfig],
    downsample: str = "16x",
) -> MiniCPMV46Config:
    """Parse the layout of 4.6 and later; `language_of` reads the top and the `text_config`, and
    `downsample` is the mode if the file does not say."""
    top = Fields(config, "config.json")
    for key, only in EXPECTED.items():
        top.expect(key, only)
    text, tower = top.section("text_config"), top.section("vision_config")
    vision = vision_config(tower)
    language = language_of(top, text)
    stops = (*language.eos_token_ids, *top.tokens("eos_token_id", language.vocab_size))
    language = replace(language, eos_token_ids=stops)
    merger = MergerConfig(
        hidden_size=language.hidden_size,
        insert_layer_id=top.integer("insert_layer_id", default=6, minimum=0),
        downsample=str(top.get("downsample_mode") or downsample),
    )
    tower.expect("window_kernel_size", [2, 2])
    tower.expect("insert_layer_id", merger.insert_layer_id)
    top.expect("patch_size", vision.patch_size)
    if merger.insert_layer_id >= vision.num_hidden_layers:
        raise InputError(
            f"config.json: insert_layer_id is {merger.insert_layer_id}, but the vision tower has "
            f"{vision.num_hidden_layers} layers"
        )
    return MiniCPMV46Config(architecture, vision, merger, language)


def _is_tied(top: Fields, text: Fields) -> bool:
    return top.flag("tie_word_embeddings", text.flag("tie_word_embeddings", True))


def build(checkpoint: HasHead, config: MiniCPMV46Config, storage: Storage) -> MiniCPMV46:
    tied, embedding = config.language.tie_word_embeddings, f"{LANGUAGE}.embed_tokens.weight"
    config = replace(config, language=as_stored(config.language, checkpoint, LANGUAGE))
    return MiniCPMV46(config, storage, checkpoint.lm_head(tied, "lm_head.weight", embedding))


def ignored(config: MiniCPMV46Config) -> tuple[str, ...]:
    return () if config.merger.levels == 2 else ("model.vision_tower.vit_merger.",)


def vision_entry(config: MiniCPMV46Config) -> VisionEntry:
    patch, merger = config.vision.patch_size, config.merger
    grid = {"resolution": RESOLUTION, "multiple": patch << merger.levels, "max_slices": MAX_SLICES}
    return VisionEntry(
        image_size=RESOLUTION,
        patch_size=patch,
        mean=HALF,
        std=HALF,
        slicing=MethodEntry("grid", grid),
        positions=MethodEntry("floor", {"side": config.vision.positions_per_side}),
        patches_per_row=merger.patches_per_row,
        window_levels=merger.levels,
        video=VIDEO,
    )


def prompt_entry(config: MiniCPMV46Config, template: TemplateFile) -> PromptEntry:
    pads = ("<|image_pad|>", "<|video_pad|>")
    return chatml(
        picture_tiles(),
        thinks=True,
        is_trimmed=True,
        reserved=(*pads, *reserved_tags()),
        defaults={"temp": 0.7},
        frames=picture_tiles(False),
    )


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) == ARCHITECTURE


FAMILY = Family(
    name="MiniCPM-V 4.6: SigLIP merged by windows, Qwen3.5",
    matches=matches,
    configure=configure,
    build=build,
    prompt=prompt_entry,
    vision=vision_entry,
    title=lambda config: "MiniCPM-V 4.6",
    ignored=ignored,
    reference="handglass.compiler.parity.reference.minicpmv46",
)
