"""Tensor intrinsics that unpack a group of 32 inputs from nibbles to the bytes of operands.

A vector of weights is four inputs of four outputs, or of eight on x86 (compiler/ops/
nibble_operands.py). SDOT and VPMADDUBSW read each vector as it is; for SMMLA, zipping two of them
gives operands of eight inputs of two outputs.
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .integer_isa import CHUNK_STEPS, STEP, Codes
from .intrinsic_parts import extents_of, shuffle, whole

VECTOR, YMM_VECTOR = 4, 8
"""Outputs of a vector of weights, of 128 and of 256 bits."""
FIRST, SECOND = [0, 4, 1, 5], [2, 6, 3, 7]
"""Words of two vectors that make the operands of outputs 0 and 1, and of 2 and 3."""


def unpack_vectors(codes: Codes, columns: int) -> str:
    """Name of the intrinsic (4, columns, 4) nibbles -> (2, 4, columns, 4) bytes, not for SMMLA."""
    name = f"handglass.unpack.{codes.nibble_dtype}.{columns}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *_vectors(codes, columns))
    return name


def unpack_pairs(codes: Codes, columns: int) -> str:
    """Name of the intrinsic (4, columns, 4) nibbles -> (2, 2, columns, 2, 4) bytes, for SMMLA."""
    name = f"handglass.unpack.pairs.{columns}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *_pairs(codes, columns))
    return name


def _nibbles(codes: Codes, vector: Expr, h: int, size: int) -> Expr:
    return codes.nibble(vector, tirx.const(h, "int32"), size)


def _weights(handle: tirx.Var, columns: int) -> tirx.Buffer:
    """Part of a panel: its steps may lie any distance from each other."""
    strides = [tirx.Var("t", "int64"), STEP, 1]
    shape = (CHUNK_STEPS, columns, STEP)
    return T.match_buffer(handle, shape, "uint8", offset_factor=1, strides=strides)


def _vectors(codes: Codes, columns: int) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    shape = (2, CHUNK_STEPS, columns, STEP)
    outputs = min(YMM_VECTOR if codes.fills_registers else VECTOR, columns)
    size = outputs * STEP

    @T.prim_func(s_tir=True)
    def description(weights: T.handle, operands: T.handle) -> None:
        w = _weights(weights, columns)
        c = T.match_buffer(operands, shape, codes.nibble_dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(w))
            T.writes(whole(c))
            for h0, v0, j0, e0 in T.grid(*extents_of(*shape)):
                with T.sblock("operands"):
                    h, v, j, e = T.axis.remap("SSSS", [h0, v0, j0, e0])
                    c[h, v, j, e] = codes.nibble(w[v, j, e], h)

    def unpack_all(w, c) -> None:
        for v in range(CHUNK_STEPS):
            for j in range(0, columns, outputs):
                for h in (0, 1):
                    vector = _nibbles(codes, w.vload([v, j, 0], f"uint8x{size}"), h, size)
                    T.buffer_store(c, vector, [h, v, j, T.ramp(0, 1, size)])

    return description, _implementation(columns, shape, codes.nibble_dtype, unpack_all)


def _pairs(codes: Codes, columns: int) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    shape = (2, 2, columns, 2, STEP)

    @T.prim_func(s_tir=True)
    def description(weights: T.handle, operands: T.handle) -> None:
        w = _weights(weights, columns)
        c = T.match_buffer(operands, shape, "int8", offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(w))
            T.writes(whole(c))
            for h0, v0, j0, u0, e0 in T.grid(*extents_of(*shape)):
                with T.sblock("operands"):
                    h, v, j, u, e = T.axis.remap("SSSSS", [h0, v0, j0, u0, e0])
                    c[h, v, j, u, e] = codes.nibble(w[v * 2 + u, j, e], h)

    def zipped(w, v: int, j: int, words: list[int]) -> Expr:
        both = [
            T.reinterpret(w.vload([v * 2 + u, j, 0], "uint8x16"), dtype="int32x4") for u in (0, 1)
        ]
        return T.reinterpret(shuffle(both, words), dtype="uint8x16")

    def unpack_all(w, c) -> None:
        for v in (0, 1):
            for j in range(0, columns, VECTOR):
                for first, words in ((j, FIRST), (j + 2, SECOND)):
                    for h in (0, 1):
                        vector = _nibbles(codes, zipped(w, v, j, words), h, 16)
                        T.buffer_store(c, vector, [h, v, first, 0, T.ramp(0, 1, 16)])

    return description, _implementation(columns, shape, "int8", unpack_all)


def _implementation(columns: int, shape: tuple[int, ...], dtype: str, unpack_all) -> tirx.PrimFunc:
    """Stores the operands of the weights; unpack_all(weights, operands) emits the stores."""

    @T.prim_func(s_tir=True)
    def implementation(weights: T.handle, operands: T.handle) -> None:
        w = _weights(weights, columns)
        c = T.match_buffer(operands, shape, dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(w))
            T.writes(whole(c))
            unpack_all(w, c)

    return implementation
