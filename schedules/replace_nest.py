"""Replacement of hand-written loop nests in a schedule, for choices that change the nest itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import SBlock, SBlockRealize, Schedule
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T


def replace_nests(
    sch: Schedule, gone: Sequence[SBlock], unused: Sequence[tirx.Buffer], built: SBlock
) -> None:
    """Put the children of `built` in place of the blocks `gone`, which alone need `unused`."""
    outer = sch.mod["main"].body.block
    whole = any(block.same_as(outer) for block in gone)
    children = [] if whole else _statements(outer.body)
    kept = [child for child in children if not any(_holds(child, block) for block in gone)]
    given = [] if whole else outer.alloc_buffers
    buffers = [b for b in given if not any(b.same_as(old) for old in unused)]
    body = [*kept, *_statements(built.body)]
    buffers = [*buffers, *built.alloc_buffers]
    inside = tirx.SeqStmt(body) if len(body) > 1 else body[0]
    root = SBlock([], [], [], "root", inside, alloc_buffers=buffers)
    func = sch.mod["main"].with_body(SBlockRealize([], True, root))
    # In place, as the caller holds the schedule. `sch.state.replace` would not do: it leaves the
    # bindings of new blocks marked as not affine, and most primitives then refuse them.
    Schedule.__init__(sch, tvm.IRModule({"main": func}), seed=sch.fork_seed())


def root_of(sources: Sequence[tirx.Buffer], emit: Callable[[], None]) -> SBlock:
    """A root block with the blocks that `emit` writes, over the buffers `sources`.

    A function is built around them, because this completes the regions of inner blocks.
    """
    distinct: list[tirx.Buffer] = []
    for buffer in sources:
        if not any(buffer.same_as(known) for known in distinct):
            distinct.append(buffer)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("attention")
        for number, buffer in enumerate(distinct):
            T.arg(f"{buffer.name}_{number}", buffer)
        emit()
    built = builder.get()
    given = list(zip(built.params, distinct, strict=True))
    assert all(param.same_as(buffer) for param, buffer in given)
    block = built.body.block
    if block.name_hint == "root":
        return block
    return SBlock([], [], [], "root", built.body)  # a single block became the root


def in_scope(sch: Schedule, value: Expr) -> Expr:
    """The value with the variables of the function: those of annotations are copies."""
    known: dict[str, tirx.Var] = {}
    for param in sch.mod["main"].params:
        sizes = param.shape if isinstance(param.ty, tirx.BufferType) else [param]
        known.update({size.name: size for size in sizes if isinstance(size, tirx.Var)})
    return tvm_ffi.structural_map(value, (tirx.Var, lambda var: known[var.name]))


def renamed(value: Expr, old: Sequence[tirx.Var], new: Sequence[Expr]) -> Expr:
    """The value with other variables."""

    def other(var: tirx.Var) -> Expr:
        return next((n for o, n in zip(old, new, strict=True) if var.same_as(o)), var)

    return tvm_ffi.structural_map(value, (tirx.Var, other))


def _statements(stmt: tirx.Stmt) -> list[tirx.Stmt]:
    return list(stmt.seq) if isinstance(stmt, tirx.SeqStmt) else [stmt]


def _holds(stmt: tirx.Stmt, block: SBlock) -> bool:
    found: list[SBlock] = []
    tvm_ffi.structural_walk(stmt, (SBlock, found.append))
    return any(block.same_as(inner) for inner in found)


def with_body(block: SBlock, body: tirx.Stmt) -> SBlock:
    """The block with another body."""
    return SBlock(
        block.iter_vars,
        block.reads,
        block.writes,
        block.name_hint,
        body,
        alloc_buffers=block.alloc_buffers,
        annotations=block.annotations,
    )
