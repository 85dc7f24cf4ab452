"""What a target claims, by the attributes of TVM's kind `vulkan`, and what a kernel needs of it.

A capability that the target does not claim is an error that names the kernel and the attribute: a
module never asks a device for more than was promised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from handglass.errors import InputError

from ..used import note_use
from .opcodes import Capability as C
from .types import Type
from .words import Words

SHARED_MEMORY = 16384  # bytes that every Vulkan device has (maxComputeSharedMemorySize)
PUSH_CONSTANTS = 128  # bytes that every Vulkan device has (maxPushConstantsSize)

SUBGROUP_ARITHMETIC = 4  # VkSubgroupFeatureFlagBits
SUBGROUP_SHUFFLE = 16


@dataclass(frozen=True)
class Need:
    """A capability, the attribute that claims it, and the extensions that it comes with."""

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
    """Threads of a subgroup by "subgroup-32" in `mattr`: kernels may count on so many at least, and
    say when they do (subgroups.py). 0 where the target does not say."""
    words = dict(str(word).rpartition("-")[::2] for word in attributes.get("mattr", ()))
    return int(words.get("subgroup", 0))


@dataclass
class Claims:
    """The attributes of one target, for one kernel; what was needed is put into its words."""

    kernel: str
    attributes: Mapping[str, Any]
    words: Words
    passing: dict[Type, None] = field(default_factory=dict)

    def has(self, feature: str) -> bool:
        need = NEEDS[feature]
        return bool(int(self.attributes.get(need.attribute, 0)) & need.mask)

    def need(self, feature: str, why: str) -> None:
        """Declare what `feature` needs, or say in words that it was not claimed."""
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
        """Threads of a subgroup by "subgroup-32" among the target's `mattr`; 0: it does not say."""
        return subgroup_size(self.attributes)

    def compute(self, type: Type) -> None:
        """The device must compute with values of `type`."""
        if type.is_packed or type.kind == "bool" or (type.bits == 32 and type.kind != "bfloat"):
            return
        feature = str(Type(type.kind.removeprefix("u"), type.bits))
        if feature not in NEEDS:
            self.fail(f"values of type {type} have no form in SPIR-V")
        self.need(feature, f"arithmetic on {type}")

    def store(self, type: Type, what: str) -> None:
        """A buffer must hold scalars of `type`."""
        if type.bits in (8, 16):
            self.need(f"{type.bits}-bit buffers", f"{what} of {type}")
        else:
            self.compute(type)

    def pass_through(self, type: Type) -> None:
        """Values of `type` come by: made by a conversion, to be stored or converted again."""
        if type.bits in (8, 16) and not type.is_packed:
            self.passing[type.scalar] = None
        else:
            self.compute(type)

    def finish(self) -> None:
        """What narrow values need: nothing more where a buffer holds such, else arithmetic."""
        for type in self.passing:
            storage = NEEDS[f"{type.bits}-bit buffers"].capabilities[0]
            if storage not in self.words.capabilities:
                self.compute(type)

    def fail(self, message: str) -> NoReturn:
        raise InputError(f"vulkan: kernel {self.kernel}: {message}")
