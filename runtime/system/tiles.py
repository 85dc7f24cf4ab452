"""Linux hands out AMX's tile registers only when asked: once per process, before the first use.

Without the permission the first tile instruction ends the process with SIGILL. Threads that exist
already have it too. Source: Linux, Documentation/arch/x86/xstate.rst.
"""

from __future__ import annotations

import ctypes
from functools import cache

FLAG = "amx_tile"
"""What a target's features hold when its code uses tiles."""
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18  # x86-64; ARCH_REQ_XCOMP_PERM; XTILEDATA


@cache
def ask_for_tiles() -> int:
    """0 if this process may use tiles from now on, otherwise Linux's error number."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.argtypes, syscall.restype = [ctypes.c_long] * 3, ctypes.c_long
    return ctypes.get_errno() if syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) else 0
