"""Attention on a GPU: a loop nest for workgroups, plus a merge kernel for split positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import te, tirx
from tvm.ir import Expr
from tvm.target import Target

from handglass.schedules.cpu.attention_shape import Limit
from handglass.schedules.gpu.attention_buffers import Operands
from handglass.schedules.gpu.attention_merge import merge_nest
from handglass.schedules.gpu.attention_nest import attention_nest
from handglass.schedules.gpu.attention_rows import Read, Rows
from handglass.schedules.gpu.attention_workgroup import Bounds, Workgroup
from handglass.schedules.rule import MULTIPLY_ADDS, PATTERN, ROUNDED, SEEN

from .exponential import LOG2_E
from .index_type import int64
from .lazy import Lazy


def attend(
    q: Lazy,
    keys: te.Tensor,
    values: Lazy,
    scales: tuple[te.Tensor, ...],
    scale: float,
    limit: Limit,
    rounded: bool = False,
) -> te.Tensor:
    """Unscaled q (s, h, d) -> (s, h * d); the other arguments are those of `attention`. `rounded`:
    operands may be rounded to 16 bits.

    If one workgroup per kv head would leave most of the GPU idle, several workgroups take a part of
    the positions each, and a second kernel merges their results.
    """
    s, h, d = int64(q.shape[0]), int(q.shape[1]), int(q.shape[2])
    limit = _in_expressions(limit)
    heads = int(keys.shape[0])
    group = h // heads
    shape = Workgroup.of(s * group, d, Bounds.of(Target.current(allow_none=True)))
    splits = shape.splits(s * group, heads, values.shape[1])
    inputs = _distinct([*q.inputs, keys, *values.inputs, *scales])
    rows = Rows(s, group, d, limit)

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> tirx.Stmt:
        buffers = dict(zip(inputs, ins, strict=True))
        read = values.read([buffers[t] for t in values.inputs])
        stored = tuple(buffers[t] for t in scales)
        query = _scaled(q.read([buffers[t] for t in q.inputs]), rows, scale)
        operands = Operands(rows, query, buffers[keys], read, stored, tuple(outs))
        return attention_nest(shape, splits, operands)

    work = [h * d, s, limit(int64(0)) + limit(s - 1)]  # as on the CPU: attention_tiles.py
    attrs = {
        PATTERN: "attention",
        MULTIPLY_ADDS: work,
        SEEN: [limit(s - 1), values.shape[1]],
        **({ROUNDED: 1} if rounded else {}),
    }
    if splits == 1:
        return _extern([(s, h * d)], inputs, nest, attrs)
    partial = [(splits, heads, shape.tile, d), (splits, heads, shape.tile, 2)]
    parts = _extern(partial, inputs, nest, attrs)
    return _extern(
        [(s, h * d)],
        list(parts),
        lambda ins, outs: merge_nest(rows, ins, outs[0]),
        {PATTERN: "merge"},
    )


def _in_expressions(limit: Callable[[Expr], Expr | int]) -> Limit:
    """A limit that is a number, where all sizes are, as an expression."""

    def expression(query: Expr) -> Expr:
        found = limit(query)
        return int64(found) if isinstance(found, int) else found

    return expression


def _scaled(read: Read, rows: Rows, scale: float) -> Read:
    """(kv head, row, column) -> element of the query, scaled so that exp becomes exp2."""
    factor = tirx.const(scale * LOG2_E, "float32")
    return lambda head, row, e: (
        read(rows.query_of(row), head * rows.group + row % rows.group, e) * factor
    )


def _extern(shapes: list, inputs: list[te.Tensor], nest, attrs: dict):
    """A hand-written nest. Its buffers have no element offset, which would be one more scalar
    argument each; their names, which messages show, are those of the tensors."""
    whole = lambda shape, dtype, name: tirx.decl_buffer(shape, dtype, name, layout=None)  # noqa: E731
    made = ("attended",) if len(shapes) == 1 else ("sums", "marks")
    return te.extern(
        shapes,
        inputs,
        nest,
        name=attrs[PATTERN],
        dtype=["float32"] * len(shapes),
        in_buffers=[whole(tensor.shape, tensor.dtype, tensor.op.name) for tensor in inputs],
        out_buffers=[whole(shape, "float32", n) for shape, n in zip(shapes, made, strict=True)],
        attrs=attrs,
    )


def _distinct(tensors: Sequence[te.Tensor]) -> list[te.Tensor]:
    return list(dict.fromkeys(tensors))
