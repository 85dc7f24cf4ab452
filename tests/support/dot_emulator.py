"""Dot products of bfloat16 pairs on any CPU: by the instruction, or by portable arithmetic."""

from __future__ import annotations

from dataclasses import replace

from handglass.runtime.system.hardware import read_machine
from handglass.schedules.isa.bf16_dot import AVX512_BF16, FUNCTION

BFLOAT16_DOTS = {
    "kind": "llvm",
    "mtriple": "x86_64-linux-gnu",
    "mcpu": "x86-64-v4",
    "mattr": ["+avx512vnni", "+avx512bf16"],
}
"""As of AMD's CPUs since 2022."""
HAS_DOTS = "avx512_bf16" in read_machine().flags

HALF, UPPER = (f"<{', '.join([f'i32 {n}'] * 16)}>" for n in (16, -65536))
PORTABLE = f"""
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
define linkonce_odr <16 x float> @{FUNCTION}(
    <16 x float> %c, <16 x i32> %x, <16 x i32> %y) #0 {{
  %x1 = and <16 x i32> %x, {UPPER}
  %y1 = and <16 x i32> %y, {UPPER}
  %x0 = shl <16 x i32> %x, {HALF}
  %y0 = shl <16 x i32> %y, {HALF}
  %a1 = bitcast <16 x i32> %x1 to <16 x float>
  %b1 = bitcast <16 x i32> %y1 to <16 x float>
  %a0 = bitcast <16 x i32> %x0 to <16 x float>
  %b0 = bitcast <16 x i32> %y0 to <16 x float>
  %half = call <16 x float> @llvm.fma.v16f32(<16 x float> %a1, <16 x float> %b1, <16 x float> %c)
  %sums = call <16 x float> @llvm.fma.v16f32(<16 x float> %a0, <16 x float> %b0, <16 x float> %half)
  ret <16 x float> %sums
}}
attributes #0 = {{ alwaysinline }}
"""
"""The function without the instruction; the upper halves are multiplied first, as it does."""

DOT_HERE = AVX512_BF16 if HAS_DOTS else replace(AVX512_BF16, source=PORTABLE)
