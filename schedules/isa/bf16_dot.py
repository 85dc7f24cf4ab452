"""Dot products of pairs of bfloat16, in vectors of 16 sums.

    sums (16,) += low(x) * low(y) + high(x) * high(y)    x, y: 16 words of two bfloat16

The instruction is `vdpbf16ps` of AVX-512 BF16, or four times `bfdot` of Armv8.6. Both take vectors
of bfloat16, whose loads TVM's passes would turn into float32. So they are behind a function of
words, in LLVM's language, that a kernel imports and LLVM inlines. Subnormal operands and results
may be zeros. Sources: Intel SDM vol. 2; Arm Architecture Reference Manual, C7.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.ir import Expr, StringImm
from tvm.tirx.script.builder import ir as T

LANES = 16
FUNCTION = "handglass_dot_bf16"
HEADER = f"""
define linkonce_odr <16 x float> @{FUNCTION}(<16 x float> %c, <16 x i32> %x, <16 x i32> %y) #0 {{
"""
FOOTER = """
  ret <16 x float> %sums
}
attributes #0 = { alwaysinline }
"""


@dataclass(frozen=True)
class Bf16Dot:
    """An instruction with dot products of bfloat16 pairs."""

    name: str
    feature: str
    """LLVM's name of the feature that has it."""
    source: str
    """The definition of FUNCTION in LLVM's language."""
    sums: tuple[int, ...]
    """Vectors of 16 sums that registers hold beside operands; the last is the default."""
    vectors: int
    """Vectors that a word of a row is multiplied with, by default: one where the instruction takes
    the word from memory."""


def _across(intrinsic: str, lanes: int) -> str:
    """FUNCTION by an instruction with as many sums as `lanes`, which divide 16."""
    floats, halves = f"<{lanes} x float>", f"<{2 * lanes} x bfloat>"
    lines = [f"declare {floats} @{intrinsic}({floats}, {halves}, {halves})", HEADER]
    for n in range(LANES // lanes):
        for name, dtype in (("c", "float"), ("x", "i32"), ("y", "i32")):
            lines.append(f"  %{name}{n} = {_part(f'%{name}', dtype, n * lanes, lanes)}")
        lines += [f"  %{p}{n}b = bitcast <{lanes} x i32> %{p}{n} to {halves}" for p in "xy"]
        operands = f"{floats} %c{n}, {halves} %x{n}b, {halves} %y{n}b"
        lines.append(f"  %s{n} = call {floats} @{intrinsic}({operands})")
    return "\n".join([*lines, *_joined(lanes)]) + FOOTER


def _part(vector: str, dtype: str, first: int, lanes: int) -> str:
    """Some lanes of a vector of 16."""
    order = ", ".join(f"i32 {first + lane}" for lane in range(lanes))
    whole = f"<{LANES} x {dtype}>"
    return f"shufflevector {whole} {vector}, {whole} poison, <{lanes} x i32> <{order}>"


def _joined(lanes: int) -> Iterator[str]:
    """Join the parts %s0, %s1, ... to %sums, in pairs."""
    parts = [f"%s{n}" for n in range(LANES // lanes)]
    if len(parts) == 1:
        yield f"  %sums = shufflevector <16 x float> %s0, <16 x float> poison, {_order(LANES)}"
    while len(parts) > 1:
        names = [f"%j{lanes}.{n}" if len(parts) > 2 else "%sums" for n in range(len(parts) // 2)]
        for name, low, high in zip(names, parts[::2], parts[1::2], strict=True):
            floats = f"<{lanes} x float>"
            yield f"  {name} = shufflevector {floats} {low}, {floats} {high}, {_order(2 * lanes)}"
        parts, lanes = names, 2 * lanes


def _order(lanes: int) -> str:
    return f"<{lanes} x i32> <{', '.join(f'i32 {n}' for n in range(lanes))}>"


AVX512_BF16 = Bf16Dot(
    "vdpbf16ps", "avx512bf16", _across("llvm.x86.avx512bf16.dpbf16ps.512", 16), (8, 16), vectors=1
)
BFDOT = Bf16Dot(
    "bfdot", "bf16", _across("llvm.aarch64.neon.bfdot.v4f32.v8bf16", 4), (2, 4), vectors=2
)
BF16_DOTS = (AVX512_BF16, BFDOT)


def find_bf16_dot(target: tvm.target.Target) -> Bf16Dot | None:
    """The instruction of a CPU target, if it has one."""
    has = tvm.get_global_func("target.target_has_feature")
    return next((dot for dot in BF16_DOTS if has(dot.feature, target)), None)


@contextmanager
def with_dot(source: str) -> Iterator[None]:
    """What is emitted inside may call `dot`, which `source` defines."""
    with T.attr(tirx.const(0, "int32"), "pragma_import_llvm", StringImm(source)):
        yield


def dot(sums: Expr, x: Expr, y: Expr) -> Expr:
    """`sums` (float32x16) plus the products of two vectors of pairs (uint32x16)."""
    return T.call_extern("float32x16", FUNCTION, sums, x, y)
