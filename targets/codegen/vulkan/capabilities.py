"""Capabilities that a target claims by attributes of TVM's kind `vulkan`, and that a kernel needs.

Using a capability that the target does not claim is an error with the kernel and the attribute, so
a module never requires more of a device than its target claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tvm.target import Target

from handglass.errors import InputError

from ..reductions import Way
from ..used import note_use
from .opcodes import Capability as C
from .types import Type
from .words import Words

SHARED_MEMORY = 16384  # bytes that every Vulkan device has (maxComputeSharedMemorySize)
PUSH_CONSTANTS = 128  # bytes that every Vulkan device has (maxPushConstantsSize)

SUBGROUP_ARITHMETIC = 4  # VkSubgroupFeatureFlagBits
SUBGROUP_SHUFFLE = 16
# The size of a workgroup must be a multiple of this, which fills the widest subgroups (Adreno):
# Mesa 22.3's software driver omits a partial last subgroup (for 12 threads it returns the sum of 8,
# as if NumSubgroups were rounded down). Mesa 26's does not, with the same SPIR-V.
WHOLE_SUBGROUPS = 128


@dataclass(frozen=True)
class Need:
    """SPIR-V capabilities, the attribute that claims them, and the extension they need."""

    attribute: str
    capabilities: tuple[int, ...]
    extension: str = ""
    mask: int = 1  # of the attribute's bits, for supported_subgroup_operations


NEEDS = {
    "float16": Need("supports_float16", (C.Float16,)),
    "float64": Need("supports_float64", (C.Float64,)),
    "int8": Need("supports_int8", (C.Int8,)),
    "int16": Need("supports_int16", (C.Int16,)),
    "int64": Need("supports_int64", (C.Int64,)),
    "8-bit buffers": Need(
        "supports_8bit_buffer", (C.StorageBuffer8BitAccess,), "SPV_KHR_8bit_storage"
    ),
    "16-bit buffers": Need("supports_16bit_buffer", (C.StorageBuffer16BitAccess,)),
    "integer dot product": Need(
        "supports_integer_dot_product",
        (C.DotProduct, C.DotProductInput4x8BitPacked),
        "SPV_KHR_integer_dot_product",
    ),
    "cooperative matrix": Need(
        "supports_cooperative_matrix",
        (C.CooperativeMatrixKHR, C.VulkanMemoryModel),
        "SPV_KHR_cooperative_matrix",
    ),
    "subgroups": Need("supported_subgroup_operations", (C.GroupNonUniform,)),
    "subgroup arithmetic": Need(
        "supported_subgroup_operations",
        (C.GroupNonUniform, C.GroupNonUniformArithmetic),
        mask=SUBGROUP_ARITHMETIC,
    ),
    "subgroup shuffle": Need(
        "supported_subgroup_operations",
        (C.GroupNonUniform, C.GroupNonUniformShuffle),
        mask=SUBGROUP_SHUFFLE,
    ),
}


def subgroup_size(attributes: Mapping[str, Any]) -> int:
    """Threads of a subgroup, from "subgroup-32" in `mattr`; 0 if the target does not state it.

    Kernels may rely on at least this many; they declare it if they do (subgroups.py).
    """
    words = dict(str(word).rpartition("-")[::2] for word in attributes.get("mattr", ()))
    return int(words.get("subgroup", 0))


def way_of(target: Target) -> Way:
    """How code for the target may reduce across threads."""
    operations = int(target.attrs.get("supported_subgroup_operations", 0))
    lanes = subgroup_size(target.attrs) if operations & SUBGROUP_SHUFFLE else 0
    return Way(lanes, WHOLE_SUBGROUPS if operations & SUBGROUP_ARITHMETIC else 0)


@dataclass
class Claims:
    """The attributes of a target, for one kernel. Needed capabilities are added to its module."""

    kernel: str
    attributes: Mapping[str, Any]
    words: Words
    passing: dict[Type, None] = field(default_factory=dict)

    def has(self, feature: str) -> bool:
        need = NEEDS[feature]
        return bool(int(self.attributes.get(need.attribute, 0)) & need.mask)

    def need(self, feature: str, why: str) -> None:
        """Declare the capabilities of `feature`. Raises InputError if the target lacks them."""
        need = NEEDS[feature]
        if not self.has(feature):
            self.fail(
                f"{why} needs {feature}, which the target does not claim "
                f"({need.attribute} is {self.attributes.get(need.attribute, 'not set')})"
            )
        note_use(need.attribute, need.mask)
        for capability in need.capabilities:
            self.words.capabilities[capability] = None
        if need.extension:
            self.words.extensions[need.extension] = None

    def limit(self, attribute: str, default: int) -> int:
        return int(self.attributes.get(attribute, default))

    @property
    def subgroup_size(self) -> int:
        """Threads of a subgroup; 0 if the target does not state it."""
        return subgroup_size(self.attributes)

    def compute(self, type: Type) -> None:
        """Require arithmetic on values of `type`."""
        if type.is_packed or type.kind == "bool" or (type.bits == 32 and type.kind != "bfloat"):
            return
        feature = str(Type(type.kind.removeprefix("u"), type.bits))
        if feature not in NEEDS:
            self.fail(f"type {type} has no equivalent in SPIR-V")
        self.need(feature, f"arithmetic on {type}")

    def store(self, type: Type, what: str) -> None:
        """Require buffers with scalars of `type`."""
        if type.bits in (8, 16):
            self.need(f"{type.bits}-bit buffers", f"{what} of {type}")
        else:
            self.compute(type)

    def pass_through(self, type: Type) -> None:
        """Note values of `type` that a conversion produces, to be stored or converted again."""
        if type.bits in (8, 16) and not type.is_packed:
            self.passing[type.scalar] = None
        else:
            self.compute(type)

    def finish(self) -> None:
        """Declare what passing narrow values need: buffer storage suffices, else arithmetic."""
        for type in self.passing:
            storage = NEEDS[f"{type.bits}-bit buffers"].capabilities[0]
            if storage not in self.words.capabilities:
                self.compute(type)

    def fail(self, message: str) -> NoReturn:
        raise InputError(f"vulkan: kernel {self.kernel}: {message}")
