"""What a nest of another shape needs to know about the operator's attention nest on a GPU.

Operands are read off the nest itself: the expressions that load a query, a key and a value, with
the variables of the nest replaced by those of an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import DataType, tirx
from tvm.ir import Expr, TensorLoad
from tvm.s_tir import SBlock, Schedule
from tvm.sym import Analyzer

from ..isa.register_tiles import LANES
from ..loops import int64
from ..replace_nest import in_scope, renamed
from ..rule import MULTIPLY_ADDS, SEEN, find
from .attention_buffers import Operands
from .attention_rows import Read, Rows
from .attention_steps import query_place
from .attention_thread import Thread
from .attention_workgroup import Workgroup


@dataclass(frozen=True)
class Found:
    """The blocks of an operator and their sizes."""

    nest: SBlock
    """The block "attention"; its annotations give the work."""
    task: SBlock
    merge: SBlock | None
    """The block "merge" if the positions are split."""
    merging: SBlock | None
    shape: Workgroup
    splits: int

    @property
    def heads(self) -> int:
        return int(self.task.iter_vars[0].dom.extent)

    @property
    def partial(self) -> Sequence[tirx.Buffer]:
        """Results of the workgroups that split the positions."""
        return [region.source for region in self.task.writes] if self.merge else []

    @property
    def out(self) -> tirx.Buffer:
        return (self.merging or self.task).writes[0].source

    @property
    def kept(self) -> str:
        """The type of the stored keys."""
        return _stored(self, "load_key").source.dtype


def find_nest(sch: Schedule) -> Found:
    """The operator's nest in an unscheduled function."""
    (nest,) = find(sch, "attention")
    merges = find(sch, "merge")
    task = sch.get(sch.get_sblock("task"))
    return Found(
        sch.get(nest),
        task,
        sch.get(merges[0]) if merges else None,
        sch.get(sch.get_sblock("merging")) if merges else None,
        _shape(task),
        int(task.iter_vars[2].dom.extent),
    )


def _shape(task: SBlock) -> Workgroup:
    query, score, _, _, _, sums, *_ = task.alloc_buffers
    d, wide = int(query.shape[0]), int(sums.shape[1])
    threads, columns = int(task.iter_vars[1].dom.extent), d // wide
    tile = int(query.shape[1]) * DataType(query.dtype).lanes
    return Workgroup(tile, columns, threads // columns, int(score.shape[0]), d)


def operands_of(sch: Schedule, found: Found) -> Operands:
    """The arguments of the nest, without outputs. Raises ValueError if it is not the operator's."""
    keys = _stored(found, "load_key").source
    scales = _scales(found.task) if keys.dtype == "int8" else ()
    return Operands(_rows(sch, found), _query(found), keys, _value(found), scales, ())


def _rows(sch: Schedule, found: Found) -> Rows:
    factors, seen = found.nest.annotations[MULTIPLY_ADDS], found.nest.annotations[SEEN]
    queries = int64(found.out.shape[0])
    last, both = in_scope(sch, seen[0]), in_scope(sch, factors[2])
    simplify, equal = Analyzer().simplify, Analyzer().can_prove_equal
    first = simplify(both - last)
    group = int(found.out.shape[1]) // (found.heads * found.shape.d)
    rows = lambda step: Rows(queries, group, found.shape.d, lambda i: first + step * i)  # noqa: E731
    if equal(first, last):
        return rows(0)
    if equal(last - first, queries - 1):
        return rows(1)
    raise ValueError(f"attention with limits from {first} to {last} for {queries} queries")


def _query(found: Found) -> Read:
    """(kv head, row, column) -> element of the query."""
    shape, (head, number, _, tile) = found.shape, (axis.var for axis in found.task.iter_vars)
    loop = found.task.body.seq[0]
    value = _store_in(loop).value
    i = Thread(shape, number).place(loop.loop_var)
    row, column = query_place(shape, tile * shape.tile, i)
    first = value.vectors[0] if isinstance(value, tirx.Shuffle) else value
    return _function(first, (head, row, column), found.task)


def _value(found: Found) -> Read:
    """(kv head, position, column) -> stored value."""
    block, shape = _inner(found, "load_mix"), found.shape
    head, number, *_ = (axis.var for axis in found.task.iter_vars)
    loaded = _stored(found, "load_mix")
    limited: list[tirx.Min] = []
    tvm_ffi.structural_walk(loaded, (tirx.Min, limited.append), order="pre")
    column = Thread(shape, number).column(block.iter_vars[1].var)
    return _function(loaded, (head, limited[0], column), found.task)


def _function(value: Expr, index: Sequence[Expr], task: SBlock) -> Read:
    """`value` as a function of the expressions `index` that occur in it."""
    new = [tirx.Var(f"i{number}", "int64") for number in range(len(index))]

    def other(part: Expr) -> Expr:
        same = (n for n, old in zip(new, index, strict=True) if _same(part, old))
        return next(same, part)

    general = tvm_ffi.structural_map(value, (Expr, other))
    used: list[tirx.Var] = []
    tvm_ffi.structural_walk(general, (tirx.Var, used.append))
    if any(var.same_as(axis.var) for var in used for axis in task.iter_vars):
        raise ValueError(f"attention reads an operand as {value}, which is not understood")
    return lambda *place: renamed(general, new, place)


def _same(part: Expr, old: Expr) -> bool:
    return type(part) is type(old) and tvm_ffi.structural_equal(part, old)


def _scales(task: SBlock) -> tuple[tirx.Buffer, ...]:
    """Those of the keys, which are read first, and of the values."""
    scales: list[tirx.Buffer] = []

    def note(load: TensorLoad) -> None:
        buffer = load.source
        is_scale = len(buffer.shape) == 3 and int(buffer.shape[2]) == LANES
        if is_scale and buffer.dtype == "float32" and not any(map(buffer.same_as, scales)):
            scales.append(buffer)

    tvm_ffi.structural_walk(task.body, (TensorLoad, note))
    return tuple(scales)


def _inner(found: Found, name: str) -> SBlock:
    blocks: list[SBlock] = []
    tvm_ffi.structural_walk(found.task.body, (SBlock, blocks.append))
    return next(block for block in blocks if block.name_hint == name)


def _stored(found: Found, name: str) -> Expr:
    """What the block of this name reads, before its conversion to float32."""
    value = _store_in(_inner(found, name)).value
    return value.value if isinstance(value, tirx.Cast) else value


def _store_in(stmt: tirx.Stmt | SBlock) -> tirx.BufferStore:
    stores: list[tirx.BufferStore] = []
    tvm_ffi.structural_walk(stmt, (tirx.BufferStore, stores.append))
    return stores[0]
