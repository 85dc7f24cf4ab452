"""What a GPU lends to a kernel, read off its TVM target; and whether a target is a GPU at all."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm_ffi import DLDeviceType

GPUS = frozenset(
    {
        DLDeviceType.kDLCUDA,
        DLDeviceType.kDLOpenCL,
        DLDeviceType.kDLVulkan,
        DLDeviceType.kDLMetal,
        DLDeviceType.kDLROCM,
        DLDeviceType.kDLWebGPU,
    }
)


def is_gpu(target: tvm.target.Target) -> bool:
    """Whether kernels of `target` run as workgroups of many threads."""
    return target.get_target_device_type() in GPUS


@dataclass(frozen=True)
class Matrix:
    """What one instruction of a group of threads multiplies: (rows, inputs) times (inputs,
    columns)."""

    rows: int
    columns: int
    inputs: int
    threads: int = 32
    """That hold a matrix together. Fewer on the device repeat each other's work; more are wrong."""


@dataclass(frozen=True)
class GpuLimits:
    """Of a workgroup. Many rows are copied to memory that its threads share and multiplied there,
    padded to whole tiles of `rows` x `columns` x `depth` inputs."""

    # 64 x 64 outputs are 32 for each of 128 threads, which leaves registers for several workgroups
    # on a core; 32 inputs of 64 rows and 64 columns in float32 are 16 KB, all that phones promise,
    # so that floats go by 16.
    rows: int = 64
    columns: int = 64
    depth: int = 32
    memory: int = 1 << 14
    """Bytes that a workgroup has."""
    threads: int = 256
    """At most so many in a workgroup."""
    half: bool = False
    """Whether there is float16, to multiply weights of 16 bits or fewer and rows beside them."""
    subgroup: int = 1
    """At least so many threads may exchange numbers without memory."""
    matrix: Matrix | None = None
    """Of float16, summed up in float32, where there is such an instruction."""
    largest_buffer: int = 1 << 27
    """Bytes of one tensor that a kernel can see."""


def gpu_limits(target: tvm.target.Target) -> GpuLimits:
    """What the target says about itself; for the rest, what every GPU has."""
    able, least = target.attrs, GpuLimits()
    return GpuLimits(
        memory=int(able.get("max_shared_memory_per_block", least.memory)),
        threads=int(able.get("max_threads_per_block", least.threads)),
        half=bool(able.get("supports_float16", False))
        and bool(able.get("supports_16bit_buffer", False)),
        subgroup=_subgroup(target),
        matrix=_matrix(target),
        largest_buffer=int(able.get("max_storage_buffer_range", least.largest_buffer)),
    )


SHUFFLE = 16
"""VkSubgroupFeatureFlagBits: lanes of a subgroup read from each other."""


def _words(target: tvm.target.Target) -> dict[str, str]:
    """{"subgroup": "32"} of "subgroup-32" among the target's `mattr`."""
    return dict(str(word).rsplit("-", 1) for word in target.attrs.get("mattr", ()))


def _subgroup(target: tvm.target.Target) -> int:
    """Threads of a subgroup, where the target names them and lets them exchange numbers."""
    able = int(target.attrs.get("supported_subgroup_operations", 0)) & SHUFFLE
    return int(_words(target).get("subgroup", 1)) if able else 1


def _matrix(target: tvm.target.Target) -> Matrix | None:
    """Of "coopmat-16x16x8" among the target's `mattr`: rows, columns, inputs of float16, and of
    "subgroup-32", the threads of a subgroup."""
    words = _words(target)
    if not target.attrs.get("supports_cooperative_matrix", False) or "coopmat" not in words:
        return None
    rows, columns, inputs = map(int, words["coopmat"].split("x"))
    return Matrix(rows, columns, inputs, int(words.get("subgroup", Matrix.threads)))
