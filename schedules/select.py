"""Selects the kernel that multiplies rows by a matrix.

The kernel depends on the target's units, the storage type of the weights, and whether there is one
row or many. TABLE alone decides.

A model selects once per matmul (compiler/models/layers.py) and calls the operator with the kernel's
name (compiler/ops/kernels.py). A quantization scheme selects the layout to pack weights in, which
serves one row and many. The rules of schedules/ still recognise an operator by its patterns;
tests/kernels/test_select.py checks that the rule that takes a kernel is the one named here, and
that both kernels read the layout. `handglass targets --kernels TARGET` prints the table for a
target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import tvm

from .gpu.limits import GpuLimits, gpu_limits, is_gpu
from .isa.amx_instructions import BFLOAT16, INT8
from .isa.bf16_dot import find_bf16_dot
from .isa.integer_isa import (
    AMX,
    AVX2,
    AVX512,
    AVX512_VNNI,
    AVX_VNNI,
    DP4A,
    GROUP,
    I8MM,
    INTERCHANGEABLE,
    PLAIN,
    SDOT,
    IntegerIsa,
    find_integer_isa,
)
from .isa.register_tiles import YMM, ZMM_FLOATS, Tile
from .isa.score_products import OF_ISA

# --- the units of a target ---


@dataclass(frozen=True)
class Units:
    """The hardware units with which a target multiplies matrices."""

    integers: IntegerIsa
    floats: Tile = YMM
    """Register tile of a float32 matmul on a CPU."""
    kinds: tuple[str, ...] = ("cpu",)
    """The parts of TABLE that apply to it; the first with an entry wins."""
    gpu: GpuLimits | None = None
    """Limits of a workgroup; None on a CPU."""
    largest: int | None = None
    """Largest tensor that a kernel can bind, in bytes; None if unlimited."""
    integer_scores: bool = True
    """Whether attention may have the scores of INTEGER_SCORES."""

    @property
    def on_x86(self) -> bool:
        """Whether the instructions for integers are those of x86-64."""
        return self.integers in INTERCHANGEABLE


ANY_CPU = Units(PLAIN)
CPU_UNITS = (
    Units(AMX, ZMM_FLOATS, ("amx", "cpu")),
    Units(AVX512_VNNI, ZMM_FLOATS),
    Units(AVX512, ZMM_FLOATS),
    Units(AVX_VNNI),
    Units(AVX2),
    Units(I8MM, kinds=("i8mm", "cpu")),
    Units(SDOT, kinds=("sdot", "cpu")),
    ANY_CPU,
)


def find_units(target: tvm.target.Target) -> Units:
    """The units with which `target` multiplies matrices."""
    if is_gpu(target):
        return _gpu_units(gpu_limits(target))
    units = cpu_units(find_integer_isa(target))
    has_dot = "amx" not in units.kinds and find_bf16_dot(target) is not None
    return replace(units, kinds=(BF16_DOT, *units.kinds)) if has_dot else units


def cpu_units(isa: IntegerIsa) -> Units:
    """The units of CPUs that multiply integers with `isa`."""
    return next(units for units in CPU_UNITS if units.integers is isa)


def _gpu_units(limits: GpuLimits) -> Units:
    matrices = ("gpu matrices",) if limits.half and limits.matrix else ()
    half = ("gpu float16",) if limits.half else ()
    tensor = ("gpu tensor",) if limits.tensor else ()
    products = ("gpu products",) if limits.half and limits.products else ()
    kinds = (*tensor, *products, *matrices, *half, "gpu")
    return Units(DP4A, kinds=kinds, gpu=limits, largest=limits.largest_buffer)


# --- the layouts of packed weights ---


@dataclass(frozen=True)
class Layout:
    """The memory layout of the packed weights of a panel, 16 outputs."""

    name: str
    inputs: int = 1
    """A panel is padded to a multiple of this number of inputs."""
    words: bool = False
    """Whether four bytes form one uint32, the first in its lowest bits.

    For GPUs, which load words and may not support bytes.
    """

    def padded(self, inputs: int) -> int:
        """`inputs` rounded up to the padded size of a panel; the padding is zero."""
        return -(-inputs // self.inputs) * self.inputs


PANELS = Layout("panels (inputs, 16)")
INT4_PANELS = Layout("panels of two int4 per byte", GROUP)
INT4_PANEL_WORDS = Layout("panels of four outputs' bytes per word", GROUP, words=True)
PAIRS = Layout("pairs of bfloat16 for tile registers", BFLOAT16.inputs)
CHUNKS = Layout("chunks (4, 16, step) for the instruction", GROUP)
TILE_CHUNKS = Layout("chunks, four per tile register", INT8.inputs)
CHUNK_WORDS = Layout("chunks of four codes per word", GROUP, words=True)

# --- the kernels ---

INTEGERS = "integers"


@dataclass(frozen=True)
class Kernel:
    """A matmul kernel; `name` identifies its operator."""

    name: str
    activations: str
    """Type in which rows are multiplied: "float32", "bfloat16", "float16" or INTEGERS.

    The kernel itself rounds to "bfloat16" or, without `half_rows`, "float16"; the preceding kernel
    quantises to INTEGERS.
    """
    rule: str
    """Name of the rule that schedules it."""
    reads: tuple[Layout, ...]
    half_rows: bool = False
    """Whether the preceding kernel already rounds the rows to float16."""
    reordered: bool = False
    """Whether it stores their inputs in the order of gpu/nibble_order.py."""
    step: int = 1
    """The preceding kernel pads the rows with zeros to a multiple of this number of inputs."""


FLOAT32 = Kernel("float32", "float32", "cpu-matmul", (PANELS, INT4_PANELS, PAIRS))
DOT = Kernel("integer dot", INTEGERS, "cpu-dot", (CHUNKS, TILE_CHUNKS))
DOT_TILES = Kernel("integer dot, rows by tiles", INTEGERS, "cpu-dot", (CHUNKS,))
DOT_HALVES = Kernel("integer dot, sums in halves", INTEGERS, "cpu-pairs", (CHUNKS,))
SMMLA = Kernel("smmla", INTEGERS, "cpu-pairs", (CHUNKS,))
AMX_BFLOAT16 = Kernel("amx bfloat16", "bfloat16", "cpu-tiles", (PAIRS,))
AMX_INT4 = Kernel("amx bfloat16 from int4", "bfloat16", "cpu-tiles", (CHUNKS,))
AMX_INT8 = Kernel("amx int8", INTEGERS, "cpu-tiles", (TILE_CHUNKS,))

GPU_PANELS = (PANELS, INT4_PANEL_WORDS)
GPU_FLOAT32 = Kernel("gpu float32", "float32", "vulkan-matmul", GPU_PANELS)
GPU_FLOAT16 = Kernel("gpu float16", "float16", "vulkan-matmul", GPU_PANELS)
MATRICES = Kernel("cooperative matrix", "float16", "vulkan-matrix", (*GPU_PANELS, CHUNK_WORDS))
TENSOR_FLOAT16 = Kernel("tensor float16", "float16", "gpu-tensor", (PANELS,), True, step=64)
TENSOR_INT4 = Kernel("tensor int4", "float16", "gpu-tensor", (CHUNK_WORDS,), True, True, 64)
TENSOR_INT8 = Kernel("tensor int8", INTEGERS, "gpu-tensor", (CHUNK_WORDS,), step=128)
DP4A_WORDS = Kernel("dp4a", INTEGERS, "vulkan-dot", (CHUNK_WORDS,))
DP4A_ROW = Kernel("dp4a row", INTEGERS, "cuda-dot-row", (CHUNK_WORDS,))
INT4_ROW = Kernel("tensor int4 row", "float32", "cuda-one-row", (INT4_PANEL_WORDS,))
FLOAT_ROW = Kernel("float row", "float32", "cuda-float-row", (PANELS,))

KERNELS = (
    *(FLOAT32, DOT, DOT_TILES, DOT_HALVES, SMMLA, AMX_BFLOAT16, AMX_INT4, AMX_INT8),
    *(GPU_FLOAT32, GPU_FLOAT16, MATRICES, TENSOR_FLOAT16, TENSOR_INT4, TENSOR_INT8, DP4A_WORDS),
    *(DP4A_ROW, INT4_ROW, FLOAT_ROW),
)

# --- the selection ---


@dataclass(frozen=True)
class Selection:
    """The layout of one matrix and the kernels that multiply by it."""

    one_row: Kernel
    many_rows: Kernel
    layout: Layout

    def kernel(self, one_row: bool) -> Kernel:
        return self.one_row if one_row else self.many_rows


# Weights: f32, f16, bf16 store one number each (f32 also stands for any other type that is read as
# float32); int4 with float32 rows; int4a8, int7a8, int8a8 with integer rows.
TABLE: Mapping[str, Mapping[str, Selection]] = {
    "cpu": {
        # weights          one row      many rows     layout
        "f32": Selection(FLOAT32, FLOAT32, PANELS),
        "f16": Selection(FLOAT32, FLOAT32, PANELS),
        "bf16": Selection(FLOAT32, FLOAT32, PANELS),
        "int4": Selection(FLOAT32, FLOAT32, INT4_PANELS),
        "int4a8": Selection(DOT, DOT, CHUNKS),
        "int7a8": Selection(DOT, DOT, CHUNKS),
        "int8a8": Selection(DOT, DOT, CHUNKS),
    },
    "amx": {  # many rows in tile registers; one row would fill a sixteenth of them
        "bf16": Selection(FLOAT32, AMX_BFLOAT16, PAIRS),
        "int4a8": Selection(DOT, AMX_INT4, CHUNKS),
        "int7a8": Selection(DOT, AMX_INT8, TILE_CHUNKS),
        "int8a8": Selection(DOT, AMX_INT8, TILE_CHUNKS),
    },
    "sdot": {
        "int4a8": Selection(DOT, DOT_TILES, CHUNKS),
        "int7a8": Selection(DOT, DOT_TILES, CHUNKS),
        "int8a8": Selection(DOT, DOT_TILES, CHUNKS),
    },
    "i8mm": {  # nibbles have a step of four, as for SDOT, bytes a step of eight
        "int4a8": Selection(DOT, SMMLA, CHUNKS),
        "int7a8": Selection(DOT_HALVES, SMMLA, CHUNKS),
        "int8a8": Selection(DOT_HALVES, SMMLA, CHUNKS),
    },
    "gpu": {
        "f32": Selection(GPU_FLOAT32, GPU_FLOAT32, PANELS),
        "f16": Selection(GPU_FLOAT32, GPU_FLOAT32, PANELS),
        "bf16": Selection(GPU_FLOAT32, GPU_FLOAT32, PANELS),
        "int4": Selection(GPU_FLOAT32, GPU_FLOAT32, INT4_PANEL_WORDS),
        "int4a8": Selection(DP4A_WORDS, DP4A_WORDS, CHUNK_WORDS),
        "int7a8": Selection(DP4A_WORDS, DP4A_WORDS, CHUNK_WORDS),
        "int8a8": Selection(DP4A_WORDS, DP4A_WORDS, CHUNK_WORDS),
    },
    "gpu float16": {  # rows are rounded only if storing the weights already lost as much precision
        "f16": Selection(GPU_FLOAT32, GPU_FLOAT16, PANELS),
        "int4": Selection(GPU_FLOAT32, GPU_FLOAT16, INT4_PANEL_WORDS),
    },
    "gpu tensor": {  # matrices in registers: ldmatrix and mma.sync
        "f16": Selection(FLOAT_ROW, TENSOR_FLOAT16, PANELS),
        "int4a8": Selection(DP4A_ROW, TENSOR_INT4, CHUNK_WORDS),
        "int7a8": Selection(DP4A_ROW, TENSOR_INT8, CHUNK_WORDS),
        "int8a8": Selection(DP4A_ROW, TENSOR_INT8, CHUNK_WORDS),
    },
    "gpu products": {  # chips of NVIDIA, also those before ldmatrix
        "f32": Selection(FLOAT_ROW, GPU_FLOAT32, PANELS),
        "f16": Selection(FLOAT_ROW, GPU_FLOAT16, PANELS),
        "bf16": Selection(FLOAT_ROW, GPU_FLOAT32, PANELS),
        "int4": Selection(INT4_ROW, GPU_FLOAT16, INT4_PANEL_WORDS),
        "int4a8": Selection(DP4A_ROW, DP4A_WORDS, CHUNK_WORDS),
        "int7a8": Selection(DP4A_ROW, DP4A_WORDS, CHUNK_WORDS),
        "int8a8": Selection(DP4A_ROW, DP4A_WORDS, CHUNK_WORDS),
    },
    "gpu matrices": {  # faster than DP4A on words; scalar float16 products are not
        "f16": Selection(GPU_FLOAT32, MATRICES, PANELS),
        "int4": Selection(GPU_FLOAT32, MATRICES, INT4_PANEL_WORDS),
        "int4a8": Selection(DP4A_WORDS, MATRICES, CHUNK_WORDS),
        "int7a8": Selection(DP4A_WORDS, MATRICES, CHUNK_WORDS),
        "int8a8": Selection(DP4A_WORDS, MATRICES, CHUNK_WORDS),
    },
}

ON_GPU, BF16_DOT = "gpu products", "bf16 dot"
TILE_ATTENTION: Mapping[str, frozenset[str]] = {
    "amx": frozenset({"bf16", "int4", "int4a8", "int7a8", "int8a8"}),
    BF16_DOT: frozenset({"bf16", "int4", "int4a8", "int7a8", "int8a8"}),
    ON_GPU: frozenset({"f16", "int4", "int4a8", "int7a8", "int8a8"}),
}
"""The weights with which attention of many queries has operands of 16 bits, by part of TABLE:
bfloat16 in tile registers or by dot products of pairs, float16 on tensor cores.

