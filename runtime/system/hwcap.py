"""Instruction set extensions of an ARM CPU, from the auxiliary vector (getauxval).

/proc/cpuinfo has the same on real hardware, but under an emulator it describes the host. Source of
bits and names: Linux, arch/arm64/include/uapi/asm/hwcap.h and arch/arm64/kernel/cpuinfo.c.
"""

from __future__ import annotations

import ctypes

_AT_HWCAP, _AT_HWCAP2 = 16, 26  # elf.h
_FIRST = (
    *("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp"),
    *("asimdhp", "cpuid", "asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4"),
    *("asimddp", "sha512", "sve", "asimdfhm", "dit", "uscat", "ilrcpc", "flagm", "ssbs", "sb"),
    *("paca", "pacg"),
)
_SECOND = (
    *("dcpodp", "sve2", "sveaes", "svepmull", "svebitperm", "svesha3", "svesm4", "flagm2"),
    *("frint", "svei8mm", "svef32mm", "svef64mm", "svebf16", "i8mm", "bf16"),
)


def arm_flags() -> frozenset[str]:
    """Flags as in the "Features" line of /proc/cpuinfo; empty without getauxval."""
    getauxval = getattr(ctypes.CDLL(None), "getauxval", None)
    if getauxval is None:
        return frozenset()
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return named(getauxval(_AT_HWCAP), getauxval(_AT_HWCAP2))


def named(first: int, second: int) -> frozenset[str]:
    """Names of the bits that are set in AT_HWCAP (`first`) and AT_HWCAP2 (`second`)."""
    words = ((first, _FIRST), (second, _SECOND))
    return frozenset(n for word, names in words for bit, n in enumerate(names) if word >> bit & 1)
