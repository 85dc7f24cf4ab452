"""Machine instructions for integer dot products, one entry per instruction set and code width.

Each takes a vector of weights, `step` of them for each of `lanes` outputs, and the same activations
for all outputs. Sums are int32, except for nibble products on AVX2 and AVX-512BW: 16 of them (at
most 15 * 127 each) fit 16 bits, which halves the work; they are widened once per group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from .integer_isa import CHUNK_STEPS, IntegerIsa


@dataclass(frozen=True)
class Instruction:
    """How one vector of weights is multiplied by the activations."""

    sums: str
    """dtype of the vector of accumulators."""
    multiply: Callable[[Expr, Expr, Expr], Expr]
    """(sums, weights, broadcast activations) -> sums."""
    spread: Callable[..., Expr]
    """(buffer, index of the chunk's row, step) -> the step's activations, once per output."""
    widen: Callable[[Expr], Expr] | None = None
    """Narrow sums -> one int32 per output; None if sums are int32 already."""
    steps: int = CHUNK_STEPS
    """Steps that one intrinsic covers: all of a chunk, or 1 with the loop over them outside."""
    prefetch: int = 0
    """Prefetch distance in steps for the weights of a single row; 0 leaves it to the hardware."""
    together: int = 0
    """For several rows, the most rows that take an unrolled step at once; 0: steps are a loop."""
    unrolls: bool = False
    """Whether the number of a step must be constant."""


def _call(name: str, dtype: str, *arguments: Expr) -> Expr:
    number = T.llvm_lookup_intrinsic_id(name)
    return T.call_llvm_pure_intrin(number, *arguments, dtype=dtype)


def _bytes(vector: Expr, count: int) -> Expr:
    """Reinterpret as int8: LLVM encodes signedness in the instruction, TVM in the type."""
    return T.reinterpret(vector, dtype=f"int8x{count}")


def spread_word(lanes: int, step: int, dtype: str) -> Callable[..., Expr]:
    """Load `step` adjacent values, together 4 bytes, as one word and repeat it `lanes` times."""

    def spread(x, index: list, v: Expr) -> Expr:
        *row, k = index
        values = x.vload([*row, k + v * step], f"{dtype}x{step}")
        word = T.reinterpret(values, dtype="int32")
        return T.reinterpret(T.broadcast(word, lanes), dtype=f"{dtype}x{lanes * step}")

    return spread


def one_lane(x, index: list, v: Expr) -> Expr:
    """Broadcast word v of a chunk that is loaded whole; LLVM folds it into SDOT's indexed form."""
    *row, k = index
    words = T.reinterpret(x.vload([*row, k], "int8x16"), dtype="int32x4")
    return T.reinterpret(T.broadcast(T.Shuffle([words], [v]), 4), dtype="int8x16")


@dataclass(frozen=True)
class _MultiplyAdd:
    """AVX2's or AVX-512's products of bytes, whose sums of pairs are 16 bits wide, and of those."""

    register_bytes: int
    of_bytes: str
    of_words: str

    def nibbles(self, sums: Expr, weights: Expr, x: Expr) -> Expr:
        return sums + self._pairs(weights, x)

    def widened(self, pairs: Expr) -> Expr:
        """16-bit sums of pairs -> 32-bit sums of four."""
        ones = T.broadcast(T.int16(1), self.register_bytes // 2)
        return _call(self.of_words, self._dtype("int32"), pairs, ones)

    def sevens(self, sums: Expr, weights: Expr, x: Expr) -> Expr:
        return sums + self.widened(self._pairs(weights, x))

    def eights(self, sums: Expr, weights: Expr, x: Expr) -> Expr:
        wide = T.Cast(self._dtype("int16"), weights)
        return sums + _call(self.of_words, self._dtype("int32"), wide, x)

    def _pairs(self, weights: Expr, x: Expr) -> Expr:
        unsigned = _bytes(weights, self.register_bytes)
        return _call(self.of_bytes, self._dtype("int16"), unsigned, x)

    def _dtype(self, name: str) -> str:
        return f"{name}x{8 * self.register_bytes // int(name.removeprefix('int'))}"


_AVX2 = _MultiplyAdd(32, "llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd")
_AVX512 = _MultiplyAdd(64, "llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512")


def _vpdpbusd(lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    count, dtype = 4 * lanes, f"int32x{lanes}"
    return lambda sums, weights, x: _call(name, dtype, sums, _bytes(weights, count), x)


def _sdot(sums: Expr, weights: Expr, x: Expr) -> Expr:
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return _call(name, "int32x4", sums, _bytes(weights, 16), x)


def _smmla(sums: Expr, weights: Expr, x: Expr) -> Expr:
    """32 products of one half of both 32-byte operands; each of its bytes is used twice."""
    half = [tirx.const(n, "int32") for n in range(16)]
    name = "llvm.aarch64.neon.smmla.v4i32.v16i8"
    return _call(name, "int32x4", sums, T.Shuffle([weights], half), T.Shuffle([x], half))


_YMM = Instruction("int32x8", _vpdpbusd(8), spread_word(8, 4, "int8"), prefetch=32)
_YMM_BYTES = replace(_YMM, steps=1, prefetch=0)
_ZMM = Instruction("int32x16", _vpdpbusd(16), spread_word(16, 4, "int8"), prefetch=32)
_ZMM_BYTES = replace(_ZMM, steps=1, prefetch=0)
# With unrolled steps LLVM would keep a chunk of every row live. Four rows at a time do not spill
# and hide SDOT's latency on in-order cores.
_NEON = Instruction("int32x4", _sdot, one_lane, together=4, unrolls=True)
_NEON_PAIRS = replace(_NEON, multiply=_smmla)

INSTRUCTIONS: dict[tuple[str, int], Instruction] = {
    ("avx2", 4): Instruction("int16x16", _AVX2.nibbles, spread_word(8, 4, "int8"), _AVX2.widened),
    ("avx2", 7): Instruction("int32x8", _AVX2.sevens, spread_word(8, 4, "int8"), steps=1),
    ("avx2", 8): Instruction("int32x8", _AVX2.eights, spread_word(8, 2, "int16"), steps=1),
    ("avx512", 4): Instruction(
        "int16x32", _AVX512.nibbles, spread_word(16, 4, "int8"), _AVX512.widened
    ),
    ("avx512", 7): Instruction("int32x16", _AVX512.sevens, spread_word(16, 4, "int8"), steps=1),
    ("avx512", 8): Instruction("int32x16", _AVX512.eights, spread_word(16, 2, "int16"), steps=1),
    ("avx-vnni", 4): _YMM,
    ("avx-vnni", 7): _YMM_BYTES,
    ("avx-vnni", 8): _YMM_BYTES,
    ("avx512-vnni", 4): _ZMM,
    ("avx512-vnni", 7): _ZMM_BYTES,
    ("avx512-vnni", 8): _ZMM_BYTES,
    ("amx", 4): _ZMM,
    ("amx", 7): _ZMM_BYTES,
    ("amx", 8): _ZMM_BYTES,
    ("sdot", 4): _NEON,
    ("sdot", 7): _NEON,
    ("sdot", 8): _NEON,
    # SDOT for one row of int4. The rest is in smmla_intrinsics.py; 7 and 8 bits are for measurement
    ("i8mm", 4): _NEON,
    ("i8mm", 7): _NEON_PAIRS,
    ("i8mm", 8): _NEON_PAIRS,
}


def portable(isa: IntegerIsa, bits: int) -> Instruction:
    """An instruction with the same result from arithmetic that every CPU has."""
    codes, lanes = isa.codes(bits), isa.lanes
    wide = f"int32x{lanes}"

    def pick(vector: Expr, e: int) -> Expr:
        places = [tirx.const(lane * codes.step + e, "int32") for lane in range(lanes)]
        return T.Cast(wide, T.Shuffle([vector], places))

    def multiply(sums: Expr, weights: Expr, x: Expr) -> Expr:
        for e in range(codes.step):
            sums = sums + pick(weights, e) * pick(x, e)
        return sums

    steps = CHUNK_STEPS if bits == 4 else 1
    return Instruction(
        wide, multiply, spread_word(lanes, codes.step, codes.activation), steps=steps
    )


def instruction(isa: IntegerIsa, bits: int, emulate: bool = False) -> Instruction:
    """The instruction for codes of `bits` bits; with `emulate`, the same from portable parts."""
    native = INSTRUCTIONS.get((isa.name, bits))
    if native is None:
        return portable(isa, bits)
    return replace(portable(isa, bits), steps=native.steps) if emulate else native
