"""Instruction sets by their Linux names, which targets use, and their LLVM names.

Only those that compute kernels may use; extensions for operating systems and ciphers are omitted.
Sources: Linux, Documentation/arch/arm64/elf_hwcaps.rst and cpufeatures.h; LLVM, AArch64Features.td
and X86.td.
"""

AARCH64 = {
    "fp": "fp-armv8",
    "asimd": "neon",
    "atomics": "lse",
    "asimdrdm": "rdm",
    "fphp": "fullfp16",
    "asimdhp": "fullfp16",
    "asimddp": "dotprod",
    "asimdfhm": "fp16fml",
    "fcma": "complxnum",
    "sha3": "sha3",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
X86_64 = {
    "pni": "sse3",
    "ssse3": "ssse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "cx16": "cx16",
    "lahf_lm": "sahf",
    "popcnt": "popcnt",
    "abm": "lzcnt",
    "avx": "avx",
    "avx2": "avx2",
    "bmi1": "bmi",
    "bmi2": "bmi2",
    "f16c": "f16c",
    "fma": "fma",
    "movbe": "movbe",
    "xsave": "xsave",
    "avx_vnni": "avxvnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512vbmi": "avx512vbmi",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
}
LLVM_NAMES = {"x86_64": X86_64, "aarch64": AARCH64}
"""Architecture -> Linux flag -> LLVM attribute."""

WIDTHS: dict[str, dict[int, tuple[str, ...]]] = {
    "x86_64": {128: (), 256: ("avx2",), 512: ("avx512f",)},
    "aarch64": {128: ("asimd",)},
}
"""Architecture -> vector width in bits -> features that it requires."""
