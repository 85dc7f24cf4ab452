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

from ..gpu.limits import GpuLimits
from .register_tiles import LANES, NEON, NEON_BYTES, YMM, ZMM, Tile

GROUP = 32
"""Neighbours along the input that share a scale, where weights have 4 bits."""
LIMIT = 127
"""The largest activation code: -128 would have no opposite."""
CHUNK_STEPS, STEP = 4, 4


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

    @property
    def words(self) -> bool:
        """Whether four activations are one int32, the first in its lowest bits."""
        return self.activation == "int32"

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
    """How one instruction set multiplies integers; the first of INTEGER_ISAS that a CPU has."""

    name: str
    features: tuple[str, ...]
    lanes: int
    """Outputs per vector of sums."""
    int4: Codes
    int7: Codes
    int8: Codes
    byte_bits: int = 8
    """7 where the eighth bit of a weight costs speed."""

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
)
AVX_VNNI = IntegerIsa("avx-vnni", ("avxvnni",), 8, *unsigned(YMM))
AVX512_VNNI = IntegerIsa("avx512-vnni", ("avx512vnni",), 16, *unsigned(ZMM))
# one row as with VNNI, many in tiles: of bytes as they are, of nibbles unpacked to bfloat16
AMX = IntegerIsa(
    "amx",
    ("amx-tile", "amx-int8", "amx-bf16", "avx512vnni"),
    16,
    Codes(4, 8, tile=ZMM),
    Codes(7, 64),
    Codes(8, 128),
)
# bytes times bytes, both signed; a nibble is left in the upper half, which saves its sign extension
SDOT = IntegerIsa(
    "sdot",
    ("dotprod",),
    4,
    Codes(4, 0, magnify=16, tile=NEON),
    Codes(7, 0, tile=NEON_BYTES),
    Codes(8, 0, tile=NEON_BYTES),
)
# SMMLA: two rows times two outputs, eight inputs at a time. A single row of nibbles is SDOT's, and
# so the same bytes serve; whole bytes lie in eights, which only costs a row its last addition
I8MM = IntegerIsa(
    "i8mm",
    ("dotprod", "i8mm"),
    4,
    Codes(4, 0, magnify=16, tile=NEON),
    Codes(7, 0, step=8, tile=NEON_BYTES),
    Codes(8, 0, step=8, tile=NEON_BYTES),
)
PLAIN = IntegerIsa("plain", (), 16, *unsigned(YMM))
"""Any machine: no intrinsic, loops that the code generator vectorises as it can."""

# One instruction of a GPU multiplies four signed bytes (or the code generator writes it out in
# shifts), and a nibble is left in the upper half of its byte, as for SDOT.
WORDS = Codes(8, 0, activation="int32", tile=Tile(GpuLimits.rows, GpuLimits.columns, 1))
DP4A = IntegerIsa("dp4a", (), 4, replace(WORDS, bits=4, magnify=16), replace(WORDS, bits=7), WORDS)
"""Any GPU."""

INTEGER_ISAS = (AMX, AVX512_VNNI, AVX512, AVX_VNNI, AVX2, I8MM, SDOT, PLAIN)


def find_integer_isa(target: tvm.target.Target) -> IntegerIsa:
    """What a CPU multiplies integers with; a GPU has DP4A."""
    has = tvm.get_global_func("target.target_has_feature")
    return next(
        isa for isa in INTEGER_ISAS if all(has(feature, target) for feature in isa.features)
    )
