"""Description of a target device for the compiler. A new one adds a file and a line in table.py."""

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
    """Target name for this machine's first device of a kind; its meaning differs by machine."""
    return "host" if kind == CPU else f"{kind}-host"


@dataclass(frozen=True)
class Target:
    """A target device. `features` are named as in /proc/cpuinfo, `mattr` as in LLVM."""

    name: str
    description: str
    triple: str
    cpu: str
    features: tuple[str, ...]  # instruction floor: a machine must have all of them to run the code
    vector_bits: int
    mattr: tuple[str, ...] = ()
    cores: int = 4
    l2: int = 1 << 20  # bytes of L2 cache per core, or a conservative default
    native_dtype: str = "float32"  # dtype of arithmetic
    memory_limit: int | None = None  # bytes; None: differs among the devices of the target
    emulator_cpu: str | None = None  # QEMU's oldest CPU that has the floor
    linkers: tuple[str, ...] = ("g++", "gcc", "clang++", "clang", "c++", "cc")  # native ones
    link_flags: tuple[str, ...] = ()
    stub_libraries: tuple[str, ...] = ()  # listed as dependencies, replaced by stubs for linking
    load_rules: Callable[[], tuple[Rule, ...]] | None = None  # None: all rules of its kind
    same_code_as: str | None = None  # for a host target: its machine-independent name
    gpu: GpuCapabilities | None = None  # the GPU that runs the model; None: the CPU runs it
    evidence_of: str | None = None  # target whose evidence applies to this one; "": none

    @property
    def kind(self) -> str:
        """Kind of device that the model runs on."""
        return CPU if self.gpu is None else self.gpu.kind

    @property
    def architecture(self) -> str:
        return self.triple.split("-")[0]

    @property
    def gnu_triple(self) -> str:
        """Prefix of the GNU cross compiler for this architecture."""
        return f"{self.architecture}-linux-gnu"

    @property
    def records_key(self) -> str:
        """Name of the file with the tuning records for the target's code."""
        if self.name != host_name(self.kind):
            return self.name
        return self.same_code_as or self.cpu + "".join(self.mattr)

    @property
    def evidence(self) -> Evidence:
        """The recorded runs of the target's code."""
        return read_evidence(self.records_key if self.evidence_of is None else self.evidence_of)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The scheduling rules for this device, in the order they are tried."""
        from handglass.schedules import RULES_BY_KIND

        rules = self.load_rules() if self.load_rules else RULES_BY_KIND[self.kind]
        return tuple(rule.fitted(self.l2) for rule in rules)

    @property
    def tvm(self) -> dict[str, Any]:
        """The argument for `tvm.target.Target`."""
        return self.host_tvm if self.gpu is None else {**self.gpu.tvm, "host": self.host_tvm}

    @property
    def host_tvm(self) -> dict[str, Any]:
        """The argument for the CPU. It always names the cpu: LLVM's default is SSE2."""
        return {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.cpu,
            "mattr": list(self.mattr),
            "vector-width": self.vector_bits,
            "num-cores": self.cores,
        }

    def missing_on(self, flags: frozenset[str]) -> tuple[str, ...]:
        """The required instruction sets that a machine with these flags lacks."""
        return tuple(feature for feature in self.features if feature not in flags)
