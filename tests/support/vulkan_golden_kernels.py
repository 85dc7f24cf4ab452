"""Kernels with golden SPIR-V: one for each rule of the emitter and of the schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import vulkan_rule_kernels as rules
from test_vulkan_emit_matrices import product as matrix_product
from test_vulkan_emit_reductions import rows as reduced_rows
from tvm import te, tirx
from vulkan_operator import scheduled, written
from vulkan_products import Product
from vulkan_rule_kernels import each
from vulkan_running import tvm_target
from vulkan_targets import BARE, COOPMAT, DOT, EIGHT, PORTABLE, SUBGROUP

from handglass.compiler.ops import exponential, gpu_causal_conv, gpu_delta_rule, norm, rotary
from handglass.compiler.ops.delta_rule import Heads
from handglass.compiler.ops.layout import Layout, key_shape
from handglass.schedules.choices import Written

Made = tuple[Callable[[], tirx.PrimFunc], Mapping[str, Any]]
"""A factory of the function, and its target."""


def cast(dtype: str) -> Callable[..., Any]:
    return lambda x: tirx.Cast(dtype, x)


def of_integers(a: Any, b: Any) -> Any:
    whole = tirx.truncdiv(a, b) + tirx.truncmod(a, b) * (a - b)
    bits = (a << 3 | b >> 2) ^ (a & ~b)
    return tirx.max(whole, bits) + tirx.min(a, b) + tirx.abs(a)


def of_floats(a: Any, b: Any) -> Any:
    return tirx.max(a * b + a, a / b) - tirx.min(a, b)


def floored(a: Any, b: Any) -> Any:
    return tirx.floordiv(a, b) + tirx.floormod(a, b)


def compared(a: Any, b: Any) -> Any:
    both = tirx.all(a < b, a <= b, a == b)
    return tirx.Select(tirx.any(both, a != b, tirx.Not(a > b), a >= b), a, b)


def mathematics(x: Any) -> Any:
    plain = tirx.exp(x) + tirx.sqrt(x) * tirx.rsqrt(x) + tirx.floor(x) + tirx.abs(x)
    made = (
        tirx.tanh(x) + tirx.erf(x) + tirx.sigmoid(x) + tirx.call_pure_extern("float32", "roundf", x)
    )
    return tirx.Select(tirx.isnan(x), x, plain + made + tirx.pow(x, tirx.const(0.5, "float32")))


RULES: dict[str, Made] = {
    "arithmetic-int32": (lambda: each(of_integers, "int32", "int32", "int32"), BARE),
    "arithmetic-uint32": (lambda: each(floored, "uint32", "uint32", "uint32"), BARE),
    "arithmetic-float32": (lambda: each(of_floats, "float32", "float32", "float32"), BARE),
    "arithmetic-int16": (lambda: each(floored, "int16", "int16", "int16"), PORTABLE),
    "arithmetic-int64": (lambda: each(floored, "int64", "int64", "int64"), PORTABLE),
    "compare-and-select": (lambda: each(compared, "float32", "float32", "float32"), BARE),
    "convert-float32-int8": (lambda: each(cast("int8"), "int8", "float32"), PORTABLE),
    "convert-float32-float16": (lambda: each(cast("float16"), "float16", "float32"), PORTABLE),
    "convert-uint8-float16": (lambda: each(cast("float16"), "float16", "uint8"), PORTABLE),
    "convert-int32-int64": (lambda: each(cast("int64"), "int64", "int32"), PORTABLE),
    "convert-float32-bool": (lambda: each(cast("bool"), "bool", "float32"), PORTABLE),
    "vectors-float16x8": (
        lambda: each(of_floats, "float16", "float16", "float16", lanes=8),
        PORTABLE,
    ),
    "vectors-float32x3": (lambda: each(of_floats, "float32", "float32", "float32", lanes=3), BARE),
    "vectors-int8x4": (
        lambda: each(lambda a, b: a * b + a, "int8", "int8", "int8", lanes=4),
        BARE,
    ),
    "if": (lambda: rules.branches, BARE),
    "if-guards-a-load": (lambda: rules.guarded, BARE),
    "for-nested": (lambda: rules.nested_loops, BARE),
    "while-break": (lambda: rules.halving, BARE),
    "for-break-continue": (lambda: rules.leaving, BARE),
    "shared-memory-barrier": (lambda: rules.mirrored, BARE),
    "packed-bytes-as-words": (lambda: rules.bytes_as_words, BARE),
    "packed-bytes-apart": (lambda: rules.bytes_apart, PORTABLE),
    "dp4a-native": (lambda: rules.dot_of_bytes, DOT),
    "dp4a-emulated": (lambda: rules.dot_of_bytes, BARE),
    "dp4a-unsigned-vectors": (lambda: rules.dot_of_vectors, DOT),
    "dp4a-signed-unsigned": (lambda: rules.dot_of_both, DOT),
    "reinterpret-bytes-int32x4": (lambda: rules.words_of_bytes, BARE),
    "reinterpret-int32x2-float16x4": (lambda: rules.halves_of_words, PORTABLE),
    "reinterpret-bytes-int64": (lambda: rules.long_of_bytes, PORTABLE),
    "scalars-push-constants": (lambda: rules.scaled(3), BARE),
    "scalars-uniform-buffer": (lambda: rules.scaled(rules.MANY), BARE),
    "subgroup-sum": (lambda: reduced_rows(te.sum, "float16", 256, 128, "whole"), SUBGROUP),
    "shared-memory-sum": (lambda: reduced_rows(te.sum, "float32", 64, 32, "whole"), BARE),
    "cooperative-matrix": (lambda: matrix_product("float16", "float32"), COOPMAT),
    "mathematics": (lambda: each(mathematics, "float32", "float32"), BARE),
}
MATRICES = {**COOPMAT, "mattr": ["coopmat-8x8x8", "subgroup-8"]}
LAYOUT = Layout(4, 2, 16)
CONTEXT = 64


def matmul(scheme: str, rows: int | None, target: Mapping[str, Any]) -> tirx.PrimFunc:
    product = Product(scheme, 64, 96, target)
    return product.scheduled(product.function(rows))


def decoding(rows: int | str) -> tirx.PrimFunc:
    """Attention of `rows` new positions to a cache of float16."""
    shapes = key_shape(2, CONTEXT, 16), (2, CONTEXT, 16)
    func = written(
        lambda qkv, table, pos, *cache: rotary.causal_attention(qkv, table, cache, pos, LAYOUT),
        ((rows, LAYOUT.width), "float32"),
        ((CONTEXT, 16), "float32"),
        ((), "int64"),
        *((shape, "float16") for shape in shapes),
    )
    return scheduled(func)[0]


def rms_norm() -> tirx.PrimFunc:
    shapes = (("m", 416), "float32"), ((416,), "float32")
    return scheduled(written(lambda x, w: norm.rms_norm(x, w, 1e-5), *shapes))[0]


def gate() -> tirx.PrimFunc:
    return scheduled(written(exponential.silu_gate, (("m", 26), "float32")))[0]


def heads_norm() -> tirx.PrimFunc:
    shapes = (("m", 80), "float32"), ((48,), "float32")
    return scheduled(written(lambda x, w: norm.head_norm(x, w, 16, 64, 1e-6), *shapes))[0]


def convolution() -> tirx.PrimFunc:
    with tvm_target(PORTABLE):
        return scheduled(gpu_causal_conv.conv_writer(100, 72, 4))[0]


def recurrence(products: int) -> tirx.PrimFunc:
    with tvm_target(PORTABLE):
        func = gpu_delta_rule.delta_writer(Heads(2, 4, 64, 16))
        return scheduled(func, Written({"products": products, "chunk": 8}))[0]


SCHEDULES: dict[str, Made] = {
    "schedule-matmul-f16": (lambda: matmul("f16", None, PORTABLE), PORTABLE),
    "schedule-one-row-w4": (lambda: matmul("w4", 1, PORTABLE), PORTABLE),
    "schedule-one-row-w4-subgroups": (lambda: matmul("w4", 1, EIGHT), EIGHT),
    "schedule-dot-w8a8": (lambda: matmul("w8a8", None, DOT), DOT),
    "schedule-dot-one-row-w4a8": (lambda: matmul("w4a8", 1, DOT), DOT),
    "schedule-matrix-f16": (lambda: matmul("f16", None, MATRICES), MATRICES),
    "schedule-attention-decode": (lambda: decoding(1), PORTABLE),
    "schedule-attention-prefill": (lambda: decoding("s"), PORTABLE),
    "schedule-rows-rms-norm": (rms_norm, PORTABLE),
    "schedule-rows-head-norm": (heads_norm, PORTABLE),
    "schedule-recurrence-convolution": (convolution, PORTABLE),
    "schedule-recurrence-delta-rule": (lambda: recurrence(0), PORTABLE),
    "schedule-recurrence-delta-rule-in-products": (lambda: recurrence(1), PORTABLE),
    "schedule-elementwise-silu-gate": (gate, PORTABLE),
}
