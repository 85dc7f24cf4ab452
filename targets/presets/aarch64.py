"""aarch64: presets for boards and phones, and the same levels for the host.

A level names the core whose scheduling model LLVM uses. For A72 to A78, LLVM falls back to the
model of the old 3-wide Cortex-A57, with which the sums of integer tiles spill. Neoverse N1 is a
Cortex-A76 with its own model, so it represents all of these. SVE is disabled on Armv9 cores:
several vendors switch it off, and its vector width is not known at compile time.

Memory limits are those of the smallest common board.
"""

from dataclasses import dataclass, replace
from typing import Any

from handglass.runtime.system.hardware import Machine

from ..target import Target

TRIPLE = "aarch64-linux-gnu"
ANDROID = "aarch64-linux-android24"
GB = 10**9
NO_SVE = ("-sve", "-sve2")

FLOOR = ("fp", "asimd")  # on every aarch64 machine that runs Linux
DOTPROD = (*FLOOR, "asimddp", "asimdhp", "asimdrdm", "atomics", "fphp")
I8MM = (*DOTPROD, "asimdfhm", "bf16", "fcma", "i8mm")


@dataclass(frozen=True)
class Level:
    """Features that code may use, and the oldest CPU of QEMU 7.2 that has all of them."""

    cpu: str  # LLVM's name
    features: tuple[str, ...]
    emulator_cpu: str
    mattr: tuple[str, ...] = ()

    def target(self, name: str, description: str, **fields: Any) -> Target:
        given: dict[str, Any] = {"triple": TRIPLE, "mattr": self.mattr} | fields
        return Target(
            name=name,
            description=description,
            cpu=self.cpu,
            features=self.features,
            vector_bits=128,
            emulator_cpu=self.emulator_cpu,
            **given,
        )


# The only QEMU 7.2 CPU with i8mm is the one with every feature.
EVERYTHING = "max,sve=off"
CORTEX_X2 = Level("cortex-x2", I8MM, EVERYTHING, NO_SVE)
NEOVERSE_V3AE = replace(CORTEX_X2, cpu="neoverse-v3ae")
NEOVERSE_N1 = Level("neoverse-n1", DOTPROD, "cortex-a76")
CORTEX_A72 = Level("cortex-a72", FLOOR, "cortex-a72", ("-crc", "-aes", "-sha2"))
GENERIC = Level("generic", (), "cortex-a53")
LEVELS = (CORTEX_X2, NEOVERSE_N1, CORTEX_A72, GENERIC)  # best first


def aarch64_host(machine: Machine) -> Target:
    """The host target at the highest level that this machine fully supports."""
    level = next(level for level in LEVELS if machine.flags.issuperset(level.features))
    return level.target(
        "host",
        f"this machine: {machine.model}",
        cores=machine.cores,
        memory_limit=machine.memory,
    )


BOARDS = (
    NEOVERSE_N1.target("arm64", "any aarch64 Linux board since 2018: Armv8.2 with dotprod, fp16"),
    CORTEX_A72.target(
        "raspberry-pi-4",
        "Raspberry Pi 4, and any 64-bit ARM Linux board without dotprod",
        memory_limit=4 * GB,
    ),
    NEOVERSE_N1.target("raspberry-pi-5", "Raspberry Pi 5: Cortex-A76", memory_limit=4 * GB),
    NEOVERSE_N1.target(
        "jetson-orin-cpu",
        "the CPU of a Jetson Orin: Cortex-A78AE, no i8mm",
        cores=6,
        memory_limit=8 * GB,
    ),
    NEOVERSE_V3AE.target(
        "jetson-thor-cpu",
        "the CPU of a Jetson Thor: Neoverse V3AE, i8mm",
        cores=14,
        memory_limit=128 * GB,
    ),
)
# Android's loader resolves functions only from the listed dependencies, and pages have 4 or 16 KiB.
# Stub libraries replace its C library when linking (targets/linking/linker.py).
ON_ANDROID: dict[str, Any] = {
    "triple": ANDROID,
    "mattr": NO_SVE,
    "stub_libraries": ("c", "m"),
    "link_flags": ("-Wl,-z,max-page-size=16384",),
}
PHONES = (
    NEOVERSE_N1.target(
        "android-arm64", "any 64-bit Android phone since 2018: dotprod and fp16", **ON_ANDROID
    ),
    CORTEX_X2.target("android-arm64-i8mm", "Android phones since 2022: i8mm", **ON_ANDROID),
)
PRESETS = (*BOARDS, *PHONES)
