"""The options of one answer, from the names that `Model.chat` and manifests use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handglass.errors import UsageError

from ..bundle.manifest import Manifest
from ..prompt.slicing import limited
from .sampler import Sampling

MAX_TOKENS = 512  # default limit of an answer


@dataclass(frozen=True)
class Options:
    sampling: Sampling
    max_tokens: int = MAX_TOKENS
    max_slices: int | None = None
    thinking: bool | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Raises UsageError for a value of `Sampling` out of range, TypeError for another name."""
        rest = dict(given)
        names = ("max_tokens", "max_slices", "thinking")
        own = {name: rest.pop(name) for name in names if name in rest}
        return cls(Sampling(**rest), **own)


def with_defaults(manifest: Manifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options, and the bundle's defaults for those that are None or missing."""
    chosen = {name: value for name, value in given.items() if value is not None}
    return dict(manifest.prompt.sampling) | chosen


def check_options(manifest: Manifest, max_slices: int | None, thinking: bool | None) -> None:
    """Raise UsageError if the model does not have these options."""
    limited(manifest.vision, max_slices)
    if thinking is not None and "thinking" not in manifest.prompt.answer:
        raise UsageError(f"thinking={thinking!r}: this model has no thinking mode")
