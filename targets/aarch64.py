"""aarch64: LLVM's generic core and, one by one, the extensions that the kernel reports."""

from .machine import Machine
from .target import Target

TRIPLE = "aarch64-linux-gnu"
FLOOR = ("fp", "asimd")  # in every aarch64 that runs Linux

# LLVM's attribute -> the flags of /proc/cpuinfo that must all be there
EXTENSIONS = {
    "+lse": ("atomics",),
    "+dotprod": ("asimddp",),
    "+fullfp16": ("fphp", "asimdhp"),
    "+fp16fml": ("fphp", "asimdhp", "asimdfhm"),
    "+i8mm": ("i8mm",),
    "+bf16": ("bf16",),
}


def aarch64_host(machine: Machine) -> Target:
    """What this machine has. SVE is left off: its vectors have no width that we could plan with."""
    mattr = tuple(attr for attr, flags in EXTENSIONS.items() if machine.flags.issuperset(flags))
    needed = {flag for attr in mattr for flag in EXTENSIONS[attr]}
    return Target(
        name="host",
        description=f"this machine: {machine.model}",
        triple=TRIPLE,
        cpu="generic",
        features=(*FLOOR, *sorted(needed)),
        vector_bits=128,
        mattr=mattr,
        cores=machine.cores,
        memory_limit=machine.memory,
    )
