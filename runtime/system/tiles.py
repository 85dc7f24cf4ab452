"""Requests the AMX tile registers from Linux, once per process and before their first use.

Without permission, the first tile instruction kills the process with SIGILL. The permission also
applies to existing threads. Source: Linux, Documentation/arch/x86/xstate.rst.
"""

from __future__ import annotations

import ctypes
from functools import cache

FLAG = "amx_tile"
"""The feature of targets whose code uses tile registers."""
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18  # x86-64; ARCH_REQ_XCOMP_PERM; XTILEDATA


@cache
def ask_for_tiles() -> int:
    """Request the tile registers; returns 0 if granted, otherwise the errno."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.argtypes, syscall.restype = [ctypes.c_long] * 3, ctypes.c_long
    return ctypes.get_errno() if syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) else 0
