"""Integer dot products of each instruction set, as data.

A weight panel holds 16 outputs. Its codes are laid out so that one vector load feeds one
instruction: `step` consecutive inputs for each of `lanes` outputs, the same for all instruction
sets below:

    (k / chunk, 4, 16, step) bytes, step 8, 4 or 2

A byte holds one code, or two of 4 bits: inputs r (low nibble) and r + 16 (high nibble) of a chunk
of 32. Instruction sets differ in signedness. If the instruction multiplies unsigned by signed,
codes are stored with the zero point `zero` added, and the kernel that quantises the activations
also supplies the correction -zero * sum(x). Sources: Intel SDM vol. 2 (VPMADDUBSW, VPMADDWD,
VPDPBUSD), Arm ARM C7 (SDOT).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import tvm
from tvm import tirx
from tvm.ir import Expr

from ..gpu.limits import GpuLimits
from .register_tiles import LANES, NEON, NEON_BYTES, YMM, ZMM, Tile

GROUP = 32
"""Consecutive inputs that share a quantization scale in 4-bit weights."""
LIMIT = 127
"""The largest activation code; -128 is not used, so the range is symmetric."""
CHUNK_STEPS, STEP = 4, 4
FLOAT_START = 0x4B4B4B4B
"""Bits of the float32 13323083, in the range where neighbouring floats differ by 1.

