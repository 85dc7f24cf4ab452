"""How the vision side of MiniCPM-V 4.6 and later merges patches."""

from __future__ import annotations

from dataclasses import dataclass

from handglass.errors import InputError

WINDOW = 4
"""Rows per window: 2 x 2 patches, or 2 x 2 windows after the first merger."""
LEVELS = {"16x": 2, "4x": 1}
"""Value of `downsample_mode` -> how many times windows are merged."""


@dataclass(frozen=True)
class MergerConfig:
    """One row for the language model per 16 or 4 patches."""

    hidden_size: int
    """The width of the language model."""
    insert_layer_id: int = 6
    """The encoder layer after which windows are merged for the first time (16x only)."""
    downsample: str = "16x"

    def __post_init__(self) -> None:
        if self.downsample not in LEVELS:
            raise InputError(
                f"config.json: downsample_mode is {self.downsample!r}; known: {', '.join(LEVELS)}"
            )

    @property
    def levels(self) -> int:
        """How many mergers follow each other: `window_levels` of the manifest."""
        return LEVELS[self.downsample]

    @property
    def patches_per_row(self) -> int:
        """Patches that become one row."""
        return WINDOW**self.levels
