"""Dequantization of 4-bit codes to float16 in shared memory, as a tensor intrinsic."""

from __future__ import annotations

from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .copies import OPERANDS, Pair
from .device_functions import DEQUANTIZE

NAME = "handglass.dequantize"
WORDS, CODES = 4, 16
"""Words of a group of inputs, and adjacent inputs of half a group."""


def dequantize() -> str:
    """Register the intrinsic and return its name.

    From four words of a column and its scale to the inputs of a group (2, 1, 16): the lower
    nibbles and then the upper ones. All are in shared memory. A call takes a whole group: TVM would
    put a barrier between calls that write to interleaved places.
    """
    if TensorIntrin.get(NAME, allow_missing=True) is None:
        TensorIntrin.register(NAME, *_pair())
    return NAME


def _pair() -> Pair:
    @T.prim_func(s_tir=True)
    def description(words: T.handle, scales: T.handle, inputs: T.handle) -> None:
        q = T.match_buffer(words, (WORDS, 1), "uint32", offset_factor=1, scope=OPERANDS)
        s = T.match_buffer(scales, (1, 1), "float16", offset_factor=1, scope=OPERANDS)
        o = T.match_buffer(inputs, (2, 1, CODES), "float16", offset_factor=8, scope=OPERANDS)
        with T.sblock("root"):
            T.reads(q[0:WORDS, 0:1], s[0:1, 0:1])
            T.writes(o[0:2, 0:1, 0:CODES])
            for i, j in T.grid(T.int64(2), T.int64(CODES)):
                with T.sblock("code"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    o[vi, 0, vj] = value_of(q[vj // 4, 0], vj % 4 * 8 + vi * 4, s[0, 0])

    @T.prim_func(s_tir=True)
    def implementation(words: T.handle, scales: T.handle, inputs: T.handle) -> None:
        a, b, c, d = T.int64(), T.int64(), T.int64(), T.int64()
        q = T.match_buffer(
            *(words, (WORDS, 1), "uint32"), offset_factor=1, scope=OPERANDS, strides=[a, 1]
        )
        s = T.match_buffer(
            *(scales, (1, 1), "float16"), offset_factor=1, scope=OPERANDS, strides=[b, 1]
        )
        o = T.match_buffer(
            *(inputs, (2, 1, CODES), "float16"),
            offset_factor=8,
            scope=OPERANDS,
            strides=[c, d, 1],
        )
        with T.sblock("root"):
            T.reads(q[0:WORDS, 0:1], s[0:1, 0:1])
            T.writes(o[0:2, 0:1, 0:CODES])
            T.evaluate(
                T.cuda.func_call(
                    DEQUANTIZE.name,
                    o.access_ptr("w"),
                    T.Cast("int32", c),
                    q.access_ptr("r"),
                    T.Cast("int32", a),
                    s.access_ptr("r"),
                    source_code=DEQUANTIZE.code,
                )
            )

    return description, implementation


def value_of(word: Expr, right: Expr, scale: Expr) -> Expr:
    """The signed nibble of a word at a bit, times the scale."""
    nibble = (word >> T.Cast("uint32", right)) & T.uint32(15)
    return (T.Cast("float16", nibble ^ T.uint32(8)) - T.float16(8)) * scale
