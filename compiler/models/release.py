"""The releases with a resampler: which text model, slicing and template each has.

All use the architecture MiniCPMV (the o-models MiniCPMO). The early ones have no `version`, so they
are also recognized by their shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import isqrt
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import Around, MethodEntry, PromptEntry

from ..checkpoints.fields import Fields
from . import templates, text_config
from .architecture import architecture_of
from .config import RESAMPLER_HEAD_DIM, LanguageConfig, ResamplerConfig, VisionConfig, vision_config
from .timm_tower import timm_vision

RESOLUTION, MAX_SLICES = 448, 9
"""Of all releases that slice pictures, if their files do not say."""
MOST_SLICES = 100
GROUPS = "groups"
"""The method of videos whose frames the resampler takes in groups."""
SAMPLING = {"temp": 0.7, "top_p": 0.8, "top_k": 100, "repeat_penalty": 1.05}
"""Defaults of 2.5 to 4.0."""

Shape = Mapping[str, int]
REFUSED = {
    "drop_vision_last_layer": "a vision tower without its last layer",
    "slice_mode": "image slicing",
    "use_image_id": "image numbers in the prompt",
}
"""Keys that change the model or the prompt when they are set -> the feature that they enable."""


def siglip_vision(top: Fields) -> VisionConfig:
    return vision_config(top.section("vision_config"))


@dataclass(frozen=True)
class Release:
    """What config.json does not say."""

    name: str
    version: str
    language: Callable[[Fields], LanguageConfig]
    prompt: Callable[..., PromptEntry]
    tiles: Callable[[bool], dict[str, Around]] = templates.picture_tiles
    """Whether the prompt numbers the pictures -> the markers of tiles."""
    shapes: tuple[Shape, ...] = ()
    """Recognizes the release if `version` is absent."""
    vision: Callable[[Fields], VisionConfig] = siglip_vision
    has_query_positions: bool = False
    enlarges_positions: bool = False
    """Whether keys have these positions too, enlarged to the grid of the only tile."""
    is_omni: bool = False
    slices: bool = True
    video: MethodEntry | None = None
    """How the frames of a video are chosen; None: the released code shows none."""
    refused: tuple[str, ...] = ("drop_vision_last_layer",)
    """Keys of REFUSED."""
    defaults: tuple[tuple[str, float], ...] = tuple(SAMPLING.items())

    @property
    def has_times(self) -> bool:
        """Whether the resampler takes the frames of a video in groups."""
        return self.video is not None and self.video.kind == GROUPS


def _chatml(tiles: Mapping[str, Around], **options: Any) -> PromptEntry:
    return templates.chatml(tiles, reserved=templates.reserved_tags(), **options)


def _seed_prompt(tiles: Mapping[str, Around], defaults: Mapping[str, float]) -> PromptEntry:
    return templates.minicpm(templates.whole_picture(), defaults)


_minicpm_prompt = partial(templates.minicpm, between="\n")

HELPFUL = "You are a helpful assistant."
_qwen2_prompt = partial(_chatml, system=HELPFUL)
_qwen3_prompt = partial(_chatml, thinks=True, opened="")
SEED_RELEASE = Release(
    "MiniCPM-V with MiniCPM-1B",
    "seed",
    text_config.minicpm,
    _seed_prompt,
    slices=False,
    refused=tuple(REFUSED),
    defaults=(),
)
_first_shape = {"hidden_size": 2304, "intermediate_size": 5760}
RELEASES = (
    Release(
        "MiniCPM-V 2.0",
        "2.0",
        text_config.minicpm,
        _minicpm_prompt,
        templates.bracketed_tiles,
        (_first_shape | {"slice_mode": True},),
        timm_vision,
        has_query_positions=True,
        refused=(),
    ),
    # Its own code was not at hand: a square and enlarged positions are those of its relatives.
    Release(
        "MiniCPM-V 1.0",
        "1.0",
        text_config.minicpm,
        _minicpm_prompt,
        templates.whole_picture,
        (_first_shape,),
        timm_vision,
        has_query_positions=True,
        enlarges_positions=True,
        slices=False,
        refused=("slice_mode", "use_image_id"),
        defaults=(),
    ),
    # The released code of 2.5 uses positions of a padded batch (1 x n). Here they are those of the
    # grid, as in other engines. Which is better was not verified on its weights.
    Release(
        "MiniCPM-V 2.5",
        "2.5",
        text_config.llama,
        templates.llama3,
        templates.bracketed_tiles,
        ({"hidden_size": 4096, "intermediate_size": 14336},),
    ),
    Release(
        "MiniCPM-V 2.6",
        "2.6",
        text_config.qwen2,
        _qwen2_prompt,
        video=MethodEntry("seconds", {"fps": 1.0, "max_frames": 64, "max_slices": 2}),
        shapes=({"hidden_size": 3584, "intermediate_size": 18944},),
    ),
    Release("MiniCPM-o 2.6", "2.6", text_config.qwen2, _qwen2_prompt, is_omni=True),
    Release(
        "MiniCPM-V 4.0",
        "4.0",
        text_config.llama,
        _chatml,
        shapes=({"hidden_size": 2560, "intermediate_size": 10240},),
    ),
    Release(
        "MiniCPM-V 4.5",
        "4.5",
        text_config.qwen3,
        _qwen3_prompt,
        shapes=({"hidden_size": 4096, "intermediate_size": 12288}, {"vocab_size": 151748}),
        defaults=tuple((SAMPLING | {"repeat_penalty": 1.03}).items()),
        video=MethodEntry(
            GROUPS,
            {"fps": 3.0, "max_frames": 180, "packing": 3, "most_packing": 6, "tick": 0.1},
        ),
    ),
    Release(
        "MiniCPM-o 4.5",
        "4.5",
        text_config.qwen3,
        _qwen3_prompt,
        is_omni=True,
        defaults=(("temp", 0.6), ("top_p", 0.95), ("top_k", 20)),
    ),
)
ARCHITECTURES = {"MiniCPMV": False, "MiniCPMO": True}
"""Architecture -> whether it is an o-model."""


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
        resampler = _resampler(top, release, vision, language)
        sizes = vision, resampler, language, image_size
        return cls(architecture, *sizes, release, *_slicing(top, release))

    @property
    def prompt(self) -> PromptEntry:
        tiles = self.release.tiles(self.has_image_ids)
        entry = self.release.prompt(tiles, defaults=dict(self.release.defaults))
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


def find_release(top: Fields, is_omni: bool) -> Release:
    """The release by `version`, else by shape, else the seed.

    Raises InputError for a release that is not supported.
    """
    text = _version(top.get("version"))
    for release in (r for r in RELEASES if r.is_omni == is_omni):
        by_shape = any(all(top.get(k) == v for k, v in s.items()) for s in release.shapes)
        if text == release.version or (not text and by_shape):
            return release
    kind = "MiniCPM-o" if is_omni else "MiniCPM-V"
    if text or is_omni:
        raise InputError(f"config.json: {kind} {text or 'without version'} is not supported yet")
    return SEED_RELEASE


def _version(value: Any) -> str:
    """As text; some tools write the number 4.0 as 4."""
    if value is None:
        return ""
    return f"{value}.0" if type(value) is int else str(value)


def _architecture(config: Mapping[str, Any], top: Fields) -> str:
    """The supported architecture. Raises InputError for another one."""
    name = architecture_of(config) or ", ".join(top.texts("architectures"))
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"config.json: unknown architecture {name!r}; known here: {known}")
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
    top: Fields, release: Release, vision: VisionConfig, language: LanguageConfig
) -> ResamplerConfig:
    hidden_size, queries = language.hidden_size, top.integer("query_num")
    top.multiple("hidden_size", hidden_size, "the resampler's head width", RESAMPLER_HEAD_DIM)
    side = top.integer("image_size") // vision.patch_size
    if release.enlarges_positions and isqrt(queries) ** 2 != queries:
        raise InputError(f"config.json: query_num is {queries}, but must be a square number")
    return ResamplerConfig(
        query_num=queries,
        hidden_size=hidden_size,
        vision_hidden_size=vision.hidden_size,
        num_attention_heads=hidden_size // RESAMPLER_HEAD_DIM,
        has_query_positions=release.has_query_positions,
        key_grid=side if release.enlarges_positions else 0,
        has_times=release.has_times,
    )
