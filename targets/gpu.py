"""What code for a Vulkan device may use, and how much of it: the part of a target that is a GPU.

Fields are spelled as the attributes of TVM's target kind "vulkan" are; what a device really has is
compared with them before a bundle is loaded (runtime/vulkan).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

BASIC, VOTE, ARITHMETIC, BALLOT, SHUFFLE, SHUFFLE_RELATIVE, CLUSTERED, QUAD = (
    1 << bit for bit in range(8)
)
"""VkSubgroupFeatureFlagBits."""
REDUCTIONS = BASIC | ARITHMETIC | SHUFFLE
"""What sums across the threads of a subgroup take."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Gpu:
    """The defaults are what Vulkan 1.1 promises everywhere, and 16-bit floats and bytes, which all
    but the oldest phones have."""

    supports_float16: bool = True
    supports_int8: bool = True
    supports_int16: bool = True
    supports_int64: bool = False
    supports_8bit_buffer: bool = True
    supports_16bit_buffer: bool = True
    supports_integer_dot_product: bool = False
    supported_subgroup_operations: int = 0  # a sum of the constants above; 0: through shared memory
    cooperative_matrix: Shape | None = None  # (M, N, K) of float16 x float16 -> float32
    subgroup_size: int | None = None
    """Threads that share sums by subgroup operations, at least so many, and matrices, exactly. The
    runtime asks for this size where a driver has others; None: it is not known."""
    max_threads_per_block: int = 256
    max_shared_memory_per_block: int = 16 << 10
    max_push_constants_size: int = 128
    max_storage_buffer_range: int = 128 << 20
    max_uniform_buffer_range: int = 16 << 10

    @property
    def abilities(self) -> dict[str, int]:
        """What the code relies on, for the manifest: a device may have more, and not less."""
        found = {key: int(value) for key, value in asdict(self).items() if key not in _MATRICES}
        found["supports_cooperative_matrix"] = int(self.cooperative_matrix is not None)
        if self.supported_subgroup_operations and self.subgroup_size:
            found["widest_subgroup"] = self.subgroup_size
        if self.cooperative_matrix and self.subgroup_size:
            found["subgroup_sizes"] = self.subgroup_size
        return found

    def only(self, used: Mapping[str, int]) -> Gpu:
        """The same without features that are not `used` (codegen/vulkan/used.py); limits stay."""
        return replace(
            self,
            **{
                key: bool(value and used.get(key))
                for key, value in asdict(self).items()
                if key.startswith("supports_")
            },
            supported_subgroup_operations=self.supported_subgroup_operations
            & used.get("supported_subgroup_operations", 0),
            cooperative_matrix=self.cooperative_matrix
            if used.get("supports_cooperative_matrix")
            else None,
        )

    @property
    def tvm(self) -> dict[str, Any]:
        """What `tvm.target.Target` takes, but the host. A warp of one keeps TVM from ending its
        reductions without barriers, which no Vulkan driver promises to survive."""
        values = {key: value for key, value in asdict(self).items() if key not in _MATRICES}
        found = {"kind": "vulkan", "thread_warp_size": 1, **values}
        found["max_num_threads"] = self.max_threads_per_block
        found["supports_cooperative_matrix"] = self.cooperative_matrix is not None
        if words := self._words():
            found["mattr"] = words
        return found

    def _words(self) -> list[str]:
        """What TVM's kind has no attribute for."""
        matrix = self.cooperative_matrix
        shape = ["coopmat-" + "x".join(map(str, matrix))] if matrix else []
        return [*shape, f"subgroup-{self.subgroup_size}"] if self.subgroup_size else shape


_MATRICES = ("cooperative_matrix", "subgroup_size")
