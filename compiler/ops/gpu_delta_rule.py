"""The gated delta rule on a GPU: a loop nest for workgroups.

A workgroup owns some columns of the state of one head, and keeps them in registers over all
positions: a thread has a part of the keys of one column. Queries, keys, values and gates of a few
positions at a time are in shared memory. With S before the update and d as in delta_rule.py,
    o = a S^T q + (k q) d
so the sums over the keys, of S^T k, S^T q and k q, need one exchange between threads per position.
"""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from .delta_rule import Heads
from .gpu_delta_share import Share
from .gpu_delta_steps import Operands, Task, advance


def delta_writer(heads: Heads) -> tirx.PrimFunc:
    """The same function as `delta_rule.delta_writer`."""
    h, e, f = heads.values, heads.key_dim, heads.value_dim
    first, share = 2 * heads.keys * e, Share.of(e, f)
    columns, tiles = share.columns, f // share.columns

    @T.prim_func(private=True, s_tir=True)
    def delta_rule(
        state: T.Buffer((T.int64(h), T.int64(e), T.int64(f)), "float32"),
        unit_handle: T.handle,
        mixed_handle: T.handle,
        gates_handle: T.handle,
        out_handle: T.handle,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        unit = T.match_buffer(unit_handle, (s, T.int64(first)), "float32")
        mixed = T.match_buffer(mixed_handle, (s, T.int64(heads.width)), "float32")
        gate = T.match_buffer(gates_handle, (s, T.int64(2 * h)), "float32")
        out = T.match_buffer(out_handle, (s, T.int64(h * f)), "float32")
        for tile in T.thread_binding(T.int64(tiles), "blockIdx.x"):
            for head in T.thread_binding(T.int64(h), "blockIdx.y"):
                for thread in T.thread_binding(T.int64(share.threads), "threadIdx.x"):
                    with T.sblock("delta"):
                        b = T.axis.spatial(T.int64(tiles), tile)
                        n = T.axis.spatial(T.int64(h), head)
                        x = T.axis.spatial(T.int64(share.threads), thread)
                        T.reads(
                            unit[0:s, 0:first], mixed[0:s, 0 : heads.width], gate[0:s, 0 : 2 * h]
                        )
                        T.writes(
                            state[n, 0:e, b * columns : b * columns + columns],
                            out[0:s, n * f + b * columns : n * f + b * columns + columns],
                        )
                        T.sblock_attr(
                            {
                                "handglass.pattern": "recurrence",
                                "handglass.multiply_adds": [T.int64(3 * h * e * f), s],
                            }
                        )
                        advance(
                            Task(heads, share, b, n, x), Operands(state, unit, mixed, gate, out), s
                        )

    return delta_rule