An integer sum that starts here and moves by less than 3.4 million is, read as a float32, the start
plus exactly its value: one subtraction replaces a conversion, which takes twice as long on
Neoverse cores. All bytes are equal, so an instruction sets the vector without a constant in memory.
"""


@dataclass(frozen=True)
class Codes:
    """How weight codes of `bits` bits are stored, and the dtype of their activations."""

    bits: int
    """4: two codes per byte. 7 and 8: one code per byte; with 7, in the range -63..63."""
    zero: int
    """Zero point, added to a code when it is stored."""
    step: int = STEP
    """Consecutive inputs of one output that are adjacent in memory."""
    activation: str = "int8"
    magnify: int = 1
    """Factor by which the products are too large."""
    tile: Tile = YMM
    start: int = 0
    """Value that the integer sum of a group starts at: 0, or FLOAT_START."""

    @property
    def words(self) -> bool:
        """Whether four activations are packed in one int32, the first in its lowest bits."""
        return self.activation == "int32"

    @property
    def halves(self) -> int:
        """Codes in a byte."""
        return 2 if self.bits == 4 else 1

    @property
    def dtype(self) -> str:
        return "uint8" if self.zero or self.bits == 4 else "int8"

    @property
    def nibble_dtype(self) -> str:
        """The type of `nibble`."""
        return "uint8" if self.zero else "int8"

    @property
    def fills_registers(self) -> bool:
        """Whether the sums of many rows of nibbles take 12 of 16 registers.

        A vector of both nibbles, its halves, the mask and the activations would not fit into the
        rest: a stage of its own unpacks the nibbles to bytes.
        """
        return self.bits == 4 and self.tile == YMM

    @property
    def chunk(self) -> int:
        """Inputs that one call of an intrinsic takes."""
        return CHUNK_STEPS * self.step * self.halves

    def nibble(self, byte: Expr, high: Expr, lanes: int = 1) -> Expr:
        """The low (`high` 0) or high (1) nibble of a byte, or of each of `lanes` bytes.

        Returned as the instruction reads it: uint8, or for signed codes int8 with the nibble in the
        upper half.
        """
        fill = lambda value: value if lanes == 1 else tirx.Broadcast(value, lanes)  # noqa: E731
        four = tirx.const(4, "int32")
        if self.zero:
            shift = (four * high.astype("int32")).astype("uint8")
            return (byte >> fill(shift)) & fill(tirx.const(15, "uint8"))
        shift = (four - four * high.astype("int32")).astype("uint8")
        top = (byte << fill(shift)) & fill(tirx.const(0xF0, "uint8"))
        return tirx.reinterpret(f"int8x{lanes}" if lanes > 1 else "int8", top)

    def sum_as_float(self, total: Expr, lanes: int = 1) -> Expr:
        """The integer sum of a group, or each of `lanes` sums, as float32."""
        dtype = f"float32x{lanes}" if lanes > 1 else "float32"
        if not self.start:
            return tirx.Cast(dtype, total)
        start = tirx.const(struct.unpack("<f", struct.pack("<i", self.start))[0], "float32")
        fill = start if lanes == 1 else tirx.Broadcast(start, lanes)
        return tirx.reinterpret(dtype, total) - fill


@dataclass(frozen=True)
class IntegerIsa:
    """How one instruction set multiplies integers; a CPU uses its first in INTEGER_ISAS."""

    name: str
    features: tuple[str, ...]
    lanes: int
    """Outputs per vector of sums."""
    int4: Codes
    int7: Codes
    int8: Codes
    byte_bits: int = 8
    """Default width of a byte code; 7 if the eighth bit costs speed."""

    def codes(self, bits: int) -> Codes:
        return {4: self.int4, 7: self.int7, 8: self.int8}[bits]

    def interchangeable(self, bits: int) -> list[IntegerIsa]:
        """The sets whose instruction reads the same codes on every CPU that has this one's.

        In the order of INTERCHANGEABLE, of which this must be one.
        """
        stored = replace(self.codes(bits), tile=YMM)
        older = INTERCHANGEABLE[: INTERCHANGEABLE.index(self)]
        same = [isa for isa in older if replace(isa.codes(bits), tile=YMM) == stored]
        return [isa for isa in same if (isa.name, self.name) not in UNRELATED] + [self]


def unsigned(tile: Tile) -> tuple[Codes, Codes, Codes]:
    """Codes of 4, 7 and 8 bits for instructions on unsigned weights and signed activations."""
    return Codes(4, 8, tile=tile), Codes(7, 64, tile=tile), Codes(8, 128, tile=tile)


# AVX2 adds pairs of products in 16 bits: enough for 7 by 8 bits, while products of bytes could
# overflow. Bytes are widened first, which costs a third more.
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
)
AVX_VNNI = IntegerIsa("avx-vnni", ("avxvnni",), 8, *unsigned(YMM))
AVX512_VNNI = IntegerIsa("avx512-vnni", ("avx512vnni",), 16, *unsigned(ZMM))
# One row uses VNNI, many rows use tiles: bytes directly, nibbles unpacked to bfloat16.
AMX = IntegerIsa(
    "amx",
    ("amx-tile", "amx-int8", "amx-bf16", "avx512vnni"),
    16,
    Codes(4, 8, tile=ZMM),
    Codes(7, 64),
    Codes(8, 128),
)
# Signed bytes by signed bytes. A nibble stays in the upper half, which saves the sign extension.
SDOT = IntegerIsa(
    "sdot",
    ("dotprod",),
    4,
    Codes(4, 0, magnify=16, tile=NEON, start=FLOAT_START),
    Codes(7, 0, tile=NEON_BYTES),
    Codes(8, 0, tile=NEON_BYTES),
)
# SMMLA: two rows by two outputs, eight inputs at a time. A single row of nibbles uses SDOT, so the
# layout is SDOT's. Byte codes have a step of eight, which costs a single row only one addition.
I8MM = IntegerIsa(
    "i8mm",
    ("dotprod", "i8mm"),
    4,
    Codes(4, 0, magnify=16, tile=NEON, start=FLOAT_START),
    Codes(7, 0, step=8, tile=NEON_BYTES),
    Codes(8, 0, step=8, tile=NEON_BYTES),
)
PLAIN = IntegerIsa("plain", (), 16, *unsigned(YMM))
"""Any machine: no intrinsic; LLVM vectorises the loops."""

# One GPU instruction multiplies four signed bytes (the code generator emulates it with shifts if it
# is missing), and a nibble stays in the upper half of its byte, as for SDOT.
WORDS = Codes(8, 0, activation="int32", tile=Tile(GpuLimits.rows, GpuLimits.columns, 1))
DP4A = IntegerIsa("dp4a", (), 4, replace(WORDS, bits=4, magnify=16), replace(WORDS, bits=7), WORDS)
"""Any GPU."""

INTERCHANGEABLE = (AVX2, AVX512, AVX_VNNI, AVX512_VNNI, AMX)
"""A CPU with one of these has the instructions of all before it, but for those in UNRELATED.

The order is that of the numbers in records: only append.
"""
UNRELATED = {("avx512", "avx-vnni"), ("avx512-vnni", "amx")}
"""The first is no alternative to the second: not on the same CPUs, or the same instruction."""

INTEGER_ISAS = (AMX, AVX512_VNNI, AVX512, AVX_VNNI, AVX2, I8MM, SDOT, PLAIN)


def find_integer_isa(target: tvm.target.Target) -> IntegerIsa:
    """The instruction set with which a CPU target multiplies integers; GPUs use DP4A."""
    has = tvm.get_global_func("target.target_has_feature")
    return next(
        isa for isa in INTEGER_ISAS if all(has(feature, target) for feature in isa.features)
    )
