"""Statements: TIR's control flow as structured SPIR-V."""

from __future__ import annotations

from tvm import ir, tirx
from tvm.ir import prim
from tvm.tirx import stmt as S

from .arithmetic import compare
from .calls import leave_loop, next_turn
from .cooperative import declare_matrices
from .kernel import Emit, Kernel
from .memory import declare_array, store
from .opcodes import LOOP_CONTROL_NONE, LOOP_CONTROL_UNROLL, MATRIX_USES, Op, StorageClass
from .threads import launch

ARRAYS = {
    "local": StorageClass.Function,
    "shared": StorageClass.Workgroup,
    "shared.dyn": StorageClass.Workgroup,
}


def sequence(k: Kernel, s: S.SeqStmt) -> None:
    """Emit statements up to a `break` or `continue`; later ones are unreachable."""
    for one in s.seq:
        if k.body.ended:
            return
        k.stmt(one)


def attribute(k: Kernel, s: S.AttrStmt) -> None:
    if s.attr_key == "thread_extent":
        launch(k, s.node, s.value)
    k.stmt(s.body)


def bind(k: Kernel, s: S.Bind) -> None:
    k.bind(s.var, s.value)


def evaluate(k: Kernel, s: S.Evaluate) -> None:
    if not isinstance(s.value, prim.IntImm):
        k.expr(s.value)


def declare(k: Kernel, s: S.DeclBuffer) -> None:
    """An alias of an argument or an array."""
    data = s.data
    if isinstance(data, ir.Call) and str(data.op.name) == "tirx.buffer_data":
        data = data.args[0]
    if data not in k.memory:
        k.fail(f"buffer {s.buffer.name} is a view of {s.data}, not of an argument or array")
    k.memory[s.buffer] = k.memory[data]


def allocate(k: Kernel, s: S.AllocBuffer) -> None:
    scope = str(s.buffer.scope())
    if scope in MATRIX_USES:
        declare_matrices(k, s.buffer)
        return
    if scope not in ARRAYS:
        k.fail(f"buffer {s.buffer.name} has unknown scope {scope}; known: {', '.join(ARRAYS)}")
    k.memory[s.buffer] = declare_array(k, s.buffer, ARRAYS[scope])


def loop(k: Kernel, s: S.For) -> None:
    """head: phi -> test -> body -> next -> head; merge."""
    type, body = k.type_of(s.loop_var), k.body
    low, high = k.expr(s.min), k.expr(s.min + s.extent)
    step = k.expr(s.step) if s.step is not None else k.same(type, 1)
    head, test, inside, next, merge = (k.words.id() for _ in range(5))
    before, (index, following) = body.current, (k.words.id(), k.words.id())
    body.branch(head)
    body.label(head)
    body.do(Op.Phi, k.id_of(type), index, *low, before, following, next)
    k.values[s.loop_var] = (index,)
    unroll = s.kind == tirx.ForKind.UNROLLED
    body.do(Op.LoopMerge, merge, next, LOOP_CONTROL_UNROLL if unroll else LOOP_CONTROL_NONE)
    body.branch(test)
    body.label(test)
    with body.scope():
        (goes_on,) = compare(k, prim.LT, type, (index,), high)
        body.branch_if(goes_on, inside, merge)
        _inside(k, inside, s.body, merge, next)
    body.label(next)
    body.do(Op.IAdd, k.id_of(type), following, index, *step)
    body.branch(head)
    body.label(merge)


def while_loop(k: Kernel, s: S.While) -> None:
    body = k.body
    head, test, inside, next, merge = (k.words.id() for _ in range(5))
    body.branch(head)
    body.label(head)
    body.do(Op.LoopMerge, merge, next, LOOP_CONTROL_NONE)
    body.branch(test)
    body.label(test)
    with body.scope():
        body.branch_if(k.scalar(s.condition), inside, merge)
        _inside(k, inside, s.body, merge, next)
    body.label(next)
    body.branch(head)
    body.label(merge)


def _inside(k: Kernel, block: int, stmt: S.Stmt, merge: int, next: int) -> None:
    """The body of a loop; `break` branches to `merge`, `continue` to `next`."""
    k.body.label(block)
    k.loops.append((merge, next))
    k.stmt(stmt)
    k.loops.pop()
    k.body.branch(next)


def condition(k: Kernel, s: S.IfThenElse) -> None:
    chosen = k.scalar(s.condition)
    then, otherwise, merge = k.words.id(), k.words.id(), k.words.id()
    k.body.select(chosen, then, otherwise if s.else_case is not None else merge, merge)
    _block(k, then, s.then_case, merge)
    if s.else_case is not None:
        _block(k, otherwise, s.else_case, merge)
    k.body.label(merge)


def _block(k: Kernel, block: int, stmt: S.Stmt, merge: int) -> None:
    k.body.label(block)
    with k.body.scope():
        k.stmt(stmt)
    k.body.branch(merge)


STATEMENTS: dict[type, Emit] = {
    S.SeqStmt: sequence,
    S.AttrStmt: attribute,
    S.Bind: bind,
    S.Evaluate: evaluate,
    S.DeclBuffer: declare,
    S.AllocBuffer: allocate,
    S.BufferStore: store,
    S.For: loop,
    S.While: while_loop,
    S.IfThenElse: condition,
    S.Break: leave_loop,
    S.Continue: next_turn,
}
