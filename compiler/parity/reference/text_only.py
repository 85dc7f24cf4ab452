"""The reference of a language model without vision."""

from __future__ import annotations

from ...models.family import FamilyConfig
from .family import Reference
from .language import Names


def reference(config: FamilyConfig) -> Reference:
    return Reference(config.language, Names("model", "lm_head.weight"))
