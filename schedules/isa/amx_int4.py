"""Unpacks a group of 4-bit weights in the dot product layout to a tile of bfloat16 pairs.

The bytes of four adjacent inputs and 16 outputs are one vector of 16 words; two shifts and two
masks give a pair. The intrinsic has a description and an implementation, as in dot_intrinsics.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .amx_instructions import TILE, word_of_floats

NAME = "handglass.tile.nibbles"
HALF, STEP = 8, 4
"""Pairs in the low nibbles of a group's bytes; adjacent inputs in a word."""
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


def nibbles_intrinsic() -> str:
    """Register the intrinsic, return its name: (4, 16, 4) bytes and 16 scales -> (16, 16) words."""
    if TensorIntrin.get(NAME, allow_missing=True) is None:
        TensorIntrin.register(NAME, _description(), _implementation())
    return NAME


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


def _implementation() -> tirx.PrimFunc:
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

    def each(w, f, c) -> None:
        scale = T.Cast("float32x16", f.vload([0], "float16x16"))
        for q in range(TILE):
            four = T.reinterpret(w.vload([q % HALF // 2, 0, 0], "uint8x64"), dtype="uint32x16")
            low, high = (value(four, scale, q, e) for e in range(2))
            T.buffer_store(c, word_of_floats(low, high, TILE), [q, T.ramp(0, 1, TILE)])

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
