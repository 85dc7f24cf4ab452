"""The default for operators of imported graphs: convolutions, softmax, batches of products, copies.

Their tensors have up to eight axes, of which the first is often one picture. All outer axes become
one parallel loop. Where a reduction reads consecutive elements along the last axis, that axis is
vectorised inside the reduction; otherwise the reduction is a scalar loop.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule

from ..choices import DEFAULTS, Choices
from ..rule import Rule, blocks, pattern_of
from .elementwise import SERIAL_BELOW, elements, has_bool, lanes_of, vectorize

WIDEST = 16


def graph_default(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule functions without a pattern whose blocks have a loop for each axis."""
    found = blocks(sch)
    if any(pattern_of(sch, block) for block in found):
        return False
    loops = [sch.get_loops(block) for block in found]
    if any(len(ls) != len(sch.get(b).iter_vars) for ls, b in zip(loops, found, strict=True)):
        return False
    for block in found:
        if sch.get_loops(block):
            _schedule(sch, block)
    return True


def _schedule(sch: Schedule, block) -> None:
    spatial, reduced = _split(sch, block)
    if not spatial:
        return
    is_large = elements(sch, [*spatial, *reduced]) >= SERIAL_BELOW
    if not reduced:
        _elementwise(sch, block, spatial, is_large)
    elif not has_bool(sch, block) and _is_along_last(sch, block):
        _reduce_beside(sch, block, spatial, reduced, is_large)
    elif is_large:
        sch.parallel(sch.fuse(*spatial))


def _split(sch: Schedule, block) -> tuple[list, list]:
    """The loops over results, and those over what is reduced, each in their order."""
    pairs = list(zip(sch.get_loops(block), sch.get(block).iter_vars, strict=True))
    kinds = [axis.iter_type == tirx.IterVar.DataPar for _, axis in pairs]
    spatial = [loop for (loop, _), is_data in zip(pairs, kinds, strict=True) if is_data]
    reduced = [loop for (loop, _), is_data in zip(pairs, kinds, strict=True) if not is_data]
    return spatial, reduced


def _elementwise(sch: Schedule, block, spatial: list, is_large: bool) -> None:
    *outer, last = spatial
    is_vector = not has_bool(sch, block)
    if not outer and is_large and is_vector and (lanes := lanes_of(sch, last, WIDEST)):
        task, lane = sch.split(last, [None, lanes])
        sch.vectorize(lane)
        sch.parallel(task)
        return
    if is_vector:
        vectorize(sch, last, WIDEST)
    if outer and is_large:
        sch.parallel(sch.fuse(*outer))


def _reduce_beside(sch: Schedule, block, spatial: list, reduced: list, is_large: bool) -> None:
    """Sum vectors of the last axis: the reduction is outside of the lanes."""
    *outer, last = spatial
    lanes = lanes_of(sch, last, WIDEST)
    last, lane = sch.split(last, [None, lanes or 1])
    sch.reorder(*outer, last, *reduced, lane)
    task = sch.fuse(*outer, last)
    if lanes:
        sch.vectorize(lane)
    if is_large:
        sch.parallel(task)
    start = sch.decompose_reduction(block, reduced[0])
    if lanes:
        sch.vectorize(sch.get_loops(start)[-1])


def _is_along_last(sch: Schedule, block) -> bool:
    """Whether an operand is read at consecutive elements along the last axis of the result."""
    statement = sch.get(block)
    last = [v.var for v in statement.iter_vars if v.iter_type == tirx.IterVar.DataPar][-1]
    written = statement.writes[0].source
    loads: list[TensorLoad] = []
    tvm_ffi.structural_walk(statement.body, (TensorLoad, loads.append))
    return any(_uses(load.indices[-1], last) for load in loads if not load.source.same_as(written))


def _uses(index, var: tirx.Var) -> bool:
    names: list[tirx.Var] = []
    tvm_ffi.structural_walk(index, (tirx.Var, names.append))
    return any(name.same_as(var) for name in names)


RULE = Rule("cpu-graph", graph_default)
