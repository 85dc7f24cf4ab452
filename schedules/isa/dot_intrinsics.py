"""Tensor intrinsics for `dot.py`: x (rows, inputs) times a panel or a part of one -> sums.

The description is the operator's loop nest, the implementation the same in vectors. The sums of all
rows stay in registers during the reduction, so each weight is loaded and unpacked once for all
rows.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from functools import reduce

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .dot_instructions import Instruction, instruction
from .integer_isa import Codes, IntegerIsa
from .intrinsic_parts import extents_of, whole
from .register_tiles import LANES


@dataclass(frozen=True)
class Shape:
    """What one intrinsic covers; a single row and a single step have no axis."""

    codes: Codes
    rows: int
    steps: int
    columns: int = LANES
    unpacked: bool = False
    """Whether nibbles were unpacked to bytes, the halves of a group one after the other."""

    @property
    def half(self) -> int:
        """Distance in inputs between the low and the high nibble of a byte."""
        return self.steps * self.codes.step

    def row(self, i, *rest) -> list:
        return [i, *rest] if self.rows > 1 else [*rest]

    @property
    def x(self) -> list[int]:
        return self.row(self.rows, self.codes.halves * self.half)

    @property
    def weights(self) -> list[int]:
        return [*self.of_half(2), *self.step(self.steps), self.columns, self.codes.step]

    def of_half(self, h) -> list:
        return [h] if self.unpacked else []

    def weight_strides(self, half, stride) -> list:
        """Strides of the weights in a panel that may be wider than the tile."""
        return [*self.of_half(half), *self.step(stride), self.codes.step, 1]

    def step(self, v) -> list:
        return [v] if self.steps > 1 else []

    def place(self, v) -> tuple:
        """The first weight of step v, which may be beyond the tile: a panel is contiguous."""
        return (v, 0, 0) if self.steps > 1 else (v * LANES, 0)

    @property
    def axes(self) -> dict[str, int]:
        """Loops of the description by name, outermost first."""
        extents = {"i": self.rows, "j": self.columns, "h": self.codes.halves, "v": self.steps}
        return {n: e for n, e in extents.items() if e > 1} | {"e": self.codes.step}


@dataclass(frozen=True)
class Inner:
    """What differs from the defaults of the instruction; None: nothing."""

    prefetch: int | None = None
    together: int | None = None

    def applied(self, use: Instruction) -> Instruction:
        prefetch = use.prefetch if self.prefetch is None else self.prefetch
        together = use.together if self.together is None else self.together
        return replace(use, prefetch=prefetch, together=together)


def intrinsic(
    isa: IntegerIsa,
    bits: int,
    rows: int,
    columns: int = LANES,
    emulate: bool = False,
    inner: Inner = Inner(),
    unpacked: bool = False,
) -> str:
    """Register the intrinsic for tiles of `rows` x `columns` and return its name.

    `unpacked`: nibbles are bytes already (compiler/ops/nibble_operands.py).

    `emulate` replaces the machine instruction by portable arithmetic and changes nothing else, so
    that code for one instruction set can be tested on machines that lack it.
    """
    use = inner.applied(instruction(isa, bits, emulate))
    order = f"{use.prefetch}.{use.together}{'.emulated' if emulate else ''}"
    kind = "unpacked" if unpacked else f"{bits}bit"
    name = f"handglass.dot.{isa.name}.{kind}.{rows}x{columns}.{order}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        shape = Shape(isa.codes(bits), rows, use.steps, columns, unpacked)
        TensorIntrin.register(name, _description(shape), _implementation(shape, isa.lanes, use))
    return name


def prefetch(buffer: tirx.Buffer, place: tuple) -> Expr:
    """Prefetch the cache line of an element: for reading, high locality, data cache."""
    line = T.address_of(buffer[place])
    name = T.llvm_lookup_intrinsic_id("llvm.prefetch.p0")
    return T.call_llvm_intrin(name, line, T.int32(0), T.int32(3), T.int32(1), dtype="void")


Operands = tuple[tirx.Buffer, tirx.Buffer, tirx.Buffer]


def _match(shape: Shape, handles: tuple[tirx.Var, tirx.Var, tirx.Var]) -> Operands:
    """Buffers of the rows, the weights and the sums behind the arguments of an intrinsic."""
    codes, (rows, weights, sums) = shape.codes, handles
    stride, step_stride = tirx.Var("stride", "int64"), tirx.Var("step_stride", "int64")
    w_strides = shape.weight_strides(tirx.Var("half_stride", "int64"), step_stride)
    x_strides = shape.row(stride, 1)
    dtype = codes.nibble_dtype if shape.unpacked else codes.dtype
    x = T.match_buffer(rows, shape.x, codes.activation, offset_factor=1, strides=x_strides)
    w = T.match_buffer(weights, shape.weights, dtype, offset_factor=1, strides=w_strides)
    c = T.match_buffer(sums, shape.row(shape.rows, shape.columns), "int32", offset_factor=1)
    return x, w, c


def _description(shape: Shape) -> tirx.PrimFunc:
    codes = shape.codes
    extents = extents_of(*shape.axes.values())
    kinds = "".join("S" if name in "ij" else "R" for name in shape.axes)

    def sums_at(axes: list) -> list:
        at = dict(zip(shape.axes, axes, strict=True))
        return shape.row(at.get("i"), at["j"])

    def product(x, w, axes: list) -> Expr:
        at = dict(zip(shape.axes, axes, strict=True))
        sizes = {"h": shape.half, "v": codes.step, "e": 1}
        inputs = [at[name] * size for name, size in sizes.items() if name in at]
        x_place = tuple(shape.row(at.get("i"), reduce(operator.add, inputs)))
        w_place = (*shape.of_half(at.get("h")), *shape.step(at.get("v")), at["j"], at["e"])
        packed = codes.bits == 4 and not shape.unpacked
        code = codes.nibble(w[w_place], at["h"]) if packed else w[w_place]
        return T.Cast("int32", x[x_place]) * T.Cast("int32", code)

    @T.prim_func(s_tir=True)
    def description(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(shape, (x_rows, weights, sums))
        with T.sblock("root"):
            T.reads(whole(c), whole(x), whole(w))
            T.writes(whole(c))
            for loops in T.grid(*extents):
                with T.sblock("dot"):
                    axes = T.meta_var(T.axis.remap(kinds, loops))
                    T.buffer_store(c, c[tuple(sums_at(axes))] + product(x, w, axes), sums_at(axes))

    return description


def _together(rows: int, most: int) -> int:
    """The largest divisor of `rows` up to `most`."""
    return max(n for n in range(1, most + 1) if rows % n == 0)


def _implementation(shape: Shape, lanes: int, use: Instruction) -> tirx.PrimFunc:
    """The vectorised body. All indices into `acc` are constant: LLVM keeps sums in registers."""
    codes, rows, vectors = shape.codes, shape.rows, shape.columns // lanes
    narrow, width = use.sums.split("x")[0], int(use.sums.split("x")[1])
    # LLVM reorders unrolled code for several rows until all unpacked weights of a chunk are live at
    # once and spill: 147 against 177 GOP/s on one core (AVX2, nibbles, 6 rows).
    steps = T.unroll if rows == 1 or use.together else T.serial
    together = _together(rows, use.together) if use.together else rows
    ahead = use.prefetch if rows == 1 else 0
    # Both nibbles of a byte are used at once; of unpacked ones, a half needs half of the rows.
    halves = codes.halves if shape.unpacked else 1
    # A loop over the steps of one half is short enough for LLVM to unroll it, and its sums spill.
    merged = halves if steps is T.serial else 1

    def half_of(half, step, nibble) -> Expr:
        return step // shape.steps if merged > 1 else half if shape.unpacked else nibble

    def sums(c, i, b) -> Expr:
        return c.vload(shape.row(i, b * lanes), f"int32x{lanes}")

    def start(c, i, b) -> Expr:
        return T.broadcast(tirx.const(0, narrow), width) if use.widen else sums(c, i, b)

    def finish(c, i, b, acc) -> Expr:
        return sums(c, i, b) + use.widen(acc) if use.widen else acc

    def weight(w, v, b, h) -> Expr:
        count = lanes * codes.step
        place = [*shape.of_half(h), *shape.step(v), b * lanes, 0]
        if shape.unpacked:
            return w.vload(place, f"{codes.nibble_dtype}x{count}")
        vector = w.vload(place, f"{codes.dtype}x{count}")
        return codes.nibble(vector, h, count) if codes.bits == 4 else vector

    @T.prim_func(s_tir=True)
    def implementation(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(shape, (x_rows, weights, sums))
        with T.sblock("root"):
            T.reads(whole(c), whole(x), whole(w))
            T.writes(whole(c))
            acc = T.alloc_buffer((rows, vectors, width), narrow, scope="local")
            for i in T.unroll(rows):
                for b in T.unroll(vectors):
                    acc[i, b, T.ramp(0, 1, width)] = start(c, i, b)
            for first in T.unroll(rows // together):
                for half in T.unroll(halves // merged):
                    for step in steps(merged * shape.steps):
                        v = T.meta_var(step % shape.steps if merged > 1 else step)
                        if ahead > 0:
                            T.evaluate(prefetch(w, shape.place(v + ahead)))
                        for nibble in T.unroll(codes.halves // halves):
                            for second in T.unroll(together):
                                for b in T.unroll(vectors):
                                    i = T.meta_var(first * together + second)
                                    h = T.meta_var(half_of(half, step, nibble))
                                    acc[i, b, T.ramp(0, 1, width)] = use.multiply(
                                        acc[i, b, T.ramp(0, 1, width)],
                                        weight(w, v, b, h),
                                        use.spread(x, shape.row(i, h * shape.half), v),
                                    )
            for i in T.unroll(rows):
                for b in T.unroll(vectors):
                    T.buffer_store(
                        c,
                        finish(c, i, b, acc[i, b, T.ramp(0, 1, width)]),
                        shape.row(i, T.ramp(b * lanes, 1, lanes)),
                    )

    return implementation
