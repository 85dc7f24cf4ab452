"""Requests permission to use the AMX tile registers for a bundle whose code needs them."""

from __future__ import annotations

import os

from handglass.errors import DeviceError

from ..bundle.entries import TargetEntry
from ..system.tiles import FLAG, ask_for_tiles


def allow_tiles(target: TargetEntry) -> None:
    """Raise DeviceError if the code uses tile registers and Linux denies them to this process."""
    if FLAG not in target.features:
        return
    if error := ask_for_tiles():
        raise DeviceError(
            f"the bundle is compiled for {target.cpu} with AMX (target {target.name}); Linux does "
            f"not let this process use the tile registers ({os.strerror(error)}): this needs Linux "
            "5.16 and a physical or virtual machine with AMX; otherwise compile for x86-64-v4"
        )
