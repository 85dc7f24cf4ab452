"""One device, described for the compiler. A new one is a new file and a line in table.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handglass.runtime.devices.kinds import CPU

from .evidence import Evidence, read_evidence
from .gpu import GpuCapabilities

if TYPE_CHECKING:
    from handglass.schedules import Rule


def host_name(kind: str) -> str:
    """What this machine's first device of a kind is called, another one on every machine."""
    return "host" if kind == CPU else f"{kind}-host"


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
    emulator_cpu: str | None = None  # QEMU's oldest that has the floor
    linkers: tuple[str, ...] = ("g++", "gcc", "clang++", "clang", "c++", "cc")  # its own, by name
    link_flags: tuple[str, ...] = ()
    stub_libraries: tuple[str, ...] = ()  # to be named in the library, not found while linking
    load_rules: Callable[[], tuple[Rule, ...]] | None = None  # None: all those for its kind
    same_code_as: str | None = None  # of what is called host: the name for it everywhere
    gpu: GpuCapabilities | None = None  # runs the model, if not the CPU: that then starts kernels
    evidence_of: str | None = None  # another target, whose evidence counts for it; empty: nobody's

    @property
    def kind(self) -> str:
        """Of the devices that the model runs on."""
        return CPU if self.gpu is None else self.gpu.kind

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
        if self.name != host_name(self.kind):
            return self.name
        return self.same_code_as or self.cpu + "".join(self.mattr)

    @property
    def evidence(self) -> Evidence:
        """What was done with such code, as its runs have written it down."""
        return read_evidence(self.records_key if self.evidence_of is None else self.evidence_of)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The schedules for this device, in the order in which they are tried."""
        from handglass.schedules import RULES_BY_KIND

        rules = self.load_rules() if self.load_rules else RULES_BY_KIND[self.kind]
        return tuple(rule.fitted(self.l2) for rule in rules)

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
