"""The kernel that merges the results of workgroups which split the positions of attention."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from ..loops import bound, int64, spatial
from .attention_rows import Rows
from .attention_workgroup import LOWEST
from .short_vectors import f32


def merge_nest(rows: Rows, parts: Sequence[tirx.Buffer], out: tirx.Buffer) -> tirx.Stmt:
    """Merge the parts relative to a common maximum: a workgroup per row, a thread per column.

    `parts` are the sums (parts, kv heads, rows, d), and (parts, kv heads, rows, 2) with the maximum
    of each row and the sum of its weights.
    """
    with IRBuilder() as ib:
        write_merge(rows, parts, out)
    return ib.get()


def write_merge(rows: Rows, parts: Sequence[tirx.Buffer], out: tirx.Buffer) -> None:
    """Emit the statement of `merge_nest`."""
    sums, marks = parts
    splits, heads, tile, d = map(int, sums.shape)
    threads = max(n for n in range(1, min(d, 128) + 1) if d % n == 0)
    with (
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
