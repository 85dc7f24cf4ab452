"""aarch64: boards and phones as presets, and the same levels for the host.

A preset names the core whose pipeline LLVM plans for. Where LLVM has no model of a core but the old
3-wide Cortex-A57's (it answers with that for A72 to A78), sums of integer tiles spill; Neoverse N1
is a Cortex-A76 and has its own, so it stands for all of these. Armv9 cores would get SVE, which
several vendors switch off, and whose vectors have no width that we could plan with.
"""

from dataclasses import replace

from handglass.runtime.hardware import Machine

from .target import Target

TRIPLE = "aarch64-linux-gnu"
ANDROID = "aarch64-linux-android24"
FLOOR = ("fp", "asimd")  # in every aarch64 that runs Linux
NO_SVE = ("-sve", "-sve2")

# (LLVM's cpu, floor, attributes), best first; what is in the floor, code may use
I8MM = ("asimdfhm", "bf16", "i8mm")
DOTPROD = (*FLOOR, "asimddp", "asimdhp", "asimdrdm", "atomics", "fphp")
LEVELS = (
    ("cortex-x2", (*DOTPROD, *I8MM), NO_SVE),
    ("neoverse-n1", DOTPROD, ()),
    ("cortex-a72", FLOOR, ()),
)


def aarch64_host(machine: Machine) -> Target:
    """The highest level that this machine has in full."""
    fits = (level for level in LEVELS if machine.flags.issuperset(level[1]))
    cpu, features, mattr = next(fits, ("generic", (), ()))
    return Target(
        name="host",
        description=f"this machine: {machine.model}",
        triple=TRIPLE,
        cpu=cpu,
        features=features,
        vector_bits=128,
        mattr=mattr,
        cores=machine.cores,
        memory_limit=machine.memory,
    )


ARM64 = Target(
    name="arm64",
    description="any aarch64 Linux board since 2018: Armv8.2 with dotprod and fp16",
    triple=TRIPLE,
    cpu="neoverse-n1",
    features=DOTPROD,
    vector_bits=128,
)
RASPBERRY_PI_4 = Target(
    name="raspberry-pi-4",
    description="Raspberry Pi 4, and any 64-bit ARM Linux board without dotprod",
    triple=TRIPLE,
    cpu="cortex-a72",
    features=FLOOR,
    mattr=("-crc", "-aes", "-sha2"),
    vector_bits=128,
)
RASPBERRY_PI_5 = replace(ARM64, name="raspberry-pi-5", description="Raspberry Pi 5: Cortex-A76")
JETSON_ORIN_CPU = replace(
    ARM64,
    name="jetson-orin-cpu",
    description="the CPU of a Jetson Orin: Cortex-A78AE, no i8mm",
    cores=6,
)
JETSON_THOR_CPU = replace(
    ARM64,
    name="jetson-thor-cpu",
    description="the CPU of a Jetson Thor: Neoverse V3AE, i8mm",
    cpu="neoverse-v3ae",
    features=(*DOTPROD, *I8MM),
    mattr=NO_SVE,
    cores=14,
)
# Android's loader finds functions only in libraries that are named, on pages of 4 or 16 KiB;
# no more of its C library is needed to link (targets/linker.py)
ANDROID_ARM64 = Target(
    name="android-arm64",
    description="any 64-bit Android phone since 2018: dotprod and fp16",
    triple=ANDROID,
    cpu="neoverse-n1",
    features=DOTPROD,
    vector_bits=128,
    mattr=NO_SVE,
    stub_libraries=("c", "m"),
    link_flags=("-Wl,-z,max-page-size=16384",),
)
ANDROID_ARM64_I8MM = replace(
    ANDROID_ARM64,
    name="android-arm64-i8mm",
    description="Android phones since 2022: i8mm",
    cpu="cortex-x2",
    features=(*DOTPROD, *I8MM),
)
PRESETS = (
    *(ARM64, RASPBERRY_PI_4, RASPBERRY_PI_5, JETSON_ORIN_CPU, JETSON_THOR_CPU),
    *(ANDROID_ARM64, ANDROID_ARM64_I8MM),
)
