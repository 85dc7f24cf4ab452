"""Instruction sets of an ARM machine, as its kernel tells a process: bits, named as in cpuinfo.

The kernel gives every process only what all cores have. An emulator gives what it emulates, while
/proc/cpuinfo may still be that of the machine below. Source: Linux, arch/arm64/include/uapi/asm/
hwcap.h and arch/arm64/kernel/cpuinfo.c.
"""

from __future__ import annotations

import ctypes

_AT_HWCAP, _AT_HWCAP2 = 16, 26
_HWCAP = (
    *("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp"),
    *("asimdhp", "cpuid", "asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4"),
    *("asimddp", "sha512", "sve", "asimdfhm", "dit", "uscat", "ilrcpc", "flagm", "ssbs", "sb"),
    *("paca", "pacg"),
)
_HWCAP2 = (
    *("dcpodp", "sve2", "sveaes", "svepmull", "svebitperm", "svesha3", "svesm4", "flagm2"),
    *("frint", "svei8mm", "svef32mm", "svef64mm", "svebf16", "i8mm", "bf16"),
)


def arm_flags() -> frozenset[str]:
    """Of this process."""
    ask = ctypes.CDLL(None).getauxval
    ask.argtypes, ask.restype = [ctypes.c_ulong], ctypes.c_ulong
    return named(ask(_AT_HWCAP), ask(_AT_HWCAP2))


def named(hwcap: int, hwcap2: int) -> frozenset[str]:
    """The names of the bits that are set; those without a name here are left out."""
    pairs = ((hwcap, _HWCAP), (hwcap2, _HWCAP2))
    return frozenset(
        name for bits, names in pairs for bit, name in enumerate(names) if bits >> bit & 1
    )
