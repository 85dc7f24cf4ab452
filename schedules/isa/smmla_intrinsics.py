"""Tensor intrinsics for SMMLA on tiles of row pairs by output pairs.

16 bytes of a row pair and 16 bytes of the weights of two outputs give a square of 2 x 2 sums. The
sums of a tile stay in squares during the reduction; smmla_squares.py rearranges them into rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .integer_isa import CHUNK_STEPS, IntegerIsa
from .intrinsic_parts import extents_of, whole
from .smmla_instructions import PORTABLE_SDOT, PORTABLE_SMMLA, Multiply, sdot, smmla
from .smmla_one_row import halves


def intrinsic(
    isa: IntegerIsa, bits: int, rows: int, columns: int, emulate: bool = False, ahead: int = 0
) -> str:
    """Register the intrinsic for tiles of `rows` x `columns` and return its name.

    `ahead` is the prefetch distance of a single row in steps; for `emulate` see dot_intrinsics.py.
    """
    name = f"handglass.pair.{bits}bit.{rows}x{columns}.{ahead}{'.emulated' if emulate else ''}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        if rows == 1:
            made = halves(PORTABLE_SDOT if emulate else sdot, ahead)
        else:
            reads = _group(columns) if bits == 4 else _chunk(columns)
            tile = _Tile(rows // 2, columns // 2, reads)
            made = tile.description(), tile.implementation(PORTABLE_SMMLA if emulate else smmla)
        TensorIntrin.register(name, *made)
    return name


@dataclass(frozen=True)
class _Weights:
    """How 32 inputs of the weights of a tile are stored: four operands for each pair of outputs."""

    shape: tuple[int, ...]
    loops: tuple[int, ...]
    """Extents of the loops over the 32 inputs."""
    product: Callable[..., Expr]
    """(rows, weights, i, b, q, *loops) -> a product."""
    places: tuple[tuple[int, ...], ...]
    """The first axes of each operand, in the order of the inputs' eighths."""
    inner: int
    """Axes after the outputs."""

    def strides(self) -> list:
        """Outputs and inputs are dense; steps may lie any distance from each other."""
        dense = [4, 1] if self.inner == 2 else [1]
        outputs = self.shape[-1] * (self.shape[-2] if self.inner == 2 else 1)
        steps = len(self.shape) - self.inner - 1
        return [*(tirx.Var(f"t{n}", "int64") for n in range(steps)), outputs, *dense]

    def operand(self, w, eighth: int, b: int) -> Expr:
        return w.vload([*self.places[eighth], b * 2, *[0] * self.inner], "int8x16")


def _group(columns: int) -> _Weights:
    """A group of unpacked nibbles (compiler/ops/nibble_operands.py)."""

    def product(x, w, i, b, q, h, v, u, e) -> Expr:
        code = w[h, v, b * 2 + q % 2, u, e]
        return T.Cast("int32", x[h * 2 + v, i, q // 2 * 8 + u * 4 + e]) * T.Cast("int32", code)

    places = ((0, 0), (0, 1), (1, 0), (1, 1))
    return _Weights((2, 2, columns, 2, 4), (2, 2, 2, 4), product, places, inner=2)


def _chunk(columns: int) -> _Weights:
    """A chunk of bytes."""

    def product(x, w, i, b, q, v, e) -> Expr:
        code = w[v, b * 2 + q % 2, e]
        return T.Cast("int32", x[v, i, q // 2 * 8 + e]) * T.Cast("int32", code)

    places = tuple((v,) for v in range(CHUNK_STEPS))
    return _Weights((CHUNK_STEPS, columns, 8), (CHUNK_STEPS, 8), product, places, inner=1)


@dataclass(frozen=True)
class _Tile:
    """Sums of `pairs` row pairs and `columns` output pairs over 32 inputs."""

    pairs: int
    columns: int
    weights: _Weights

    def _match(self, handles: Sequence[tirx.Var]) -> tuple[tirx.Buffer, ...]:
        rows, weights, sums = handles
        w = self.weights
        return (
            T.match_buffer(rows, (4, self.pairs, 16), "int8", offset_factor=1),
            T.match_buffer(weights, w.shape, "int8", offset_factor=1, strides=w.strides()),
            T.match_buffer(sums, (self.pairs, self.columns, 4), "int32", offset_factor=1),
        )

    def description(self) -> tirx.PrimFunc:
        match, product = self._match, self.weights.product
        extents = extents_of(self.pairs, self.columns, 4, *self.weights.loops)
        kinds = "SSS" + "R" * len(self.weights.loops)

        @T.prim_func(s_tir=True)
        def description(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
            x, w, c = match((x_rows, weights, sums))
            with T.sblock("root"):
                T.reads(whole(c), whole(x), whole(w))
                T.writes(whole(c))
                for loops in T.grid(*extents):
                    with T.sblock("dot"):
                        at = T.meta_var(T.axis.remap(kinds, loops))
                        T.buffer_store(c, c[tuple(at[:3])] + product(x, w, *at), at[:3])

        return description

    def implementation(self, multiply: Multiply) -> tirx.PrimFunc:
        """The vectorised body, unrolled with constant indices, so that LLVM keeps the squares in
        registers."""
        match, pairs, columns = self._match, self.pairs, self.columns
        multiply_all = self._multiply_all(multiply)

        @T.prim_func(s_tir=True)
        def implementation(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
            x, w, c = match((x_rows, weights, sums))
            with T.sblock("root"):
                T.reads(whole(c), whole(x), whole(w))
                T.writes(whole(c))
                acc = T.alloc_buffer((pairs, columns, 4), "int32", scope="local")
                multiply_all(x, w, c, acc)

        return implementation

    def _multiply_all(self, multiply: Multiply) -> Callable[..., None]:
        everywhere = [(i, b) for b in range(self.columns) for i in range(self.pairs)]
        square = lambda i, b: [i, b, T.ramp(0, 1, 4)]  # noqa: E731

        def multiply_all(x, w, c, acc) -> None:
            for i, b in everywhere:
                T.buffer_store(acc, c.vload([i, b, 0], "int32x4"), square(i, b))
            for eighth in self._order():
                for i, b in everywhere:
                    rows = x.vload([eighth, i, 0], "int8x16")
                    outputs = self.weights.operand(w, eighth, b)
                    sums = multiply(acc.vload([i, b, 0], "int32x4"), rows, outputs)
                    T.buffer_store(acc, sums, square(i, b))
            for i, b in everywhere:
                T.buffer_store(c, acc.vload([i, b, 0], "int32x4"), square(i, b))

        return multiply_all

    def _order(self) -> list[int]:
        """Eighths in the order of use: both nibbles of a byte in turn, of bytes ascending."""
        return [0, 2, 1, 3] if self.weights.inner == 2 else [0, 1, 2, 3]
