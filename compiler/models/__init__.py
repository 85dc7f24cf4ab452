"""The model families that can be compiled, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handglass.errors import InputError

from .config import ModelConfig
from .family import Family, FamilyConfig, HasHead, Network
from .minicpmv import SEED_FAMILY

FAMILIES: dict[str, Family] = {"minicpmv": SEED_FAMILY}

__all__ = ["FAMILIES", "Family", "FamilyConfig", "HasHead", "Network", "find_family"]


def find_family(config: Mapping[str, Any]) -> Family:
    """The first family that a `config.json` is of, or an InputError that says why there is none."""
    for family in FAMILIES.values():
        if family.matches(config):
            return family
    ModelConfig.from_dict(dict(config))  # knows releases that are not supported, by name
    names, known = config.get("architectures"), ", ".join(FAMILIES)
    raise InputError(f"config.json: no model for {names!r:.200}; known families: {known}")
