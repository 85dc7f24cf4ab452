"""MiniCPM-V 4.7: 4.6 with three rotary positions per token, so that the tokens of a picture stand
on a canvas (runtime/prompt/canvas.py). The head is not tied to the embedding unless the
configuration says so, which the published number of parameters suggests; a checkpoint that has no
head then is refused by the name of the missing tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from handglass.runtime.bundle.entries import CANVAS, MethodEntry, PromptEntry

from ..checkpoints.fields import Fields
from ..checkpoints.template_file import TemplateFile
from . import minicpmv46
from .architecture import architecture_of
from .config import LanguageConfig
from .family import Family
from .minicpmv46 import MiniCPMV46Config
from .qwen35 import qwen35_config
from .templates import TILE_MARKERS

ARCHITECTURE = "MiniCPMV4_7ForConditionalGeneration"


def configure(config: dict[str, Any]) -> MiniCPMV46Config:
    """Parse the released layout. Raises InputError for an invalid or unsupported setting."""
    return minicpmv46.parse(config, ARCHITECTURE, _language)


def _language(top: Fields, text: Fields) -> LanguageConfig:
    is_tied = top.flag("tie_word_embeddings", text.flag("tie_word_embeddings", False))
    return qwen35_config(text, is_tied, has_axes=True)


def prompt_entry(config: MiniCPMV46Config, template: TemplateFile) -> PromptEntry:
    canvas = {"merge": 1 << config.merger.levels, "markers": [*TILE_MARKERS, "\n"]}
    entry = minicpmv46.prompt_entry(config, template)
    return replace(entry, positions=MethodEntry(CANVAS, canvas))


def title(config: MiniCPMV46Config) -> str:
    return "MiniCPM-V 4.7" if config.language.experts is None else "MiniCPM-V 4.7 35B-A3B"


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) == ARCHITECTURE


FAMILY = Family(
    name="MiniCPM-V 4.7: 4.6 with positions on a canvas",
    matches=matches,
    configure=configure,
    build=minicpmv46.build,
    prompt=prompt_entry,
    vision=minicpmv46.vision_entry,
    title=title,
    ignored=minicpmv46.ignored,
    reference=minicpmv46.FAMILY.reference,
)
