"""Tensor intrinsics for SMMLA: (2 rows, 8 inputs) x (8 inputs, 2 outputs) -> 2 x 2 sums.

Source: Arm ARM C7, SMMLA (vector). Both operands are row-major: 16 bytes of a row pair, and 16
bytes of the weights of two outputs. The sums of a tile stay in 2 x 2 squares during the reduction;
`squares_to_rows` rearranges them into rows. For a single row, SDOT takes eight inputs of two
outputs and leaves each sum in two halves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .dot_intrinsics import prefetch
from .integer_isa import CHUNK_STEPS, Codes, IntegerIsa
from .register_tiles import LANES

LINE = 64
"""Bytes of a cache line."""

Multiply = Callable[[Expr, Expr, Expr], Expr]
"""(four sums, 16 bytes, 16 bytes) -> four sums."""


def _call(name: str, sums: Expr, a: Expr, b: Expr) -> Expr:
    number = T.llvm_lookup_intrinsic_id(name)
    return T.call_llvm_pure_intrin(number, sums, a, b, dtype="int32x4")


def smmla(sums: Expr, rows: Expr, outputs: Expr) -> Expr:
    return _call("llvm.aarch64.neon.smmla.v4i32.v16i8", sums, rows, outputs)


def sdot(sums: Expr, weights: Expr, x: Expr) -> Expr:
    return _call("llvm.aarch64.neon.sdot.v4i32.v16i8", sums, weights, x)


def _portable(count: int, left: list[int], right: list[int]) -> Multiply:
    """Portable sums[i] += dot(a[left[i] : left[i] + count], b[right[i] : right[i] + count])."""

    def multiply(sums: Expr, a: Expr, b: Expr) -> Expr:
        for e in range(count):
            pick = lambda v, at, e=e: T.Cast(  # noqa: E731
                "int32x4", T.Shuffle([v], [tirx.const(n + e, "int32") for n in at])
            )
            sums = sums + pick(a, left) * pick(b, right)
        return sums

    return multiply


PORTABLE_SMMLA = _portable(8, [0, 0, 8, 8], [0, 8, 0, 8])
PORTABLE_SDOT = _portable(4, [0, 4, 8, 12], [0, 4, 8, 12])


def intrinsic(
    isa: IntegerIsa, bits: int, rows: int, columns: int, emulate: bool = False, ahead: int = 0
) -> str:
    """Register the intrinsic for tiles of `rows` x `columns` and return its name.

    `ahead` is the prefetch distance of a single row in steps; for `emulate` see dot_intrinsics.py.
    """
    name = f"handglass.pair.{bits}bit.{rows}x{columns}.{ahead}{'.emulated' if emulate else ''}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        codes = isa.codes(bits)
        if rows == 1:
            made = _halves(PORTABLE_SDOT if emulate else sdot, ahead)
        elif bits == 4:
            made = _nibbles(codes, rows // 2, columns // 2, PORTABLE_SMMLA if emulate else smmla)
        else:
            made = _bytes(rows // 2, columns // 2, PORTABLE_SMMLA if emulate else smmla)
        TensorIntrin.register(name, *made)
    return name


def squares_to_rows(rows: int, columns: int, dtype: str) -> str:
    """Name of the intrinsic that rearranges sums (rows/2, columns/2, 4) -> (rows/2, 2, columns)."""
    name = f"handglass.pair.rows.{rows}x{columns}.{dtype}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *_in_rows(rows // 2, columns // 2, dtype))
    return name


def add_scaled(rows: int, columns: int) -> str:
    """Name of the intrinsic that scales integer squares and adds them to float32 squares."""
    name = f"handglass.pair.scaled.{rows}x{columns}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *_scaled(rows // 2, columns // 2))
    return name


def _i64(*extents: int) -> list:
    """Extents as int64, as in Relax loops, which the description must match."""
    return [tirx.IntImm("int64", extent) for extent in extents]


def _whole(buffer):
    """The region that covers all of a buffer."""
    return buffer[tuple(slice(0, extent) for extent in buffer.shape)]


Argument = tuple[tirx.Var, Sequence[int], str]


def _match(*arguments: Argument) -> tuple[tirx.Buffer, ...]:
    """Buffers of (handle, shape, dtype); panels of weights may lie any distance from each other."""
    return tuple(
        T.match_buffer(handle, shape, dtype, offset_factor=1, strides=_strides(shape, number))
        for number, (handle, shape, dtype) in enumerate(arguments)
    )


def _strides(shape: Sequence[int], number: int) -> list | None:
    """Of the second argument, the weights: (steps, outputs, inputs) with any distance of steps."""
    return [tirx.Var("t", "int64"), shape[2], 1] if number == 1 else None


def _shuffle(vectors: list[Expr], places: list[int]) -> Expr:
    return T.Shuffle(vectors, [tirx.const(n, "int32") for n in places])


def _nibbles(codes: Codes, pairs: int, columns: int, multiply: Multiply) -> tuple:
    """A group of 32 inputs, weights in SDOT's layout: zipping two vectors gives two operands."""
    loops = _i64(pairs, columns, 4, 2, 2, 2, 4)

    def product(x, w, at: list) -> Expr:
        i, b, q, h, v, u, e = at
        code = codes.nibble(w[v * 2 + u, b * 2 + q % 2, e], h)
        return T.Cast("int32", x[h * 2 + v, i, q // 2 * 8 + u * 4 + e]) * T.Cast("int32", code)

    def operand(w, h: int, v: int, b: int) -> Expr:
        words = [
            T.reinterpret(w.vload([v * 2 + u, b // 2 * 4, 0], f"{codes.dtype}x16"), dtype="int32x4")
            for u in (0, 1)
        ]
        zipped = _shuffle(words, [0, 4, 1, 5] if b % 2 == 0 else [2, 6, 3, 7])
        return codes.nibble(
            T.reinterpret(zipped, dtype=f"{codes.dtype}x16"), tirx.const(h, "int32"), 16
        )

    steps = [
        (h * 2 + v, lambda w, b, h=h, v=v: operand(w, h, v, b)) for v in (0, 1) for h in (0, 1)
    ]
    shape = (4, 2 * columns, 4)
    described = _description(pairs, columns, shape, codes.dtype, "SSSRRRR", loops, product)
    return described, _implementation(pairs, columns, shape, codes.dtype, steps, multiply)


def _bytes(pairs: int, columns: int, multiply: Multiply) -> tuple:
    """A chunk of 32 inputs; 16 adjacent bytes are eight inputs of two outputs."""
    loops = _i64(pairs, columns, 4, CHUNK_STEPS, 8)

    def product(x, w, at: list) -> Expr:
        i, b, q, v, e = at
        return T.Cast("int32", x[v, i, q // 2 * 8 + e]) * T.Cast("int32", w[v, b * 2 + q % 2, e])

    steps = [(v, lambda w, b, v=v: w.vload([v, b * 2, 0], "int8x16")) for v in range(CHUNK_STEPS)]
    shape = (CHUNK_STEPS, 2 * columns, 8)
    described = _description(pairs, columns, shape, "int8", "SSSRR", loops, product)
    return described, _implementation(pairs, columns, shape, "int8", steps, multiply)


def _description(
    pairs: int, columns: int, shape: tuple, dtype: str, kinds: str, extents: list, product
) -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def description(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(
            (x_rows, (4, pairs, 16), "int8"),
            (weights, shape, dtype),
            (sums, (pairs, columns, 4), "int32"),
        )
        with T.sblock("root"):
            T.reads(_whole(c), _whole(x), _whole(w))
            T.writes(_whole(c))
            for loops in T.grid(*extents):
                with T.sblock("dot"):
                    at = T.meta_var(T.axis.remap(kinds, loops))
                    T.buffer_store(c, c[tuple(at[:3])] + product(x, w, at), at[:3])

    return description


def _implementation(
    pairs: int, columns: int, shape: tuple, dtype: str, steps: list, multiply: Multiply
) -> tirx.PrimFunc:
    """The vectorised body. `steps`: index of eight inputs, (weights, output pair) -> operand.

    Unrolled with constant indices, so that LLVM keeps the squares in registers.
    """

    def square(i: int, b: int) -> list:
        return [i, b, T.ramp(0, 1, 4)]

    def multiply_all(x, w, c, acc) -> None:
        everywhere = [(i, b) for b in range(columns) for i in range(pairs)]
        for i, b in everywhere:
            T.buffer_store(acc, c.vload([i, b, 0], "int32x4"), square(i, b))
        for eighth, operand in steps:
            for i, b in everywhere:
                rows = x.vload([eighth, i, 0], "int8x16")
                sums = multiply(acc.vload([i, b, 0], "int32x4"), rows, operand(w, b))
                T.buffer_store(acc, sums, square(i, b))
        for i, b in everywhere:
            T.buffer_store(c, acc.vload([i, b, 0], "int32x4"), square(i, b))

    @T.prim_func(s_tir=True)
    def implementation(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(
            (x_rows, (4, pairs, 16), "int8"),
            (weights, shape, dtype),
            (sums, (pairs, columns, 4), "int32"),
        )
        with T.sblock("root"):
            T.reads(_whole(c), _whole(x), _whole(w))
            T.writes(_whole(c))
            acc = T.alloc_buffer((pairs, columns, 4), "int32", scope="local")
            multiply_all(x, w, c, acc)

    return implementation


def _halves(multiply: Multiply, ahead: int) -> tuple:
    """One row, 32 inputs, a panel: eight inputs, repeated twice, times weights of two outputs."""
    extents, vectors = _i64(2 * LANES, CHUNK_STEPS, 4), LANES // 2

    @T.prim_func(s_tir=True)
    def description(row: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(
            (row, (32,), "int8"), (weights, (4, LANES, 8), "int8"), (sums, (2 * LANES,), "int32")
        )
        with T.sblock("root"):
            T.reads(_whole(c), _whole(x), _whole(w))
            T.writes(_whole(c))
            for q0, v0, e0 in T.grid(*extents):
                with T.sblock("dot"):
                    q, v, e = T.axis.remap("SRR", [q0, v0, e0])
                    c[q] = c[q] + T.Cast("int32", x[v * 8 + q % 2 * 4 + e]) * T.Cast(
                        "int32", w[v, q // 2, q % 2 * 4 + e]
                    )

    def twice(x, v: int) -> Expr:
        eight = T.reinterpret(x.vload([v * 8], "int8x8"), dtype="int64")
        return T.reinterpret(T.broadcast(eight, 2), dtype="int8x16")

    def multiply_all(x, w, c, acc) -> None:
        for b in range(vectors):
            T.buffer_store(acc, c.vload([4 * b], "int32x4"), [T.ramp(4 * b, 1, 4)])
        for v in range(CHUNK_STEPS):
            for line in range(0, LANES, LINE // 8) if ahead else ():
                T.evaluate(prefetch(w, (v + ahead, line, 0)))
            for b in range(vectors):
                sums = acc.vload([4 * b], "int32x4")
                sums = multiply(sums, w.vload([v, 2 * b, 0], "int8x16"), twice(x, v))
                T.buffer_store(acc, sums, [T.ramp(4 * b, 1, 4)])
        for b in range(vectors):
            T.buffer_store(c, acc.vload([4 * b], "int32x4"), [T.ramp(4 * b, 1, 4)])

    @T.prim_func(s_tir=True)
    def implementation(row: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(
            (row, (32,), "int8"), (weights, (4, LANES, 8), "int8"), (sums, (2 * LANES,), "int32")
        )
        with T.sblock("root"):
            T.reads(_whole(c), _whole(x), _whole(w))
            T.writes(_whole(c))
            acc = T.alloc_buffer((2 * LANES,), "int32", scope="local")
            multiply_all(x, w, c, acc)

    return description, implementation


def _in_rows(pairs: int, columns: int, dtype: str) -> tuple:
    extents = _i64(pairs, 2, 2 * columns)

    @T.prim_func(s_tir=True)
    def description(squares: T.handle, rows: T.handle) -> None:
        a = T.match_buffer(squares, (pairs, columns, 4), dtype, offset_factor=1)
        c = T.match_buffer(rows, (pairs, 2, 2 * columns), dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(_whole(a))
            T.writes(_whole(c))
            for i0, r0, j0 in T.grid(*extents):
                with T.sblock("in_rows"):
                    i, r, j = T.axis.remap("SSS", [i0, r0, j0])
                    c[i, r, j] = a[i, j // 2, r * 2 + j % 2]

    def set_all(a, c) -> None:
        for i in range(pairs):
            for b in range(0, columns, 2):
                both = [a.vload([i, b + n, 0], f"{dtype}x4") for n in (0, 1)]
                for r, places in enumerate(([0, 1, 4, 5], [2, 3, 6, 7])):
                    T.buffer_store(c, _shuffle(both, places), [i, r, T.ramp(2 * b, 1, 4)])

    @T.prim_func(s_tir=True)
    def implementation(squares: T.handle, rows: T.handle) -> None:
        a = T.match_buffer(squares, (pairs, columns, 4), dtype, offset_factor=1)
        c = T.match_buffer(rows, (pairs, 2, 2 * columns), dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(_whole(a))
            T.writes(_whole(c))
            set_all(a, c)

    return description, implementation


def _scaled(pairs: int, columns: int) -> tuple:
    """float32 squares += integer squares * (scales of the rows * scales of the outputs)."""
    extents, f32 = _i64(pairs, columns, 4), "float32"

    @T.prim_func(s_tir=True)
    def description(sums: T.handle, rows: T.handle, outputs: T.handle, total: T.handle) -> None:
        a = T.match_buffer(sums, (pairs, columns, 4), "int32", offset_factor=1)
        x = T.match_buffer(rows, (pairs, 4), f32, offset_factor=1)
        w = T.match_buffer(outputs, (2 * columns,), "float16", offset_factor=1)
        c = T.match_buffer(total, (pairs, columns, 4), f32, offset_factor=1)
        with T.sblock("root"):
            T.reads(_whole(c), _whole(a), _whole(x), _whole(w))
            T.writes(_whole(c))
            for i0, b0, q0 in T.grid(*extents):
                with T.sblock("scaled"):
                    i, b, q = T.axis.remap("SSS", [i0, b0, q0])
                    c[i, b, q] = c[i, b, q] + T.Cast(f32, a[i, b, q]) * (
                        x[i, q] * T.Cast(f32, w[b * 2 + q % 2])
                    )

    def scale(w, b: int) -> Expr:
        """Scales of outputs 2b and 2b + 1, for both rows."""
        four = T.Cast("float32x4", w.vload([b // 2 * 4], "float16x4"))
        return _shuffle([four], [0, 1, 0, 1] if b % 2 == 0 else [2, 3, 2, 3])

    def add_all(a, x, w, c) -> None:
        for i in range(pairs):
            for b in range(columns):
                factor = x.vload([i, 0], "float32x4") * scale(w, b)
                value = T.Cast("float32x4", a.vload([i, b, 0], "int32x4")) * factor
                T.buffer_store(c, c.vload([i, b, 0], "float32x4") + value, [i, b, T.ramp(0, 1, 4)])

    @T.prim_func(s_tir=True)
    def implementation(sums: T.handle, rows: T.handle, outputs: T.handle, total: T.handle) -> None:
        a = T.match_buffer(sums, (pairs, columns, 4), "int32", offset_factor=1)
        x = T.match_buffer(rows, (pairs, 4), f32, offset_factor=1)
        w = T.match_buffer(outputs, (2 * columns,), "float16", offset_factor=1)
        c = T.match_buffer(total, (pairs, columns, 4), f32, offset_factor=1)
        with T.sblock("root"):
            T.reads(_whole(c), _whole(a), _whole(x), _whole(w))
            T.writes(_whole(c))
            add_all(a, x, w, c)

    return description, implementation
