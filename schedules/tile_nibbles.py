"""Unpacks a group of 4-bit weights, as the dot products want them, to a tile of bfloat16 pairs.

The bytes of four neighbouring inputs and 16 outputs are one vector of 16 words: two shifts and two
masks give a pair. A description and its implementation, as in dot_intrinsics.py.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .tile_instructions import TILE, word_of_nibbles

NAME = "handglass.tile.nibbles"
HALF, STEP = 8, 4
"""Pairs in the lower halves of the bytes of a group; neighbouring inputs in a word."""


def nibble_pair(byte: Callable[[Expr, Expr], Expr], q: Expr) -> Callable[[int], Expr]:
    """Codes 2q and 2q + 1 of a group as int32; byte(v, e) is a byte of the output's."""
    shift = tirx.const(4, "int32") * (q // HALF).astype("int32")

    def code(e: int) -> Expr:
        value = byte(q % HALF // 2, q % 2 * 2 + e).astype("int32")
        return (value >> shift) & tirx.const(15, "int32")

    return code


def nibbles_intrinsic() -> str:
    """Name of the registered intrinsic: (4, 16, 4) bytes and 16 scales to (16, 16) words."""
    if TensorIntrin.get(NAME, allow_missing=True) is None:
        TensorIntrin.register(NAME, _description(), _implementation())
    return NAME


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
                    code = T.meta_var(nibble_pair(bytes_of(w, vj), vq))
                    c[vq, vj] = word_of_nibbles(code, T.Cast("float32", f[vj]))

    return description


def _implementation() -> tirx.PrimFunc:
    def word(w, f, q: int) -> Expr:
        four = T.reinterpret(w.vload([q % HALF // 2, 0, 0], "uint8x64"), dtype="uint32x16")
        fill = lambda value: T.broadcast(tirx.const(value, "uint32"), TILE)  # noqa: E731

        def code(e: int) -> Expr:
            shift = 8 * (q % 2 * 2 + e) + 4 * (q // HALF)
            return T.Cast("int32x16", (four >> fill(shift)) & fill(15))

        return word_of_nibbles(code, T.Cast("float32x16", f.vload([0], "float16x16")), TILE)

    def each(w, f, c) -> None:
        for q in range(TILE):
            T.buffer_store(c, word(w, f, q), [q, T.ramp(0, 1, TILE)])

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
