"""The configuration of a release with a resampler, or of the seed: config.json, parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import MethodEntry, PromptEntry

from ..checkpoints.fields import Fields
from ..checkpoints.unstated import ADAPTIVE, NEWLINE, PADDED_ROW, PATCHES, Answers, answers
from .architecture import architecture_of
from .config import RESAMPLER_HEAD_DIM, LanguageConfig, ResamplerConfig, VisionConfig
from .release import (
    ARCHITECTURES,
    MAX_SLICES,
    MOST_SLICES,
    REFUSED,
    RESOLUTION,
    SEED_RELEASE,
    Release,
    find_release,
)


@dataclass(frozen=True)
class ModelConfig:
    """The whole model; `image_size` is the side of a square tile, in pixels."""

    architecture: str
    vision: VisionConfig
    resampler: ResamplerConfig
    language: LanguageConfig
    image_size: int
    release: Release = SEED_RELEASE
    max_slices: int = 1
    has_image_ids: bool = False
    answers: Answers = field(default_factory=dict)
    """To the questions of the release."""

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> ModelConfig:
        """Parse the released layout: language fields at the top level, the tower under
        `vision_config`. Raises InputError for an invalid or unsupported setting."""
        top = Fields(config, "config.json")
        architecture = _architecture(config, top)
        release = find_release(top, ARCHITECTURES[architecture])
        _refuse(top, release.refused)
        vision = release.vision(top)
        language = release.language(top)
        image_size = top.integer("image_size")
        top.multiple("image_size", image_size, "patch_size", vision.patch_size)
        _refuse_other_patch_size(top, vision.patch_size)
        given = answers(top, release.questions, release.name)
        resampler = _resampler(top, release, vision, language, given)
        sizes = vision, resampler, language, image_size
        return cls(architecture, *sizes, release, *_slicing(top, release), given)

    @property
    def prompt(self) -> PromptEntry:
        tiles = self.release.tiles(self.has_image_ids)
        entry = self.release.prompt(tiles, defaults=dict(self.release.defaults))
        if self.answers.get(NEWLINE) is False:
            entry = replace(entry, between="")
        if self.release.video is None:
            return entry
        # Frames are pictures without numbers, joined as the parts of a message are.
        return replace(entry, frames=self.release.tiles(False), between_frames=entry.between)

    @property
    def video(self) -> MethodEntry | None:
        """The method of videos, whose frames have no more slices than pictures."""
        entry = self.release.video
        if entry is None or "max_slices" not in entry.parameters:
            return entry
        slices = min(entry.parameters["max_slices"], self.max_slices)
        return replace(entry, parameters={**entry.parameters, "max_slices": slices})


def _architecture(config: Mapping[str, Any], top: Fields) -> str:
    """The supported architecture. Raises InputError for another one."""
    name = architecture_of(config) or ", ".join(top.texts("architectures"))
    if name not in ARCHITECTURES:
        raise InputError(
            f"config.json: unknown architecture {name!r}; docs/models.md lists those that compile, "
            "and an encoder may be exported as an ONNX file"
        )
    return name


def _refuse(top: Fields, keys: tuple[str, ...]) -> None:
    for key in keys:
        value = top.get(key)
        if value is not None and value is not False:
            raise InputError(f"config.json: {key} is {value!r}: {REFUSED[key]}: not supported yet")


def _refuse_other_patch_size(top: Fields, patch_size: int) -> None:
    """The released layout repeats the patch size at the top level; both values must agree."""
    stated = top.integer("patch_size", default=patch_size)
    if stated != patch_size:
        raise InputError(
            f"config.json: patch_size is {stated} but vision_config.patch_size is {patch_size}"
        )


def _slicing(top: Fields, release: Release) -> tuple[int, bool]:
    """Most slices of a picture, and whether the prompt numbers the pictures."""
    if not release.slices:
        return 1, False
    inner = top.section("slice_config") if top.get("slice_config") else top
    inner.expect("scale_resolution", RESOLUTION)
    most = inner.integer("max_slice_nums", default=MAX_SLICES, maximum=MOST_SLICES)
    return most if top.flag("slice_mode", True) else 1, top.flag("use_image_id", True)


def _resampler(
    top: Fields,
    release: Release,
    vision: VisionConfig,
    language: LanguageConfig,
    given: Answers,
) -> ResamplerConfig:
    hidden_size, queries = language.hidden_size, top.integer("query_num")
    top.multiple("hidden_size", hidden_size, "the resampler's head width", RESAMPLER_HEAD_DIM)
    side = top.integer("image_size") // vision.patch_size
    is_enlarged = given.get(ADAPTIVE) is False
    if is_enlarged and isqrt(queries) ** 2 != queries:
        raise InputError(f"config.json: query_num is {queries}, but must be a square number")
    return ResamplerConfig(
        query_num=queries,
        hidden_size=hidden_size,
        vision_hidden_size=vision.hidden_size,
        num_attention_heads=hidden_size // RESAMPLER_HEAD_DIM,
        has_query_positions=release.has_query_positions,
        key_grid=side if is_enlarged else 0,
        has_padding=given.get(PATCHES) == PADDED_ROW,
        has_times=release.has_times,
    )
