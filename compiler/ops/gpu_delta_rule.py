"""The gated delta rule on a GPU: a loop nest for workgroups, position by position.

A schedule may replace it by one over chunks of positions (schedules/gpu/delta_choices.py).
"""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.script import tirx as T
from tvm.target import Target

from handglass.schedules.delta_operands import Operands
from handglass.schedules.gpu.attention_workgroup import Bounds
from handglass.schedules.gpu.delta_nest import write_delta
from handglass.schedules.gpu.delta_share import Share

from .delta_rule import Heads, for_one_position


def delta_writer(heads: Heads) -> tirx.PrimFunc:
    """The same function as `delta_rule.delta_writer`."""
    bounds = Bounds.of(Target.current(allow_none=True))
    return _written(heads, Share.of(heads.key_dim, heads.value_dim, bounds))


def delta_step(heads: Heads) -> tirx.PrimFunc:
    """`delta_writer` for one position."""
    return for_one_position(delta_writer(heads))


@functools.cache  # parsed once for all layers
def _written(heads: Heads, share: Share) -> tirx.PrimFunc:
    h, e, f = heads.values, heads.key_dim, heads.value_dim
    first = 2 * heads.keys * e

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
        write_delta(share, Operands(state, unit, mixed, gate, out))

    return delta_rule
