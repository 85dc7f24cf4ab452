"""Integer dot products as each instruction set does them, as data.

A weight panel holds 16 outputs. Its integers lie so that one vector load feeds one instruction:
`step` neighbours along the input for each of `lanes` outputs, as every set below wants them:

    (k / chunk, 4, 16, step) bytes, step 4 or 2

A byte is one code, or two of 4 bits: inputs r (lower half) and r + 16 (upper half) of a chunk of
32. What differs is the sign. Where the instruction multiplies unsigned by signed, codes are stored
with `zero` added, and whoever quantises the activations hands over -zero * sum(x) to take it out.
Sources: Intel SDM vol. 2 (VPMADDUBSW, VPMADDWD, VPDPBUSD), Arm ARM C7 (SDOT).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tvm
from tvm import tirx
from tvm.ir import Expr

GROUP = 32
"""Neighbours along the input that share a scale, where weights have 4 bits."""
LIMIT = 127
"""The largest activation code: -128 would have no opposite."""
LANES, CHUNK_STEPS, STEP = 16, 4, 4


@dataclass(frozen=True)
class Tile:
    """What stays in registers at a time: integer sums, scaled sums and what feeds them."""

    rows: int
    columns: int
    """Outputs of a tile of several rows: 16 or a divisor; of floats, which need no other sums, also
    several panels."""
    panels: int
    """Panels of 16 outputs side by side where there is one row."""


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
class Shared:
    """Many rows on a GPU: what a workgroup copies to memory that its threads share, and multiplies
    there. Everything is padded to whole tiles of `rows` x `columns` x `depth` inputs."""

    rows: int
    columns: int
    depth: int
    memory: int
    """Bytes that a workgroup has."""
    threads: int
    """At most so many in a workgroup."""
    half: bool = False
    """Whether there is float16, to multiply weights of 16 bits or fewer and rows beside them."""
    subgroup: int = 1
    """At least so many threads may exchange numbers without memory."""
    matrix: Matrix | None = None
    """Of float16, summed up in float32, where there is such an instruction."""


YMM = Tile(6, LANES, 4)
# 32 registers of 512 bits: twice the rows for integers, two panels more for floats
ZMM, ZMM_FLOATS = Tile(12, LANES, 4), Tile(12, 2 * LANES, 4)


@dataclass(frozen=True)
class Codes:
    """How integers of `bits` bits are stored, and what the activations beside them must be."""

    bits: int
    """4: two codes to a byte; 7 and 8: one, of which 7 keeps to -63..63."""
    zero: int
    """Added to a code when it is stored."""
    step: int = STEP
    """Inputs of one output that are neighbours in memory."""
    activation: str = "int8"
    magnify: int = 1
    """The products come out this many times too large."""
    tile: Tile = YMM
    amx: bool = False
    """Whether many rows are multiplied in AMX's tile registers: see amx_instructions.py."""
    tiled: bool = False
    """Many rows are copied tile by tile, 32 inputs of each row of a tile one after the other."""
    paired: bool = False
    """Several rows are multiplied two at a time, eight inputs of each: see smmla_intrinsics.py."""
    words: bool = False
    """Four bytes are one uint32, the first in its lowest bits, and four activations one int32: for
    GPUs, which load words and need not know bytes."""

    @property
    def halves(self) -> int:
        """Codes in a byte."""
        return 2 if self.bits == 4 else 1

    @property
    def dtype(self) -> str:
        return "uint8" if self.zero or self.bits == 4 else "int8"

    @property
    def chunk(self) -> int:
        """Inputs that one call of an intrinsic takes."""
        return CHUNK_STEPS * self.step * self.halves

    def nibble(self, byte: Expr, high: Expr, lanes: int = 1) -> Expr:
        """The code in the lower (`high` 0) or upper half (1) of a byte, or of each of `lanes`
        bytes, as the instruction sees it."""
        fill = lambda value: value if lanes == 1 else tirx.Broadcast(value, lanes)  # noqa: E731
        four = tirx.const(4, "int32")
        if self.zero:
            shift = (four * high.astype("int32")).astype("uint8")
            return (byte >> fill(shift)) & fill(tirx.const(15, "uint8"))
        shift = (four - four * high.astype("int32")).astype("uint8")
        top = (byte << fill(shift)) & fill(tirx.const(0xF0, "uint8"))
        return tirx.reinterpret(f"int8x{lanes}" if lanes > 1 else "int8", top)


@dataclass(frozen=True)
class IntegerIsa:
    """How one instruction set multiplies integers; the first of INTEGER_ISAS that a target has."""

    name: str
    features: tuple[str, ...]
    lanes: int
    """Outputs per vector of sums."""
    int4: Codes
    int7: Codes
    int8: Codes
    byte_bits: int = 8
    """7 where the eighth bit of a weight costs speed."""
    floats: Tile = YMM
    """Register tile of a matmul in float32."""
    bfloat16_tiles: bool = False
    """Whether many rows of floats are multiplied as bfloat16, in tile registers."""
    largest: int | None = None
    """Bytes of one tensor that a kernel can see; None: any."""
    shared: Shared | None = None
    """How many rows are multiplied on a GPU; None on a CPU."""

    @property
    def multiplies_half(self) -> bool:
        """Whether many rows may be multiplied as float16."""
        return self.shared is not None and self.shared.half

    def codes(self, bits: int) -> Codes:
        return {4: self.int4, 7: self.int7, 8: self.int8}[bits]


