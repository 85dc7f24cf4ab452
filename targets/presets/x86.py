"""x86-64: the four psABI levels as instruction floors, and the extensions of newer cores.

https://gitlab.com/x86-psABIs/x86-64-ABI, "micro-architecture levels"; flags have their Linux names
(abm is lzcnt in the manuals, pni is sse3).
"""

from handglass.runtime.system.hardware import Machine

from ..target import Target

TRIPLE = "x86_64-linux-gnu"

V2 = ("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3")
V3 = (*V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
V4 = (*V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

# (LLVM cpu, floor, vector width in bits), best first
LEVELS = (
    ("x86-64-v4", V4, 512),
    ("x86-64-v3", V3, 256),
    ("x86-64-v2", V2, 128),
    ("x86-64", (), 128),
)

# Linux flag -> (LLVM attribute, the lowest level that it is added to)
EXTENSIONS = {
    "avx_vnni": ("+avxvnni", "x86-64-v3"),
    "avx512_vnni": ("+avx512vnni", "x86-64-v4"),
    "avx512_bf16": ("+avx512bf16", "x86-64-v4"),
    "avx512_fp16": ("+avx512fp16", "x86-64-v4"),
    "avx512vbmi": ("+avx512vbmi", "x86-64-v4"),
    "amx_tile": ("+amx-tile", "x86-64-v4"),
    "amx_int8": ("+amx-int8", "x86-64-v4"),
    "amx_bf16": ("+amx-bf16", "x86-64-v4"),
}


AMX_FLAGS = ("amx_tile", "amx_int8", "amx_bf16", "avx512_vnni")
"""With all of these, matmul of many rows uses tile registers."""


def x86_host(machine: Machine) -> Target:
    """The host target at the highest level that this machine fully supports, with extensions."""
    level = next(i for i, (_, floor, *_) in enumerate(LEVELS) if machine.flags.issuperset(floor))
    cpu, floor, vector_bits = LEVELS[level]
    reached = {name for name, *_ in LEVELS[level:]}
    extras = [flag for flag, (_, since) in EXTENSIONS.items() if since in reached]
    present = tuple(flag for flag in extras if flag in machine.flags)
    return Target(
        name="host",
        description=f"this machine: {machine.model}",
        triple=TRIPLE,
        cpu=cpu,
        features=(*floor, *present),
        vector_bits=vector_bits,
        mattr=tuple(EXTENSIONS[flag][0] for flag in present),
        cores=machine.cores,
        l2=machine.l2 or (1 << 20),
        memory_limit=machine.memory,
    )


X86_64_V3 = Target(
    name="x86-64-v3",
    description="any x86-64 with AVX2 and FMA (Intel since 2013, AMD since 2015)",
    triple=TRIPLE,
    cpu="x86-64-v3",
    features=V3,
    vector_bits=256,
)

X86_64_V4 = Target(
    name="x86-64-v4",
    description="any x86-64 with AVX-512 (Intel servers since 2017, AMD since 2022)",
    triple=TRIPLE,
    cpu="x86-64-v4",
    features=V4,
    vector_bits=512,
)

X86_64_AMX = Target(
    name="x86-64-amx",
    description="any x86-64 with AMX (Intel servers since 2023)",
    triple=TRIPLE,
    cpu="x86-64-v4",
    features=(*V4, *AMX_FLAGS),
    vector_bits=512,
    mattr=tuple(EXTENSIONS[flag][0] for flag in AMX_FLAGS),
    l2=2 << 20,  # on all CPUs with AMX so far
)
