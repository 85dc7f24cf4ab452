"""MiniCPM-OCR 1.0: MiniCPM-V 4.6 with a row per four patches, and pictures that keep their size
if preprocessor_config.json says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import minicpmv46
from .architecture import architecture_of
from .family import Family
from .minicpmv46 import MiniCPMV46Config

ARCHITECTURE = "MiniCPMOcrForConditionalGeneration"


def configure(config: dict[str, Any]) -> MiniCPMV46Config:
    """Parse the released layout. Raises InputError for an invalid or unsupported setting."""
    return minicpmv46.parse(config, ARCHITECTURE, minicpmv46.tied_language, downsample="4x")


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) == ARCHITECTURE


FAMILY = Family(
    name="MiniCPM-OCR: MiniCPM-V 4.6 with a row per four patches",
    matches=matches,
    configure=configure,
    build=minicpmv46.build,
    prompt=minicpmv46.prompt_entry,
    vision=minicpmv46.vision_entry,
    title=lambda config: "MiniCPM-OCR 1.0",
    ignored=minicpmv46.ignored,
    reference=minicpmv46.FAMILY.reference,
    keeps_small_pictures=True,
)
