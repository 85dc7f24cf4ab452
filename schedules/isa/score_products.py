"""Integer dot products for the scores of attention: the codes of queries and keys, and what
multiplies them.

    sums (lanes,) += sum over `step` columns of key codes (lanes, step) * query codes (step,)

Codes are signed on both sides. x86-64 multiplies words of 16 bits (`vpmaddwd`; LLVM joins it with
the addition to `vpdpwssd` where the CPU has VNNI): twice the products of float32 per instruction,
and codes so fine that no accuracy is lost. Its instructions on bytes would need one unsigned side
and saturate. ARM multiplies bytes (SDOT). Sources: Intel SDM vol. 2 (VPMADDWD, VPDPWSSD), Arm ARM
C7 (SDOT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isqrt

import tvm
from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from .dot_instructions import one_lane, spread_word
from .integer_isa import AVX2, AVX512, AVX512_VNNI, AVX_VNNI, I8MM, SDOT, find_integer_isa

LARGEST_SUM = 2**31 - 1


@dataclass(frozen=True)
class ScoreCodes:
    """How the codes of queries and keys are stored: `step` adjacent columns are four bytes."""

    name: str
    dtype: str
    step: int
    most: int
    """The largest code that the type and the instruction allow."""
    whole: int
    """The columns of a query are padded with zeros to a multiple of this, which a load may read."""

    def limit(self, d: int) -> int:
        """The largest code with which no score of d columns overflows."""
        return min(self.most, isqrt(LARGEST_SUM // d))

    def steps(self, d: int) -> int:
        return -(-d // self.step)

    def depth(self, d: int) -> int:
        """Stored columns of a query."""
        return -(-d // self.whole) * self.whole


WORDS = ScoreCodes("words", "int16", 2, 2**15 - 1, whole=2)
BYTES = ScoreCodes("bytes", "int8", 4, 127, whole=16)
CODES: Mapping[str, ScoreCodes] = {codes.name: codes for codes in (WORDS, BYTES)}


@dataclass(frozen=True)
class ScoreProducts:
    """An instruction that multiplies the codes."""

    codes: ScoreCodes
    lanes: int
    """Positions of a vector of sums; divides 16."""
    multiply: Callable[[Expr, Expr, Expr], Expr]
    """(sums, keys, the columns of a query, once per position) -> sums."""
    spread: Callable[..., Expr]
    """(query codes, index, step) -> the columns of the step, once per position."""
    rows: int
    """Rows whose sums for 16 positions are in registers, by default."""
    unrolls: tuple[int, ...] = (1, 2, 4)
    """Offered numbers of steps in an iteration."""
    unroll: int = 1
    """The default. LLVM adds the products of unrolled steps before it adds them to the sums, and
    spills on x86-64: 0.95 instead of 0.84 of the time of float32 (vision on AVX2)."""


def _multiply_words(lanes: int, name: str) -> Callable[[Expr, Expr, Expr], Expr]:
    number = T.llvm_lookup_intrinsic_id(name)

    def multiply(sums: Expr, keys: Expr, query: Expr) -> Expr:
        return sums + T.call_llvm_pure_intrin(number, keys, query, dtype=f"int32x{lanes}")

    return multiply


def _multiply_bytes(sums: Expr, keys: Expr, query: Expr) -> Expr:
    number = T.llvm_lookup_intrinsic_id("llvm.aarch64.neon.sdot.v4i32.v16i8")
    return T.call_llvm_pure_intrin(number, sums, keys, query, dtype="int32x4")


def _lane_of_sixteen(x: tirx.Buffer, index: list, step: tirx.IntImm) -> Expr:
    """The word of a step from a load of 16 bytes, which LLVM folds into SDOT's indexed form."""
    *row, k = index
    chunk, lane = divmod(int(step), 4)
    return one_lane(x, [*row, k + chunk * 16], tirx.const(lane, "int32"))


def _words(lanes: int, name: str, rows: int) -> ScoreProducts:
    spread = spread_word(lanes, WORDS.step, WORDS.dtype)
    return ScoreProducts(WORDS, lanes, _multiply_words(lanes, name), spread, rows)


_YMM = _words(8, "llvm.x86.avx2.pmadd.wd", 6)
_ZMM = _words(16, "llvm.x86.avx512.pmaddw.d.512", 12)
_NEON = ScoreProducts(BYTES, 4, _multiply_bytes, _lane_of_sixteen, 4, (4, 8), 4)
OF_CODES: Mapping[str, ScoreProducts] = {WORDS.name: _YMM, BYTES.name: _NEON}
"""The products that an operator is emitted with, before a schedule knows its target."""
OF_ISA: Mapping[str, ScoreProducts] = {
    AVX2.name: _YMM,
    AVX_VNNI.name: _YMM,
    AVX512.name: _ZMM,
    AVX512_VNNI.name: _ZMM,
    SDOT.name: _NEON,
    I8MM.name: _NEON,
}


def find_score_products(target: tvm.target.Target) -> ScoreProducts | None:
    """The products of a CPU target; None if it has no instruction for them."""
    return OF_ISA.get(find_integer_isa(target).name)


def portable(products: ScoreProducts) -> ScoreProducts:
    """The same results from arithmetic that every CPU has."""
    codes, lanes = products.codes, products.lanes

    def pick(vector: Expr, e: int) -> Expr:
        places = [tirx.const(lane * codes.step + e, "int32") for lane in range(lanes)]
        return T.Cast(f"int32x{lanes}", T.Shuffle([vector], places))

    def multiply(sums: Expr, keys: Expr, query: Expr) -> Expr:
        for e in range(codes.step):
            sums = sums + pick(keys, e) * pick(query, e)
        return sums

    return replace(products, multiply=multiply)
