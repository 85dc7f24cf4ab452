"""The limits of a GPU as its TVM target states them, and whether a target is a GPU."""

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
    """Shapes of a subgroup's matrix instruction: (rows, inputs) times (inputs, columns)."""

    rows: int
    columns: int
    inputs: int
    threads: int = 32
    """Threads that hold a matrix together.

    A device with smaller subgroups repeats work; with larger ones the result is wrong.
    """


@dataclass(frozen=True)
class GpuLimits:
    """Limits of a workgroup, and the tile that it computes.

    A kernel for many rows copies both operands to shared memory and multiplies them there, padded
    to whole tiles of `rows` x `columns` outputs x `depth` inputs.
    """

    # 64 x 64 outputs are 32 for each of 128 threads, which leaves registers for several workgroups
    # on a core. 32 inputs of 64 rows and 64 columns in float32 are 16 KB, all that phones
    # guarantee, so a float kernel takes 16 inputs at a time.
    rows: int = 64
    columns: int = 64
    depth: int = 32
    memory: int = 1 << 14
    """Shared memory of a workgroup, in bytes."""
    optin: int = 1 << 14
    """Shared memory of a workgroup that asks for it when it is launched."""
    threads: int = 256
    """Largest number of threads in a workgroup."""
    half: bool = False
    """Whether float16 is supported, in arithmetic and in buffers."""
    subgroup: int = 1
    """Smallest number of threads that exchange values without memory."""
    matrix: Matrix | None = None
    """Matrix instruction on float16 that accumulates in float32; None if there is none."""
    tensor: bool = False
    """Whether warps multiply matrices in registers of a known layout, float16 and int8."""
    products: bool = False
    """Whether warps multiply float16 matrices in registers, at least 8 inputs at a time."""
    largest_buffer: int = 1 << 27
    """Largest tensor that a kernel can bind, in bytes."""


def gpu_limits(target: tvm.target.Target) -> GpuLimits:
    """The limits that the target states; for the others, what every GPU guarantees."""
    able, least = target.attrs, GpuLimits()
    memory = int(able.get("max_shared_memory_per_block", least.memory))
    largest = TERABYTE if _is_complete(target) else least.largest_buffer
    return GpuLimits(
        memory=memory,
        optin=int(_words(target).get("optin", memory)),
        threads=int(able.get("max_threads_per_block", least.threads)),
        half=supports(target, "float16") and supports(target, "16bit_buffer"),
        subgroup=_subgroup(target),
        matrix=_matrix(target),
        tensor="tensor" in _words(target),
        products="products" in _words(target),
        largest_buffer=int(able.get("max_storage_buffer_range", largest)),
    )


COMPLETE = frozenset({DLDeviceType.kDLCUDA})
"""Kinds whose devices all have what others state in attributes, which TVM's kind then lacks."""
TERABYTE = 1 << 40
SHUFFLE = 16
"""VK_SUBGROUP_FEATURE_SHUFFLE_BIT: lanes of a subgroup read each other's values."""


def supports(target: tvm.target.Target, what: str) -> bool:
    """Whether the target's code may use "float16", "int8", "16bit_buffer" and so on."""
    return bool(target.attrs.get(f"supports_{what}", _is_complete(target)))


def _is_complete(target: tvm.target.Target) -> bool:
    return target.get_target_device_type() in COMPLETE


def _words(target: tvm.target.Target) -> dict[str, str]:
    """The words of a target that state a number: "subgroup-32" becomes {"subgroup": "32"}.

    They are in `mattr`, or in `keys` where TVM's kind has no such attribute.
    """
    words = map(str, (*target.attrs.get("mattr", ()), *target.keys))
    return dict(word.rsplit("-", 1) for word in words if "-" in word)


def _subgroup(target: tvm.target.Target) -> int:
    """Threads of a subgroup; 1 if the target does not state them or lacks shuffles."""
    operations = int(target.attrs.get("supported_subgroup_operations", 0))
    able = operations & SHUFFLE or _is_complete(target)
    return int(_words(target).get("subgroup", 1)) if able else 1


def _matrix(target: tvm.target.Target) -> Matrix | None:
    """The matrix instruction that the target's `mattr` states.

    "coopmat-16x16x8" gives rows, columns and float16 inputs, "subgroup-32" the threads.
    """
    words = _words(target)
    if not target.attrs.get("supports_cooperative_matrix", False) or "coopmat" not in words:
        return None
    rows, columns, inputs = map(int, words["coopmat"].split("x"))
    return Matrix(rows, columns, inputs, int(words.get("subgroup", Matrix.threads)))
