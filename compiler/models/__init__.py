"""The model families that can be compiled, in matching order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handglass.errors import InputError

from ..checkpoints.fields import Recorded
from ..checkpoints.unread import warn_unread
from .dual_encoder import FAMILY as DUAL_FAMILY
from .family import Family, FamilyConfig, HasHead, Network
from .minicpm_ocr import FAMILY as MINICPM_OCR_FAMILY
from .minicpmv import FAMILY as MINICPMV_FAMILY
from .minicpmv46 import FAMILY as MINICPMV46_FAMILY
from .minicpmv47 import FAMILY as MINICPMV47_FAMILY
from .mllama import FAMILY as MLLAMA_FAMILY
from .model_config import ModelConfig
from .picture_encoder import FAMILY as PICTURE_FAMILY
from .sentence_encoder import FAMILY as SENTENCE_FAMILY
from .text_only import FAMILY as TEXT_FAMILY

FAMILIES: dict[str, Family] = {
    "minicpmv4_6": MINICPMV46_FAMILY,
    "minicpmv4_7": MINICPMV47_FAMILY,
    "minicpm_ocr": MINICPM_OCR_FAMILY,
    "minicpmv": MINICPMV_FAMILY,
    "mllama": MLLAMA_FAMILY,
    "text": TEXT_FAMILY,
    "dual": DUAL_FAMILY,
    "picture": PICTURE_FAMILY,
    "sentence": SENTENCE_FAMILY,
}

__all__ = ["FAMILIES", "Family", "FamilyConfig", "HasHead", "Network", "find_family", "read_config"]


def find_family(config: Mapping[str, Any]) -> Family:
    """Return the first family whose `matches` accepts a parsed `config.json`.

    Raises InputError if no family does.
    """
    for family in FAMILIES.values():
        if family.matches(config):
            return family
    ModelConfig.from_dict(dict(config))  # raises a clearer error for releases it knows by name
    names, known = config.get("architectures"), ", ".join(FAMILIES)
    raise InputError(f"config.json: architectures {names!r:.200} match no model family ({known})")


def read_config(config: Mapping[str, Any]) -> tuple[Family, Any]:
    """The family of a parsed `config.json` and its configuration; warns of keys that neither reads.

    Raises InputError.
    """
    recorded = Recorded(config)
    family = find_family(recorded)
    configuration = family.configure(recorded)
    warn_unread(recorded)
    return family, configuration
