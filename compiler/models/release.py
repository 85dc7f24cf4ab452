"""The releases with a resampler: which text model, slicing and template each has.

All use the architecture MiniCPMV (the o-models MiniCPMO). The early ones have no `version`, so they
are also recognized by their shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import Around, MethodEntry, PromptEntry

from ..checkpoints.fields import Fields
from ..checkpoints.unstated import PATCH_QUESTIONS, SQUARE_QUESTIONS, Question
from . import templates, text_config
from .config import LanguageConfig, VisionConfig, vision_config
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
    is_omni: bool = False
    slices: bool = True
    video: MethodEntry | None = None
    """How the frames of a video are chosen; None: the released code shows none."""
    refused: tuple[str, ...] = ("drop_vision_last_layer",)
    """Keys of REFUSED."""
    questions: tuple[Question, ...] = ()
    """What its files do not say and config.json may or must."""
    needs_template: bool = False
    """Whether its prompt is not known well enough to do without the checkpoint's chat template."""
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
    Release(
        "MiniCPM-V 1.0",
        "1.0",
        text_config.minicpm,
        _minicpm_prompt,
        templates.whole_picture,
        (_first_shape,),
        timm_vision,
        has_query_positions=True,
        slices=False,
        refused=("slice_mode", "use_image_id"),
        questions=SQUARE_QUESTIONS,
        defaults=(),
    ),
    Release(
        "MiniCPM-V 2.5",
        "2.5",
        text_config.llama,
        templates.llama3,
        templates.bracketed_tiles,
        ({"hidden_size": 4096, "intermediate_size": 14336},),
        questions=PATCH_QUESTIONS,
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
        needs_template=True,  # one description of it has no newline after a role
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
