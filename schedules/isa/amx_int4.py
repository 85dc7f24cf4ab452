"""Unpacks a group of 4-bit weights in the dot product layout to a tile of bfloat16 pairs.

The bytes of four adjacent inputs and 16 outputs are one vector of 16 words; two shifts and two
masks give a pair. The intrinsic has a description and an implementation, as in dot_intrinsics.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .amx_instructions import BFLOAT16, TILE, multiply, word_of_floats

NAME = "handglass.tile.nibbles"
HALF, STEP = 8, 4
"""Pairs in the low nibbles of a group's bytes; adjacent inputs in a word."""
A_OR_B_AND_C = 0xF8
"""The function of three bits that VPTERNLOG evaluates."""
MANTISSAS = {place: float(1 << (23 - place)) for place in (8, 12, 16)}
"""The power of two in whose mantissa a code that starts at this bit counts as an integer.

2^15 + 8, times a scale of 11 bits, is still exact in float32.
"""


def word_of_nibbles(byte: Callable[[Expr, Expr], Expr], q: Expr, scale: Expr) -> Expr:
    """Inputs 2q and 2q + 1 of a group, each (code - 8) * scale, as a word of two bfloat16.

    byte(v, e) gives the bytes of the output.
    """
    shift = tirx.const(4, "int32") * (q // HALF).astype("int32")

    def value(e: int) -> Expr:
        code = byte(q % HALF // 2, q % 2 * 2 + e).astype("int32") >> shift
        number = (code & tirx.const(15, "int32")) - tirx.const(8, "int32")
        return number.astype("float32") * scale.astype("float32")

    return word_of_floats(value(0), value(1))


@dataclass(frozen=True)
class Unpacking:
    """How a group is unpacked."""

    awake: bool = False
    """Whether tiles are multiplied meanwhile, whatever they hold: a core that multiplies none for
    some 1200 cycles takes 700 to 850 to start again."""
    avx512: bool = False
    """Whether to use an instruction of AVX-512."""


def nibbles_intrinsic(way: Unpacking = Unpacking()) -> str:
    """Register the intrinsic, return its name: (4, 16, 4) bytes and 16 scales -> (16, 16) words."""
    name = f"{NAME}{'.awake' if way.awake else ''}{'.avx512' if way.avx512 else ''}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, _description(), _implementation(way))
    return name


def _bits_of(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def _description() -> tirx.PrimFunc:
    extent = tirx.IntImm("int64", TILE)
    bytes_of = lambda w, j: lambda v, e: w[v, j, e]  # noqa: E731

    @T.prim_func(s_tir=True)
    def description(weights: T.handle, scales: T.handle, words: T.handle) -> None:
        w = T.match_buffer(weights, (4, TILE, STEP), "uint8", offset_factor=1)
        f = T.match_buffer(scales, (TILE,), "float16", offset_factor=1)
        c = T.match_buffer(words, (TILE, TILE), "uint32", offset_factor=1)
        with T.sblock("root"):
            T.reads(w[0:4, 0:TILE, 0:STEP], f[0:TILE])
            T.writes(c[0:TILE, 0:TILE])
            for q, j in T.grid(extent, extent):
                with T.sblock("words"):
                    vq, vj = T.axis.remap("SS", [q, j])
                    c[vq, vj] = word_of_nibbles(bytes_of(w, vj), vq, f[vj])

    return description


def _implementation(way: Unpacking) -> tirx.PrimFunc:
    """Unpack with one multiply-add per vector.

    A code of 4 bits in the mantissa of a power of two is the float power + code, so one
    multiply-add gives (code - 8) * scale exactly. `MANTISSAS` says which bits serve: the codes at
    8, 12 and 16 of a word as they are, the other five after one of two shifts.
    """

    def fill(value: float, dtype: str = "uint32") -> Expr:
        return T.broadcast(tirx.const(value, dtype), TILE)

    def value(four: Expr, scale: Expr, q: int, e: int) -> Expr:
        place = 8 * (q % 2 * 2 + e) + 4 * (q // HALF)  # the code's lowest bit
        if place > max(MANTISSAS):
            four, place = four >> fill(12), place - 12
        elif place < min(MANTISSAS):
            four, place = four << fill(8), place + 8
        power = MANTISSAS[place]
        bits = four & fill(15 << place) | fill(_bits_of(power))
        # An explicit FMA: in a sum of two products, LLVM would fuse the wrong one.
        fma = T.llvm_lookup_intrinsic_id("llvm.fma")
        number = T.reinterpret(bits, dtype="float32x16")
        offset = scale * fill(-8.0 - power, "float32")
        return T.call_llvm_pure_intrin(fma, number, scale, offset, dtype="float32x16")

    def joined(low: Expr, high: Expr) -> Expr:
        """The pair of `word_of_floats` in two operations.

        LLVM takes `or` for a permutation of 16-bit numbers, which is three.
        """
        numbers = (T.reinterpret(value, dtype="uint32x16") for value in (low, high))
        low, high = (number + fill(0x8000) for number in numbers)
        ternary = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.pternlog.d.512")
        operands = (low >> fill(16), high, fill(0xFFFF0000), tirx.const(A_OR_B_AND_C, "int32"))
        return T.call_llvm_pure_intrin(ternary, *operands, dtype="uint32x16")

    def each(w, f, c) -> None:
        scale = T.Cast("float32x16", f.vload([0], "float16x16"))
        for q in range(TILE):
            four = T.reinterpret(w.vload([q % HALF // 2, 0, 0], "uint8x64"), dtype="uint32x16")
            low, high = (value(four, scale, q, e) for e in range(2))
            word = joined(low, high) if way.avx512 else word_of_floats(low, high, TILE)
            T.buffer_store(c, word, [q, T.ramp(0, 1, TILE)])
        if way.awake:
            T.evaluate(multiply(BFLOAT16, 0, 4, 6))

    @T.prim_func(s_tir=True)
    def implementation(weights: T.handle, scales: T.handle, words: T.handle) -> None:
        w = T.match_buffer(weights, (4, TILE, STEP), "uint8", offset_factor=1)
        f = T.match_buffer(scales, (TILE,), "float16", offset_factor=1)
        c = T.match_buffer(words, (TILE, TILE), "uint32", offset_factor=1)
        with T.sblock("root"):
            T.reads(w[0:4, 0:TILE, 0:STEP], f[0:TILE])
            T.writes(c[0:TILE, 0:TILE])
            each(w, f, c)

    return implementation
