"""Dequantization of 4-bit codes in shared memory to fragments of float16, as a tensor intrinsic."""

from __future__ import annotations

from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from ..gpu.nibble_order import ORDERED as CODES
from ..gpu.nibble_order import nibble
from ..isa.integer_isa import CHUNK_STEPS
from .copies import OPERANDS, Pair
from .device_functions import DEQUANTIZE
from .fragments import SIDE, matrix_number

NAME = "handglass.dequantize"


def dequantize() -> str:
    """Register the intrinsic and return its name.

    From the words (4, 16) of a group of inputs of 16 columns and their scales (1, 16), in shared
    memory, to two matrices (2, 16, 16): the inputs of the lower nibbles and of the upper ones, in
    the order of nibble_order.py. All threads of a warp must call it together.
    """
    if TensorIntrin.get(NAME, allow_missing=True) is None:
        TensorIntrin.register(NAME, *_pair())
    return NAME


def _pair() -> Pair:
    @T.prim_func(s_tir=True)
    def description(words: T.handle, scales: T.handle, inputs: T.handle) -> None:
        q = T.match_buffer(words, (CHUNK_STEPS, SIDE), "uint32", offset_factor=1, scope=OPERANDS)
        s = T.match_buffer(scales, (1, SIDE), "float16", offset_factor=1, scope=OPERANDS)
        o = T.match_buffer(inputs, (2, SIDE, CODES), "float16", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(q[0:CHUNK_STEPS, 0:SIDE], s[0:1, 0:SIDE])
            T.writes(o[0:2, 0:SIDE, 0:CODES])
            for h, i, j in T.grid(T.int64(2), T.int64(SIDE), T.int64(CODES)):
                with T.sblock("code"):
                    vh, vi, vj = T.axis.remap("SSS", [h, i, j])
                    o[vh, vi, vj] = value_of(
                        q[nibble(vj)[0], vi], nibble(vj)[1] * 8 + vh * 4, s[0, vi]
                    )

    @T.prim_func(s_tir=True)
    def implementation(words: T.handle, scales: T.handle, inputs: T.handle) -> None:
        a, b, c, d = T.int64(), T.int64(), T.int64(), T.int64()
        q = T.match_buffer(
            *(words, (CHUNK_STEPS, SIDE), "uint32"), offset_factor=1, scope=OPERANDS, strides=[a, 1]
        )
        s = T.match_buffer(
            *(scales, (1, SIDE), "float16"), offset_factor=1, scope=OPERANDS, strides=[b, 1]
        )
        o = T.match_buffer(
            *(inputs, (2, SIDE, CODES), "float16"),
            offset_factor=1,
            scope="local",
            strides=[c, d, 1],
        )
        with T.sblock("root"):
            T.reads(q[0:CHUNK_STEPS, 0:SIDE], s[0:1, 0:SIDE])
            T.writes(o[0:2, 0:SIDE, 0:CODES])
            T.evaluate(
                T.cuda.func_call(
                    DEQUANTIZE.name,
                    o.data,
                    matrix_number(o, d, (SIDE, CODES)),
                    matrix_number(o, d, (SIDE, CODES)) + T.Cast("int32", c // (SIDE * CODES)),
                    q.access_ptr("r"),
                    T.Cast("int32", a),
                    s.access_ptr("r"),
                    source_code=DEQUANTIZE.code,
                )
            )

    return description, implementation


def value_of(word: Expr, right: Expr, scale: Expr) -> Expr:
    """The signed nibble of a word at a bit, times the scale."""
    code = (word >> T.Cast("uint32", right)) & T.uint32(15)
    return (T.Cast("float16", code ^ T.uint32(8)) - T.float16(8)) * scale