def unsigned(tile: Tile) -> tuple[Codes, Codes, Codes]:
    """Of 4, 7 and 8 bits, for instructions that multiply unsigned weights by signed activations."""
    return Codes(4, 8, tile=tile), Codes(7, 64, tile=tile), Codes(8, 128, tile=tile)


# AVX2 adds pairs of products in 16 bits: enough for 7 bits times 8, while two bytes could overflow.
# Those are widened first, and cost a third more.
WIDE = Codes(8, 0, step=2, activation="int16")
AVX2 = IntegerIsa(
    "avx2", ("avx2",), 8, Codes(4, 8), Codes(7, 64, tile=Tile(5, LANES, 4)), WIDE, byte_bits=7
)
AVX512 = IntegerIsa(
    "avx512",
    ("avx512bw",),
    16,
    Codes(4, 8, tile=ZMM),
    Codes(7, 64, tile=ZMM),
    replace(WIDE, tile=ZMM),
    byte_bits=7,
    floats=ZMM_FLOATS,
)
AVX_VNNI = IntegerIsa("avx-vnni", ("avxvnni",), 8, *unsigned(YMM))
AVX512_VNNI = IntegerIsa("avx512-vnni", ("avx512vnni",), 16, *unsigned(ZMM), floats=ZMM_FLOATS)
# one row as with VNNI, many in tiles: of bytes as they are, of nibbles unpacked to bfloat16
AMX = IntegerIsa(
    "amx",
    ("amx-tile", "amx-int8", "amx-bf16", "avx512vnni"),
    16,
    Codes(4, 8, tile=ZMM),
    Codes(7, 64, amx=True),
    Codes(8, 128, amx=True),
    floats=ZMM_FLOATS,
    bfloat16_tiles=True,
)
# 32 registers of 128 bits: 8 integer sums and their 8 scaled ones leave half of them to operands.
# Bytes are scaled once at the end, so that all 16 may be integers.
NEON, NEON_BYTES = Tile(8, 4, 1), Tile(8, 8, 1)
# bytes times bytes, both signed; a nibble is left in the upper half, which saves its sign extension
SDOT = IntegerIsa(
    "sdot",
    ("dotprod",),
    4,
    Codes(4, 0, magnify=16, tile=NEON, tiled=True),
    Codes(7, 0, tile=NEON_BYTES, tiled=True),
    Codes(8, 0, tile=NEON_BYTES, tiled=True),
)
# SMMLA: two rows times two outputs, eight inputs at a time. A single row of nibbles is SDOT's, and
# so the same bytes serve; whole bytes lie in eights, which only costs a row its last addition
I8MM = IntegerIsa(
    "i8mm",
    ("dotprod", "i8mm"),
    4,
    Codes(4, 0, magnify=16, tile=NEON, paired=True),
    Codes(7, 0, step=8, tile=NEON_BYTES, paired=True),
    Codes(8, 0, step=8, tile=NEON_BYTES, paired=True),
)
PLAIN = IntegerIsa("plain", (), 16, *unsigned(YMM))
"""Any machine: no intrinsic, loops that the code generator vectorises as it can."""

INTEGER_ISAS = (AMX, AVX512_VNNI, AVX512, AVX_VNNI, AVX2, I8MM, SDOT, PLAIN)


def find_integer_isa(target: tvm.target.Target) -> IntegerIsa:
    """What `target` multiplies integers with."""
    if target.kind.name == "vulkan":
        return gpu_isa(target)
    has = tvm.get_global_func("target.target_has_feature")
    return next(
        isa for isa in INTEGER_ISAS if all(has(feature, target) for feature in isa.features)
    )


# One instruction multiplies four signed bytes (or the code generator writes it out in shifts), and
# a nibble is left in the upper half of its byte, as for SDOT. 64 x 64 outputs are 32 for each of
# 128 threads, which leaves registers for several workgroups on a core; 32 inputs of 64 rows and 64
# columns in float32 are 16 KB, all that phones promise, so that floats go by 16.
WORDS = Codes(8, 0, activation="int32", tile=Tile(64, 64, 1), words=True)
VULKAN = IntegerIsa(
    "vulkan",
    (),
    4,
    replace(WORDS, bits=4, magnify=16),
    replace(WORDS, bits=7),
    WORDS,
    shared=Shared(64, 64, 32, memory=1 << 14, threads=256),
)


def gpu_isa(target: tvm.target.Target) -> IntegerIsa:
    """The same bytes for every GPU; the rest is what this one says it can do."""
    assert VULKAN.shared is not None
    able = target.attrs
    shared = replace(
        VULKAN.shared,
        memory=int(able.get("max_shared_memory_per_block", VULKAN.shared.memory)),
        threads=int(able.get("max_threads_per_block", VULKAN.shared.threads)),
        half=bool(able.get("supports_float16", False))
        and bool(able.get("supports_16bit_buffer", False)),
        subgroup=_subgroup(target),
        matrix=_matrix(target),
    )
    return replace(
        VULKAN, shared=shared, largest=int(able.get("max_storage_buffer_range", 1 << 27))
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
