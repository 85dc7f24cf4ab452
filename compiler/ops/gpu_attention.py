"""Attention on a GPU: a loop nest for workgroups, plus a merge kernel for split positions."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from handglass.schedules.cpu.attention_shape import Limit
from handglass.schedules.loops import spatial
from handglass.schedules.rule import MULTIPLY_ADDS, PATTERN, SEEN

from .attention_rows import Rows
from .exponential import LOG2_E
from .gpu_attention_nest import attention_nest
from .gpu_attention_steps import Operands
from .index_type import int64
from .lazy import Lazy
from .loops import bound
from .short_vectors import f32
from .workgroup import LOWEST, Workgroup


def attend(
    q: Lazy,
    keys: te.Tensor,
    values: Lazy,
    scales: tuple[te.Tensor, ...],
    scale: float,
    limit: Limit,
) -> te.Tensor:
    """Unscaled q (s, h, d) -> (s, h * d); the other arguments are those of `attention`.

    If one workgroup per kv head would leave most of the GPU idle, several workgroups take a part of
    the positions each, and a second kernel merges their results.
    """
    s, h, d = int64(q.shape[0]), int(q.shape[1]), int(q.shape[2])
    heads = int(keys.shape[0])
    group = h // heads
    shape = Workgroup.of(s * group, d)
    splits = shape.splits(s * group, heads, values.shape[1])
    inputs = _distinct([*q.inputs, keys, *values.inputs, *scales])

    def rows(ins: Sequence[tirx.Buffer]) -> Rows:
        buffers = dict(zip(inputs, ins, strict=True))
        return Rows(s, group, d, limit, q.read([buffers[t] for t in q.inputs]), scale * LOG2_E)

    def nest(ins: Sequence[tirx.Buffer], outs: Sequence[tirx.Buffer]) -> tirx.Stmt:
        buffers = dict(zip(inputs, ins, strict=True))
        read = values.read([buffers[t] for t in values.inputs])
        stored = tuple(buffers[t] for t in scales)
        operands = Operands(rows(ins), buffers[keys], read, stored, tuple(outs))
        return attention_nest(shape, splits, operands)

    work = [h * d, s, limit(int64(0)) + limit(s - 1)]  # as on the CPU: attention_tiles.py
    attrs = {
        PATTERN: "attention",
        MULTIPLY_ADDS: work,
        SEEN: [limit(s - 1), values.shape[1]],
    }
    if splits == 1:
        return _extern([(s, h * d)], inputs, nest, attrs)
    partial = [(splits, heads, shape.tile, d), (splits, heads, shape.tile, 2)]
    parts = _extern(partial, inputs, nest, attrs)
    return _extern(
        [(s, h * d)],
        list(parts),
        lambda ins, outs: _merge(Rows(s, group, d, limit, None, 1.0), ins, outs[0]),
        {PATTERN: "merge"},
    )


def _extern(shapes: list, inputs: list[te.Tensor], nest, attrs: dict):
    """A hand-written nest. Its buffers have no element offset, which would be one more scalar
    argument each."""
    whole = lambda shape, dtype: tirx.decl_buffer(shape, dtype, layout=None)  # noqa: E731
    return te.extern(
        shapes,
        inputs,
        nest,
        name=attrs[PATTERN],
        dtype=["float32"] * len(shapes),
        in_buffers=[whole(tensor.shape, tensor.dtype) for tensor in inputs],
        out_buffers=[whole(shape, "float32") for shape in shapes],
        attrs=attrs,
    )


def _distinct(tensors: Sequence[te.Tensor]) -> list[te.Tensor]:
    return list(dict.fromkeys(tensors))


def _merge(rows: Rows, parts: Sequence[tirx.Buffer], out: tirx.Buffer) -> tirx.Stmt:
    """Merge the parts relative to a common maximum: a workgroup per row, a thread per column.

    `parts` are the sums (parts, kv heads, rows, d), and (parts, kv heads, rows, 2) with the maximum
    of each row and the sum of its weights.
    """
    sums, marks = parts
    splits, heads, tile, d = map(int, sums.shape)
    threads = max(n for n in range(1, min(d, 128) + 1) if d % n == 0)
    with (
        IRBuilder() as ib,
        bound(int64(tile), "blockIdx.x") as row,
        bound(int64(heads), "blockIdx.y") as head,
        bound(int64(threads), "threadIdx.x") as thread,
        T.sblock("merging"),
    ):
        vr, vh = spatial(tile, row), spatial(heads, head)
        vt = spatial(threads, thread)
        most, total, value = (T.sblock_alloc_buffer((1,), "float32", scope="local") for _ in "mtv")
        T.buffer_store(most, f32(LOWEST), [0])
        with T.unroll(int64(0), int64(splits)) as part:
            T.buffer_store(most, tirx.max(most[0], marks[part, vh, vr, 0]), [0])
        with T.serial(int64(0), int64(d // threads)) as k:
            e = k * threads + vt
            T.buffer_store(total, f32(0), [0])
            T.buffer_store(value, f32(0), [0])
            with T.unroll(int64(0), int64(splits)) as part:
                weight = tirx.exp2(marks[part, vh, vr, 0] - most[0])
                T.buffer_store(total, total[0] + weight * marks[part, vh, vr, 1], [0])
                T.buffer_store(value, value[0] + weight * sums[part, vh, vr, e], [0])
            rows.store(out, vh, vr, e, value[0] / total[0])
    return ib.get()
