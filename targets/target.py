"""One device, described for the compiler. A new one is a new file and a line in table.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .evidence import Evidence
from .gpu import Gpu

if TYPE_CHECKING:
    from handglass.schedules import Rule


DETECTED = ("host", "vulkan-host")
"""Names that mean another device on every machine."""


def cpu_rules() -> tuple[Rule, ...]:
    from handglass.schedules import CPU_RULES

    return tuple(CPU_RULES)


@dataclass(frozen=True)
class Target:
    """Names of features are those of /proc/cpuinfo; `mattr` holds what LLVM calls them."""

    name: str
    description: str
    triple: str
    cpu: str
    features: tuple[str, ...]  # instruction floor: a machine that lacks one cannot run the code
    vector_bits: int
    mattr: tuple[str, ...] = ()
    cores: int = 4
    l2: int = 1 << 20  # bytes of L2 cache per core, or a safe guess
    native_dtype: str = "float32"  # what arithmetic is done in
    memory_limit: int | None = None  # bytes; None: a class of devices
    evidence: Evidence = Evidence()  # noqa: RUF009 - frozen
    emulator_cpu: str | None = None  # QEMU's oldest that has the floor
    linkers: tuple[str, ...] = ("g++", "gcc", "clang++", "clang", "c++", "cc")  # its own, by name
    link_flags: tuple[str, ...] = ()
    stub_libraries: tuple[str, ...] = ()  # to be named in the library, not found while linking
    load_rules: Callable[[], tuple[Rule, ...]] = cpu_rules
    same_code_as: str | None = None  # of DETECTED: the name for it everywhere
    gpu: Gpu | None = None  # what runs the model, if not the CPU: that then only starts kernels

    @property
    def architecture(self) -> str:
        return self.triple.split("-")[0]

    @property
    def gnu_triple(self) -> str:
        """What a cross compiler of GNU's that makes such code is called after."""
        return f"{self.architecture}-linux-gnu"

    @property
    def records_key(self) -> str:
        """The name of the file that tuning records for such code are kept in."""
        if self.name not in DETECTED:
            return self.name
        return self.same_code_as or self.cpu + "".join(self.mattr)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The schedules for this device, in the order in which they are tried."""
        return tuple(rule.fitted(self.l2) for rule in self.load_rules())

    @property
    def tvm(self) -> dict[str, Any]:
        """What `tvm.target.Target` takes."""
        return self.host_tvm if self.gpu is None else {**self.gpu.tvm, "host": self.host_tvm}

    @property
    def host_tvm(self) -> dict[str, Any]:
        """The same for the CPU. It is always named: without it LLVM means SSE2."""
        return {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.cpu,
            "mattr": list(self.mattr),
            "vector-width": self.vector_bits,
            "num-cores": self.cores,
        }

    def missing_on(self, flags: frozenset[str]) -> tuple[str, ...]:
        """The instruction sets of the floor that a machine with these flags lacks."""
        return tuple(feature for feature in self.features if feature not in flags)
