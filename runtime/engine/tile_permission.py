"""The permission to use AMX's tile registers, on behalf of a bundle whose code does."""

from __future__ import annotations

import os

from handglass.errors import DeviceError

from ..bundle.entries import TargetEntry
from ..system.tiles import FLAG, ask_for_tiles


def allow_tiles(target: TargetEntry) -> None:
    """DeviceError if the target's code has tiles and Linux does not let this process use them."""
    if FLAG not in target.features:
        return
    if error := ask_for_tiles():
        raise DeviceError(
            f"the bundle is compiled for {target.cpu} with AMX (target {target.name}); Linux does "
            f"not let this process use the tile registers ({os.strerror(error)}): it takes Linux "
            "5.16 and a machine, real or virtual, that has them; otherwise compile for x86-64-v4"
        )
