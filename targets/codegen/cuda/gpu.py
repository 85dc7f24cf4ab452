"""Limits of CUDA GPUs, and the architectures that a target's code is compiled for.

The numbers are those of "Technical Specifications per Compute Capability" in NVIDIA's CUDA C++
Programming Guide. https://docs.nvidia.com/cuda/cuda-c-programming-guide/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ...gpu import GpuCapabilities
from .packages import MAJORS

KIB = 1 << 10
OPT_IN = {
    75: 64 * KIB,
    80: 163 * KIB,
    86: 99 * KIB,
    87: 163 * KIB,
    89: 99 * KIB,
    90: 227 * KIB,
    100: 227 * KIB,
    103: 227 * KIB,
    110: 227 * KIB,
    120: 99 * KIB,
    121: 99 * KIB,
}
"""Compute capability -> most shared memory of a block that asks for it when it is launched."""
STATIC = 48 * KIB
"""Shared memory of a block that does not ask."""

DYNAMIC = "dynamic_shared_memory"
"""What the code generator notes of kernels that ask for shared memory (codegen/used.py)."""
GENERAL = ("cuda", "gpu")
"""TVM's own keys for the kind."""
TENSOR_CORES, LEAST_TENSOR_CORES = "tensor-16x8x16", 80
"""The word of targets with mma.m16n8k16 and cp.async, and the first chips that have both."""
PRODUCTS, LEAST_PRODUCTS = "products-16x8x8", 75
"""The word of targets with mma.m16n8k8, and the first chips that have it."""


@dataclass(frozen=True)
class CudaCapabilities(GpuCapabilities):
    """What a CUDA GPU has. Every supported one has all types, shuffles and dp4a."""

    kind: ClassVar[str] = "cuda"

    capabilities: tuple[int, ...] = (75,)
    """Compute capabilities that get machine code; 87 is 8.7. Later chips get the first as PTX."""
    majors: tuple[int, ...] = MAJORS
    """CUDA majors that may compile it, the preferred one first."""
    supports_int64: bool = True
    supports_integer_dot_product: bool = True
    subgroup_size: int | None = 32
    max_threads_per_block: int = 1024
    max_shared_memory_per_block: int = STATIC
    registers_per_block: int = 64 * KIB
    unified_memory: bool = False
    """Whether host and device share their memory, as on a Jetson."""
    dynamic_shared_memory: bool = True
    """Whether kernels may ask for more shared memory than STATIC when they are launched."""

    @property
    def max_shared_memory_per_block_optin(self) -> int:
        return min(OPT_IN.get(n, STATIC) for n in self.capabilities)

    @property
    def abilities(self) -> dict[str, int]:
        """The minimum for the manifest. What every device has is not named; the architecture is
        compared by the images (TargetEntry.images)."""
        found = {
            "max_threads_per_block": self.max_threads_per_block,
            "max_shared_memory_per_block": self.max_shared_memory_per_block,
        }
        if self.dynamic_shared_memory:  # a later chip that runs the PTX may have less
            found["max_shared_memory_per_block_optin"] = self.max_shared_memory_per_block_optin
        return found

    def only(self, used: Mapping[str, int]) -> CudaCapabilities:
        return replace(self, dynamic_shared_memory=bool(used.get(DYNAMIC)))

    @property
    def images(self) -> tuple[str, ...]:
        from .architectures import compiler_for, images_of

        return images_of(self.capabilities, compiler_for(self.capabilities, self.majors))

    @property
    def tvm(self) -> dict[str, Any]:
        """The argument for `tvm.target.Target`, without the host.

        TVM's kind has no attribute for some of this, so `keys` has words that state it. With a warp
        size of one, TVM's reductions keep their barriers: its own shuffles name only the lanes
        that happen to be active. Ours are in targets/codegen/reductions.py.
        """
        return {
            "kind": self.kind,
            "arch": f"sm_{min(self.capabilities)}",
            "keys": [*GENERAL, *self._words()],
            "thread_warp_size": 1,
            "max_num_threads": self.max_threads_per_block,
            "max_threads_per_block": self.max_threads_per_block,
            "max_shared_memory_per_block": self.max_shared_memory_per_block,
            "registers_per_block": self.registers_per_block,
        }

    def _words(self) -> list[str]:
        words = ((TENSOR_CORES, LEAST_TENSOR_CORES), (PRODUCTS, LEAST_PRODUCTS))
        return [
            *(word for word, least in words if min(self.capabilities) >= least),
            f"subgroup-{self.subgroup_size}",
            f"optin-{self.max_shared_memory_per_block_optin}",
            *(f"sm_{n}" for n in sorted(self.capabilities)),
            *(f"cuda-{major}" for major in self.majors),
        ]
