"""Rotations of positions with three axes (T, H, W), as in Qwen2-VL's M-RoPE with interleaved axes.

Each token has a position on every axis. A pair of elements takes its angle from one axis: pairs are
dealt to T, H and W in turn, as many to H and W as their sections have, all others to T. Attention
and the cache read the rotations of a token at its place in the cache, so these are written there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op
from tvm.script import tirx as T

AXES = 3


def place(
    kept: nn.Tensor, table: nn.Tensor, positions: nn.Tensor, pos: tirx.Var, sections: Sequence[int]
) -> nn.Tensor:
    """Write the rotations of s tokens to rows pos..pos + s - 1 of `kept`; returns it.

    `table` has the rotations of every position (rotary.py), `positions` is (s, 3) int32. Both
    tensors of rotations are (context, head_dim) float32.
    """
    context, head_dim = (int(extent) for extent in table.shape)
    func = _writer(context, head_dim, tuple(sections))
    out = nn.Tensor.placeholder(kept.shape, kept.dtype)
    arguments = [kept, positions, table, pos]
    written: nn.Tensor = op.tensor_ir_inplace_op(func, "place_rotations", arguments, [0], out)
    return written


@functools.cache  # parsed once for all layers
def _writer(context: int, head_dim: int, sections: tuple[int, ...]) -> tirx.PrimFunc:
    half, e = head_dim // 2, head_dim
    rows, columns = (AXES * section for section in sections[1:])

    @T.prim_func(private=True, s_tir=True)
    def place_rotations(
        kept: T.Buffer((T.int64(context), T.int64(e)), "float32"),
        positions_handle: T.handle,
        table: T.Buffer((T.int64(context), T.int64(e)), "float32"),
        pos: T.int64,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        positions = T.match_buffer(positions_handle, (s, T.int64(AXES)), "int32")
        for i, c in T.grid(s, T.int64(e)):
            with T.sblock("place_rotations"):
                vi, vc = T.axis.remap("SS", [i, c])
                T.reads(positions[vi, 0:AXES], table[0:context, vc])
                T.writes(kept[pos + vi, vc])
                T.sblock_attr({"handglass.pattern": "scatter"})
                kept[pos + vi, vc] = table[
                    T.Cast(
                        "int64",
                        T.Select(
                            vc % half % AXES == 1 and vc % half < rows,
                            positions[vi, 1],
                            T.Select(
                                vc % half % AXES == 2 and vc % half < columns,
                                positions[vi, 2],
                                positions[vi, 0],
                            ),
                        ),
                    ),
                    vc,
                ]

    return place_rotations
