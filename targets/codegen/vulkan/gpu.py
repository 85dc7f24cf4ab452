"""Vulkan capabilities beyond those of any GPU, named as the attributes of TVM's kind `vulkan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ...gpu import GpuCapabilities

BASIC, VOTE, ARITHMETIC, BALLOT, SHUFFLE, SHUFFLE_RELATIVE, CLUSTERED, QUAD = (
    1 << bit for bit in range(8)
)
"""VkSubgroupFeatureFlagBits."""
REDUCTIONS = BASIC | ARITHMETIC | SHUFFLE
"""Subgroup operations that reductions across the threads of a subgroup need."""


@dataclass(frozen=True)
class VulkanCapabilities(GpuCapabilities):
    """Capabilities of a Vulkan GPU.

    The defaults are the guarantees of Vulkan 1.1, with 16-bit floats and bytes, which all but the
    oldest phones have. Reductions need subgroups of at least `subgroup_size` threads, cooperative
    matrices of exactly this size; the runtime requests the size from drivers that offer others.
    """

    kind: ClassVar[str] = "vulkan"

    supports_8bit_buffer: bool = True
    supports_16bit_buffer: bool = True
    supported_subgroup_operations: int = 0  # bits from above; 0: reductions use shared memory
    max_push_constants_size: int = 128
    max_storage_buffer_range: int = 128 << 20
    max_uniform_buffer_range: int = 16 << 10

    @property
    def abilities(self) -> dict[str, int]:
        found = super().abilities
        if self.supported_subgroup_operations and self.subgroup_size:
            found["widest_subgroup"] = self.subgroup_size
        if self.cooperative_matrix and self.subgroup_size:
            found["subgroup_sizes"] = self.subgroup_size
        return found

    def only(self, used: Mapping[str, int]) -> VulkanCapabilities:
        operations = used.get("supported_subgroup_operations", 0)
        kept = self.supported_subgroup_operations & operations
        return replace(super().only(used), supported_subgroup_operations=kept)

    @property
    def tvm(self) -> dict[str, Any]:
        """The argument for `tvm.target.Target`, without the host.

        A warp size of one keeps TVM from omitting the last barriers of a reduction, which Vulkan
        requires.
        """
        found = {"kind": self.kind, "thread_warp_size": 1, **self._plain()}
        found["max_num_threads"] = self.max_threads_per_block
        found["supports_cooperative_matrix"] = self.cooperative_matrix is not None
        if words := self._words():
            found["mattr"] = words
        return found

    def _words(self) -> list[str]:
        """Values of `mattr` for capabilities without an attribute in TVM's kind."""
        matrix = self.cooperative_matrix
        shape = ["coopmat-" + "x".join(map(str, matrix))] if matrix else []
        return [*shape, f"subgroup-{self.subgroup_size}"] if self.subgroup_size else shape
