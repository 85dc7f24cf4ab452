"""Reductions of integers across the lanes of a vector, as one instruction sequence.

The last stage of a sum or a maximum over a group of a row combines the partial results of the
lanes. Of a loop, LLVM makes gathers: lane after lane from the vectors of many groups. Quantizing a
row of 1,536 took 3.5 us that way, of which this saves 1.7 (AVX-512).
"""

from __future__ import annotations

from collections.abc import Mapping

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr, TensorLoad
from tvm.s_tir import SBlockRealize, Schedule

from ..isa.register_tiles import LANES
from ..loops import int64
from ..replace_nest import renamed

REDUCTIONS: Mapping[type, str] = {tirx.Max: "smax", tirx.Add: "add"}
"""The operation of a stage -> LLVM's reduction of a vector."""


def is_across(sch: Schedule, block) -> bool:
    """Whether the block reduces LANES adjacent int32 for each of its places, and nothing else."""
    *_, last = sch.get(block).iter_vars
    value, loaded = _value(sch, block), _loaded(sch, block)
    is_reduction = last.iter_type == tirx.IterVar.CommReduce and type(value) in REDUCTIONS
    if not is_reduction or loaded is None or str(value.ty.dtype) != "int32":
        return False
    extent = last.dom.extent
    whole = isinstance(extent, tirx.IntImm) and int(extent) == LANES
    return whole and loaded.indices[-1].same_as(last.var)


def reduce_across(sch: Schedule, block) -> None:
    """Compute the block with one reduction for each place.

    The end of the block's schedule: no primitive applies to it afterwards.
    """
    *_, place, _ = sch.get_loops(block)
    loop, (realize,) = sch.get(place), _realized(sch.get(place))
    axes = [axis.var for axis in sch.get(block).iter_vars]
    at = [*list(realize.iter_values)[:-1], int64(0)]
    bound = lambda index: [renamed(one, axes, at) for one in index]  # noqa: E731
    partial, total = _loaded(sch, block), sch.get(block).body
    vector = partial.source.vload(bound(partial.indices), f"int32x{LANES}")
    name = f"llvm.vector.reduce.{REDUCTIONS[type(_value(sch, block))]}"
    result = tirx.call_llvm_pure_intrin("int32", name, vector)
    store = tirx.BufferStore(total.buffer, result, bound(total.indices))
    new = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, store)
    sch.state.replace(sch.get_sref(place), new, {})


def _value(sch: Schedule, block) -> Expr | None:
    body = sch.get(block).body
    return body.value if isinstance(body, tirx.BufferStore) else None


def _loaded(sch: Schedule, block) -> TensorLoad | None:
    """The load of a partial result."""
    value = _value(sch, block)
    loaded = value.b if type(value) in REDUCTIONS else None
    return loaded if isinstance(loaded, TensorLoad) else None


def _realized(loop: tirx.For) -> list[SBlockRealize]:
    found: list[SBlockRealize] = []
    tvm_ffi.structural_walk(loop, (SBlockRealize, found.append))
    return found