Storing these weights, or the rows that they multiply, loses as much precision. With others all of
the model's arithmetic stays float32.
"""


def attends_in_tiles(units: Units, weights: str) -> str:
    """The part of TILE_ATTENTION by which attention of many queries has operands of 16 bits.

    "" if it has not.
    """
    return next((kind for kind in units.kinds if weights in TILE_ATTENTION.get(kind, ())), "")


INTEGER_SCORES: Mapping[str, frozenset[str]] = {
    name: frozenset({"int4a8", "int7a8", "int8a8"})
    for name in ("avx2", "avx-vnni", "avx512-vnni", "sdot", "i8mm")
}
"""The weights beside which attention to all positions (vision, resampler) has scores that are
products of integers, by integer instruction set. The rows that these weights multiply are integers
anyway. With others, and in the decoder, scores stay float32. AVX-512 without VNNI multiplies words
no faster than floats: on one port, and the addition is another instruction."""


def scores_in_integers(units: Units, weights: str) -> str:
    """The codes of queries and keys (isa/score_products.py) in attention to all positions.

    "" if they are not integers: `attends_in_tiles` comes first.
    """
    isa = units.integers.name
    wanted = units.integer_scores and not attends_in_tiles(units, weights)
    if not wanted or weights not in INTEGER_SCORES.get(isa, ()):
        return ""
    return OF_ISA[isa].codes.name


def select(units: Units, weights: str) -> Selection:
    """The entry for `weights` in the first part of TABLE that applies to `units` and has one."""
    kinds = (TABLE.get(kind, {}) for kind in units.kinds)
    return next(part[weights] for part in kinds if weights in part)
